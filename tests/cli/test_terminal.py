"""What a person at a terminal sees: the bar, lines kept out of its way, and nothing that escapes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pexpect
import pytest
from support.places import ROOT

CSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def screen(data: bytes) -> list[str]:
    """Return the lines that a terminal shows after `data`: enough of one for cursor up, erase line and return."""
    lines, row = [""], 0
    position = 0
    while position < len(data):
        if match := CSI.match(data, position):
            code = match[0]
            if code.endswith(b"A"):
                row -= int(code[2:-1] or 1)
            elif code.endswith(b"K"):
                lines[row] = ""
            position = match.end()
            continue
        byte = data[position : position + 1]
        position += 1
        if byte == b"\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif byte != b"\r":
            lines[row] += byte.decode("latin-1")
    return [line for line in lines if line.strip()]


def spawn(*arguments: str, **environment: str) -> pexpect.spawn:
    import os

    variables = {**os.environ, "TERM": "xterm-256color", **environment}
    command = ["-m", "llmpar", *arguments]
    return pexpect.spawn(sys.executable, command, env=variables, dimensions=(40, 110), timeout=60)


def finish(child: pexpect.spawn) -> bytes:
    child.expect(pexpect.EOF)
    child.close()
    output: bytes = child.before
    return output


@pytest.fixture
def job(tiny_model: Path) -> list[str]:
    sample = str(ROOT / "sample_data" / "messages.txt")
    return [
        "run",
        "x",
        "-u",
        "line",
        "--model",
        str(tiny_model),
        "--max-new-tokens",
        "12",  # three of this model may be half a character
        "--precision",
        "fp32",
        sample,
    ]


def test_the_bar_comes_goes_and_leaves_the_document_and_the_summary(job: list[str]) -> None:
    child = spawn(*job, "-j", "2")
    output = finish(child)
    assert child.exitstatus == 0
    assert b"worker 1" in output
    assert "\u2501".encode() in output
    lines = screen(output)
    assert not any("worker" in line for line in lines), "the bar was left behind"
    assert lines[-1].startswith("llmpar run: 120 pieces")
    assert len(lines) > 110, "the bar erased lines of the document"


def test_an_interrupt_is_told_and_the_bar_erased(tiny_model: Path, tmp_path: Path) -> None:
    story = str(ROOT / "sample_data" / "story.txt")
    target = str(tmp_path / "out")
    child = spawn("run", "x", "--model", str(tiny_model), "--max-new-tokens", "400", "-j", "1", "-o", target, story)
    child.expect(b"worker 0")
    begun = child.before + child.after
    child.sendintr()
    lines = screen(begun + finish(child))
    assert child.exitstatus == 130
    told = next(line for line in lines if line.startswith("llmpar run: interrupted"))
    assert re.fullmatch(r"llmpar run: interrupted by SIGINT after \d+ pieces?; .*out is untouched", told)
    assert list(tmp_path.iterdir()) == []


def test_escape_sequences_are_made_visible() -> None:
    output = finish(
        spawn("run", "--engine", "echo", "x", "--progress", "none", str(ROOT / "sample_data" / "hostile.txt"))
    )
    assert b"\x1b" not in output
    assert b"^[[1;31mred" in output
    assert b"<U+202E>" in output


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_dumb_terminals_and_no_color_are_honoured(job: list[str], variables: dict[str, str]) -> None:
    output = finish(spawn(*job, "-q", **variables))
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", output), "a colour was used"
    if variables.get("TERM") == "dumb":
        assert b"\x1b" not in output


def test_no_bar_beside_a_pipe() -> None:
    command = f"printf 'One.\\n\\nTwo.' | {sys.executable} -m llmpar run --engine echo x -q | cat"
    child = pexpect.spawn("bash", ["-c", command], timeout=60)
    assert finish(child) == b"One.\r\n\r\nTwo."


def test_a_dry_run_is_seen() -> None:
    output = finish(spawn("run", "--engine", "echo", "x", "--dry-run", str(ROOT / "sample_data" / "german.txt")))
    told = [line.split() for line in screen(output)]
    assert told == [["documents", "1"], ["pieces", "(sentences)", "36"]]


def test_a_named_terminal_is_one() -> None:
    output = finish(
        spawn("run", "--engine", "echo", "x", "-q", "-o", "/dev/tty", str(ROOT / "sample_data" / "hostile.txt"))
    )
    lines = screen(output)
    assert any("^[[1;31mred" in line for line in lines)
    assert len(lines) > 90


def test_nothing_to_read_prints_help() -> None:
    child = spawn("summarize")
    output = finish(child)
    assert child.exitstatus == 2
    assert b"Usage: llmpar summarize" in CSI.sub(b"", output)
