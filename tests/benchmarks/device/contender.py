"""One engine in a process of its own: load, warm up, do the job so many times. `python -m device.contender SPEC`.

SPEC is a `Spec` as JSON. It prints one JSON object a line, each with the `at` of `time.monotonic()`, which on Linux all
processes share: {"event": "loaded", "settings": …}, then for each job {"event": "job", "started": …, "first": …,
"last": …, "tokens": …, "outputs": …}, and {"event": "done", "memory": …}.
"""

from __future__ import annotations

import json
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device.tensor import open_tensor
from device.workload import Workload, make_even_workload, make_workload

if TYPE_CHECKING:
    from llmpar.engine.engine import Engine

Finished = Callable[[int, list[int]], None]
_TOGETHER = 256  # prompts that a backend is told of at a time
UNKNOWN = -1
"""A token that is known of by its text alone."""

Answer = Callable[[Workload, Finished], None]
"""Answers all of a workload, and tells of each answer as soon as there is one."""


@dataclass(frozen=True)
class Spec:
    """What is run; `jobs` are the numbers of requests, one a job.

    `engine` is "llmpar", "text" (llmpar's backend, where a text may end by itself), "tensor" (llmpar's engine over a
    model that is in no file), "generate" or "continuous".

    `even` is how many tokens every answer has; 0 for the usual workload. `options` are the engine's own.
    """

    engine: str
    model: str
    device: str
    precision: str
    vocabulary: int
    jobs: list[int]
    options: dict[str, Any]
    even: int = 0
    with_outputs: bool = False

    def workload(self, index: int) -> Workload:
        """Return a job's requests: other ones for each job, with the common beginning alike."""
        return _workload(self.jobs[index], self.vocabulary, index, self.even)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


@cache
def _workload(count: int, vocabulary: int, seed: int, even: int) -> Workload:
    # Kept: drawing a large one takes a second, and each is asked for several times.
    return make_even_workload(count, vocabulary, seed, even) if even else make_workload(count, vocabulary, seed)


def main() -> int:
    # Libraries print to stdout as they like; the reports keep the real one for themselves.
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = Spec(**json.loads(sys.argv[1]))

    def report(event: str, **fields: object) -> None:
        reports.write(json.dumps({"event": event, "at": time.monotonic(), **fields}) + "\n")
        reports.flush()

    with ENGINES[spec.engine](spec) as (answer, settings):
        report("loaded", settings=settings)
        for index in range(len(spec.jobs)):
            is_right = operator.le if spec.engine == "text" else operator.eq
            report("job", **_timed(answer, spec.workload(index), spec.with_outputs, is_right))
        report("done", memory=_memory(spec.device))
    return 0


def _timed(
    answer: Answer, workload: Workload, with_outputs: bool, is_right: Callable[[int, int], bool]
) -> dict[str, object]:
    outputs: dict[int, list[int]] = {}
    times: list[float] = []

    def finished(index: int, ids: list[int]) -> None:
        times.append(time.monotonic())
        outputs[index] = ids

    started = time.monotonic()
    answer(workload, finished)
    lengths = [len(outputs.get(index, ())) for index in range(len(workload.limits))]
    wrong = [index for index, limit in enumerate(workload.limits) if not is_right(lengths[index], limit)]
    if wrong:
        first = wrong[0]
        sys.exit(
            f"{len(wrong)} of {len(workload.limits)} answers are not as long as asked: number {first} has "
            f"{len(outputs.get(first, ()))} tokens instead of {workload.limits[first]}"
        )
    return {
        "started": started,
        "first": times[0],
        "last": times[-1],
        "requests": len(outputs),
        "tokens": sum(lengths),
        "outputs": [outputs[index] for index in range(len(outputs))] if with_outputs else None,
    }


@contextmanager
def _llmpar(spec: Spec) -> Iterator[tuple[Answer, str]]:
    """Open llmpar's engine. Options: threads (0 for auto), batch_size, kv_cache, held (to so many bytes of a GPU)."""
    from peers.llmpar import open_engine
    from peers.protocol import Setup

    remarks: list[str] = []
    options = {
        "device": spec.device,
        "precision": spec.precision,
        "threads": spec.options.get("threads", 0),
        "batch_size": spec.options.get("batch_size", 0),
        "kv_cache": spec.options.get("kv_cache", "auto"),
    }
    held = _hold(spec.options["held"]) if "held" in spec.options else None
    prefix_ids = spec.workload(0).prefix_ids
    setup = Setup(spec.model, prefix_ids, [], max(spec.workload(0).limits), os.cpu_count() or 1, options)
    with open_engine(setup, remarks) as engine:
        yield answering(engine), "; ".join(remarks)
    del held


