"""A model's chat template → the text around messages, and where they go. Anybody may have written the template.

It runs in jinja's sandbox as transformers sets it up, here in a process of its own (`models.rendering`), for a limited
time and with limited memory.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpar.messages import Role

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
    source: str, messages: list[dict[str, Any]], roles: Sequence[Role], names: Mapping[str, Any]
) -> list[str | Slot]:
    """Render a chat template, ready for the answer.

    Args:
        source: the template.
        messages: their contents are made of marks.
        roles: who says the text of each mark, by its index.
        names: what else the template may name, such as `bos_token` and switches.

    Raises:
        BadTemplate: see there.
    """
    # A mark is some thousand characters long; looking for them in far more than they can make takes too long.
    most = _LONGEST + 2 * len(roles) * len(mark(len(roles)))
    given: dict[str, Any] = {**names, "messages": messages, "tools": None, "documents": None}
    given["add_generation_prompt"] = True
    try:
        answer = _renderer.render({"source": source, "given": given, "most": most, "bytes": _BYTES})
    except (OSError, RecursionError) as error:
        raise BadTemplate(f"the process that renders it cannot be started: {error}") from error
    if "error" in answer:
        raise BadTemplate(answer["error"])
    parts = split(answer["text"] or "")
    if answer["text"] is None or sum(len(part) for part in parts if isinstance(part, str)) > _LONGEST:
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


class _Renderer:
    """A process that renders templates, one at a time, started when there is one to render."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return what the process answers to a template.

        Raises:
            BadTemplate: it takes more time than it may, or ends the process.
            OSError: the process cannot be started.
        """
        line = json.dumps(job).encode() + b"\n"
        with self._lock:
            try:
                # A process that waited for long may have ended just now, of its own accord.
                answer = self._ask(line) or self._ask(line)
            except BaseException:
                self.close()  # what it says next would be taken for the answer to something else
                raise
            if not answer:
                self.close()
                raise BadTemplate("it ended the process that rendered it")
            return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            self._process = None

    def _ask(self, line: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._started()
        process, is_late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(_SECONDS, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(line)
                process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            timer.cancel()
        if is_late.is_set():
            raise BadTemplate(f"it takes more than {_SECONDS:g} seconds")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("rendering.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # signals of the terminal are not for it
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps([str(Path(place).absolute()) for place in sys.path]).encode() + b"\n")
        process.stdin.flush()
        return process


_renderer = _Renderer()
atexit.register(_renderer.close)
