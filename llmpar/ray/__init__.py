"""llmpar as a stage of Ray Data, for pipelines whose texts are on a cluster already.

    import llmpar.ray

    ds.map_batches(
        llmpar.ray.Answer,
        fn_constructor_kwargs={"prompt": "Which product is this about? {text}", "text": "review"},
        num_cpus=8,
        concurrency=4,
    )

Each of the actors opens the model for itself, and answers a batch at a time. To spread one command over a cluster, give
it `--ray`, or `llmpar.ModelChoice(ray="auto")` from Python.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmpar.answering.attempts import Policy
from llmpar.answering.choice import ModelChoice
from llmpar.errors import UsageError
from llmpar.interface import DEFAULT_MODEL, DEFAULT_POLICY, DEFAULT_SAMPLING, Asker, task_of
from llmpar.tasks.question import Sampling


class Answer:
    """Asks the same about a column of each batch, and adds columns with answers and errors.

    Args:
        prompt: what to ask; `{text}` in it stands for the text, which otherwise follows it.
        text: the column that is asked about.
        answer: the column that answers go into; "" where there is none.
        error: the column that says why there is none; "" where there is one.
        model: a name, directory, GGUF file or hub name, or all that can be said of it. It takes as many threads as the
            actor was given CPUs, unless it says how many.
        store: where answers are kept, on the node's own disk; False for nowhere, as actors come and go.
        sampling: how answers are drawn.
        policy: which of them will do.
        asked: `task`, `values`, `system`, `choices` and `schema`; see `llmpar.run`.

    Raises:
        UsageError: what is asked cannot be meant.
    """

    def __init__(
        self,
        prompt: str | None = None,
        *,
        text: str = "text",
        answer: str = "answer",
        error: str = "error",
        model: str | Path | ModelChoice = DEFAULT_MODEL,
        store: bool | str | Path = False,
        sampling: Sampling = DEFAULT_SAMPLING,
        policy: Policy = DEFAULT_POLICY,
        **asked: Any,
    ) -> None:
        self._text = text
        self._columns = answer, error
        choice = model if isinstance(model, ModelChoice) else ModelChoice(str(model))
        if choice.threads is None and choice.device in ("auto", "cpu"):
            choice = replace(choice, threads=_num_cpus())
        self._asker = Asker(task_of(prompt, **asked), choice, sampling, policy, store)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with the columns of answers and errors.

        Args:
            batch: columns by their names, as Ray Data gives them with batch_format="numpy", its usual one.

        Raises:
            UsageError: it is of another format, or has no such column.
            ModelUnavailable: the model is not to be had.
            EngineFailed: the engine died.
        """
        if not isinstance(batch, Mapping):
            raise UsageError(f"a batch is a {type(batch).__name__}, and no dict of columns; take batch_format='numpy'")
        if self._text not in batch:
            raise UsageError(f"text={self._text!r}: there is no such column; there are {', '.join(map(str, batch))}")
        # NumPy has strings of its own, which are str; so are those of its arrays of objects.
        results = self._asker.ask(batch[self._text])
        answers, errors = self._columns
        return {
            **batch,
            answers: [result.answer or "" for result in results],
            errors: [result.error or "" for result in results],
        }


def _num_cpus() -> int | None:
    """Return how many CPUs this actor was given; None where nobody gave any, as outside of Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    given = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    return max(1, int(given)) if given else None
