"""What goes wrong with a request: one that is answered with an error, and a line that is none."""

from __future__ import annotations

from dataclasses import dataclass

from llmpar.errors import InputError


class MalformedLine(InputError):
    """A line that nobody can answer, as it is no JSON object or has no `custom_id`. Where it is, the caller knows."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer.

    Args:
        custom_id: the request's.
        digest: the request's.
        message: names the field and the remedy.
        code: a word for programs, as OpenAI has them: `unsupported_parameter`, `context_length_exceeded`, …
        param: the field at fault, such as `messages[0].content`.
        status: as HTTP has it: 400 for what the request asks, 404 for a model that is not there, 500 for our fault.
    """

    custom_id: str
    digest: str
    message: str
    code: str
    param: str | None = None
    status: int = 400


class BadRequest(Exception):
    """A request that cannot be answered as it is meant. The others in its file can."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