def _hold(num_bytes: int) -> Any:
    """Take all of the GPU's memory but so much, what CUDA itself takes in this process included."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return torch.empty(max(0, free - (num_bytes - (total - free))), dtype=torch.uint8, device="cuda")


def answering(engine: Engine) -> Answer:
    """Return what lets an engine answer."""
    from llmpar.engine.request import Request, SamplingParams

    def answer(workload: Workload, finished: Finished) -> None:
        for index, (prompt, limit) in enumerate(zip(workload.prompts, workload.limits, strict=True)):
            engine.submit(Request(index, prompt, SamplingParams(limit)))
        for _ in workload.prompts:
            completion = engine.collect()
            assert completion is not None
            if completion.error is not None:
                raise RuntimeError(completion.error)
            finished(completion.id, list(completion.output_ids))

    return answer


@contextmanager
def _text(spec: Spec) -> Iterator[tuple[Answer, str]]:
    """Open llmpar's backend, which takes texts and returns texts. Options: counts (asks how long each prompt is)."""
    from llmpar.answering.backend import Query
    from llmpar.answering.choice import ModelChoice
    from llmpar.answering.model import LocalModel
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.tasks.question import Prompt, Sampling

    class Remarks(list[str]):
        def doing(self, what: str) -> None: ...
        def watch(self, statuses: object) -> None: ...

        def remark(self, message: str) -> None:
            self.append(message)

        warn = remark

    tokenizer = ChatTokenizer(Path(spec.model))

    def prompts(workload: Workload) -> list[Prompt]:
        texts = tokenizer.decode_all(workload.prompts)
        return [Prompt((("user", text),), text) for text in texts]

    # Texts are made beforehand: it is the backend that is timed.
    asked = {str(work.prompts[0]): prompts(work) for work in map(spec.workload, range(len(spec.jobs)))}
    remarks = Remarks()
    choice = ModelChoice(spec.model, device=spec.device, precision=spec.precision, offline=True)  # type: ignore[arg-type]
    backend = LocalModel(choice, remarks).open(asked[str(spec.workload(0).prompts[0])][:4])
    sampling = Sampling(max_repeats=0)

    def answer(workload: Workload, finished: Finished) -> None:
        prompts = asked[str(workload.prompts[0])]
        for index, (prompt, limit) in enumerate(zip(prompts, workload.limits, strict=True)):
            if index % _TOGETHER == 0:  # as whoever asks questions does
                backend.foresee(prompts[index : index + _TOGETHER], [])
            if spec.options.get("counts"):
                backend.count_tokens(prompt)
            backend.submit(Query(index, prompt, sampling, limit))
        for _ in workload.prompts:
            reply = backend.collect(600)
            assert reply is not None
            if reply.error is not None:
                raise RuntimeError(reply.error)
            backend.confirm()
            finished(reply.id, [UNKNOWN] * reply.num_output_tokens)

    yield answer, "; ".join(remarks)
    backend.close()


@contextmanager
def _generate(spec: Spec) -> Iterator[tuple[Answer, str]]:
    """Open transformers' `generate`: prompts sorted by length, padded on the left, each batch to its longest answer.

    Options: batch_size, alike (True for batches of prompts of one length alone, where nothing is padded).
    """
    import torch

    model = load_causal(spec)
    size = spec.options["batch_size"]

    def run(workload: Workload, batch: list[int]) -> list[list[int]]:
        prompts = [workload.prompts[index] for index in batch]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
        mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device
        )
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max(workload.limits[index] for index in batch),
            do_sample=False,
            pad_token_id=0,
        )
        rows: list[list[int]] = output[:, longest:].tolist()
        return [row[: workload.limits[index]] for index, row in zip(batch, rows, strict=True)]

    def answer(workload: Workload, finished: Finished) -> None:
        order = sorted(range(len(workload.prompts)), key=lambda index: len(workload.prompts[index]))
        while order:
            batch = order[:size]
            if spec.options.get("alike"):
                length = len(workload.prompts[batch[0]])
                batch = [index for index in batch if len(workload.prompts[index]) == length]
            order = order[len(batch) :]
            for index, ids in zip(batch, run(workload, batch), strict=True):
                finished(index, ids)

    with torch.inference_mode():
        yield answer, f"batches of {size}, {model.config._attn_implementation}"


@contextmanager
def _continuous(spec: Spec) -> Iterator[tuple[Answer, str]]:
    """Open transformers' continuous batching. Options: graphs (None for its own choice), block_size."""
    import transformers

    model = load_causal(spec)
    config = transformers.ContinuousBatchingConfig(
        use_cuda_graph=spec.options.get("graphs"),
        block_size=spec.options["block_size"],
        # On a CPU, where this is only tried, its own choice would be most of the memory.
        **({"num_blocks": 256, "max_batch_tokens": 512} if spec.device == "cpu" else {"max_memory_percent": 0.8}),
    )
    generation = transformers.GenerationConfig(do_sample=False, max_new_tokens=max(spec.workload(0).limits))
    with model.continuous_batching_context_manager(
        generation_config=generation, continuous_batching_config=config, block=True, timeout=10
    ) as manager:

        def answer(workload: Workload, finished: Finished) -> None:
            numbers: dict[str, int] = {}
            # In the order of their ids, as its own `generate_batch` does, for the shared blocks.
            for index in sorted(range(len(workload.prompts)), key=lambda index: workload.prompts[index]):
                name = manager.add_request(
                    workload.prompts[index], max_new_tokens=workload.limits[index], eos_token_id=-1
                )
                numbers[name] = index
            while numbers:
                result = manager.get_result(timeout=1)
                if result is None:
                    if not manager.is_running():
                        raise RuntimeError("continuous batching ended before its requests")
                elif result.error is not None:
                    raise RuntimeError(result.error)
                elif result.is_finished():
                    finished(numbers.pop(result.request_id), list(result.generated_tokens))

        yield answer, f"{model.config._attn_implementation}, blocks of {config.block_size}"


def load_causal(spec: Spec, dtype: str | None = None) -> Any:
    """Return transformers' own model, whose answers nothing ends, in `dtype` or else the spec's precision."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        spec.model,
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype or spec.precision],
        local_files_only=True,
        attn_implementation="sdpa",
    )
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    return model.eval().requires_grad_(False).to(spec.device)


def _memory(device: str) -> int:
    """Return the bytes taken on all devices, or at the process's peak on a CPU; what caches hold is taken."""
    if device == "cpu":
        from harness.processes import peak_memory

        return peak_memory(os.getpid())
    import torch

    taken = 0
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        taken += total - free
    return taken


ENGINES = {"llmpar": _llmpar, "text": _text, "tensor": open_tensor, "generate": _generate, "continuous": _continuous}

if __name__ == "__main__":
    sys.exit(main())
