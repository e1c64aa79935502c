"""llmpar: the batch tool for local language models.

From Python: `run`, `translate`, `summarize`, `ask`, `split`; see `llmpar.interface`. They are imported when they are
first used, so that importing llmpar takes no time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name that type checkers know; to import it takes longer than all of this
if TYPE_CHECKING:
    from llmpar.answering.attempts import Policy as Policy
    from llmpar.answering.choice import ModelChoice as ModelChoice
    from llmpar.documents.document import Result as Result
    from llmpar.interface import Answer as Answer
    from llmpar.interface import ask as ask
    from llmpar.interface import run as run
    from llmpar.interface import split as split
    from llmpar.interface import summarize as summarize
    from llmpar.interface import translate as translate
    from llmpar.tasks.question import Sampling as Sampling

__version__ = "0.1.0"

_PLACES = {
    "Answer": "interface",
    "ModelChoice": "answering.choice",
    "Policy": "answering.attempts",
    "Result": "documents.document",
    "Sampling": "tasks.question",
    "ask": "interface",
    "run": "interface",
    "split": "interface",
    "summarize": "interface",
    "translate": "interface",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module 'llmpar' has no attribute {name!r}")
    return getattr(import_module(f"llmpar.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
