"""A model's chat template → the text around messages, and where they go. Anybody may have written the template.

It runs in jinja's sandbox as transformers sets it up, here for a limited time and with limited memory.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

Role = Literal["system", "user", "assistant"]

# A text never passes through the template, so that nothing in it can be taken for markup; a mark does, and has what
# a template might change: case, markup, quotes, newlines, length. Only the white space at its ends may go, as it then
# goes from the text; a mark changed otherwise is not found again.
_LEAD, _TRAIL = " \t\n \n", "\n \n\t "
_PROBE = " Aa \n\n&<p>\"'\\{{ x }}{% y %} %s "
_HEAD, _TAIL = f"\ue000{_PROBE}", f"{_PROBE}{'x' * 5000}\ue000"
_MARK = re.compile(f"({_LEAD})?{re.escape(_HEAD)}(\\d{{1,9}}){re.escape(_TAIL)}({_TRAIL})?")
_SECONDS = 5.0
_BYTES = 1 << 30
_LONGEST = 1_000_000  # characters around the messages
_LIMITING = threading.Lock()  # a limit of memory is the whole process's


class BadTemplate(Exception):
    """A template that is damaged, takes too much, refuses the messages, changes them or leaves one out."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the text of a message goes, by its number, and which of its ends the template strips."""

    index: int
    strips_start: bool
    strips_end: bool

    def fit(self, text: str) -> str:
        """Return a text as the template would show it."""
        text = text.lstrip() if self.strips_start else text
        return text.rstrip() if self.strips_end else text


def mark(index: int) -> str:
    """Return what stands for the text of message `index` while a template renders."""
    return f"{_LEAD}{_HEAD}{index}{_TAIL}{_TRAIL}"


def render(
    source: str, messages: list[dict[str, Any]], roles: Sequence[Role], names: dict[str, str]
) -> list[str | Slot]:
    """Render a chat template, ready for the answer.

    Args:
        source: the template.
        messages: their contents are made of marks.
        roles: who says the text of each mark, by its index.
        names: what else the template may name, such as `bos_token`.

    Raises:
        BadTemplate: see there.
    """
    # Before the limits: importing takes time and memory.
    from transformers.utils import chat_template_utils

    render_template: Any = chat_template_utils.render_jinja_template
    try:
        with _limited():
            (text,), _ = render_template(
                conversations=[messages],
                chat_template=source,
                add_generation_prompt=True,
                enable_thinking=False,
                **names,
            )
    except Exception as error:  # a template can raise anything that Python can
        raise BadTemplate((str(error).strip() or type(error).__name__).splitlines()[0]) from error
    # A mark is some thousand characters long; looking for them in far more than they can make takes too long.
    most = _LONGEST + 2 * len(roles) * len(mark(len(roles)))
    parts = split(text) if len(text) <= most else [text]
    if sum(len(part) for part in parts if isinstance(part, str)) > _LONGEST:
        raise BadTemplate(f"it makes more than {_LONGEST:,} characters")
    shown = {part.index for part in parts if isinstance(part, Slot)}
    if absent := [role for index, role in enumerate(roles) if index not in shown]:
        raise BadTemplate(f"it changes the {absent[0]} message, or leaves it out")
    return parts


def split(text: str) -> list[str | Slot]:
    """Return a text's parts, with slots for marks."""
    lead, index, trail = 1, 2, 3
    parts: list[str | Slot] = []
    end = 0
    for match in _MARK.finditer(text):
        parts += [text[end : match.start()], Slot(int(match[index]), not match[lead], not match[trail])]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Give this thread's Python code a few seconds, and the process a little more memory than it has.

    A single operation cannot be interrupted: what it may take is bounded by the memory that it needs.
    """
    deadline = time.monotonic() + _SECONDS

    def trace(_frame: FrameType, _event: str, _argument: object) -> Any:
        if time.monotonic() > deadline:
            raise TimeoutError(f"it takes more than {_SECONDS:g} seconds")
        return trace

    before = sys.gettrace()
    with _LIMITING, _limited_memory():
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [limit for limit in (soft, hard, used + _BYTES) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    except (ImportError, OSError, ValueError):  # not Linux: the template gets what the process can get
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
