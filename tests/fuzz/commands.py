"""Target: the command line in this process, with odd names, right and wrong options in any order."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from fuzz.corpus import mutated_bytes, mutated_text

_CODES = {0, 2, 3, 65, 66, 69, 73, 74, 75, 124}
_NAMES = [
    "a.txt", "b.md", " ", "a b", "a\nb.md", "-o", "--help", "-", "--", "...", ".md", "~", "*", "$(id)",
    "%s%n", "{text}", "a\tb", "\x1b[31mred", "\x1b]0;t\x07", "\u202etxt.exe", "\udcff\udcfe.txt",
    "a\udc80.md", "é", "e\u0301", "中文。md", "x" * 240, "[bold]x", "[red]", "\\[x]", "'", '"', "a;b", "CON",
    "\r", "\x7f", "\u2028", "a\x85b", "🇩🇪", "\u200b",
]  # fmt: skip
_WRONG = [
    "",
    "x",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    "-inf",
    "1e-9",
    "9" * 30,
    "٣",
    "½",
    "\udcff",
    "\x1b[31m",
    "a=b",
    "-",
]
_VALUES = {
    "--unit": ["sentence", "paragraph", "line", "document"],
    "--language": ["auto", "german", "FR", "zh"],
    "--input-format": ["auto", "plain", "markdown", "jsonl"],
    "--field": ["text", "no", ""],
    "--overflow": ["split", "error"],
    "--encoding-errors": ["strict", "surrogateescape"],
    "--device": ["cpu", "cuda:0", "cuda:", "cuda:x"],
    "--precision": ["fp32", "bf16"],
    "--threads": ["1", "2", "3", "auto"],
    "--batch-size": ["1", "64", "auto"],
    "--max-memory": ["1MB", "1GB", "1"],
    "--max-new-tokens": ["1", "5", "1000"],
    "--temperature": ["0", "0.7", "100"],
    "--top-p": ["0.1", "1"],
    "--seed": ["1", "-5"],
    "--max-repeats": ["0", "3"],
    "--on-error": ["keep", "mark", "skip", "fail"],
    "--retries": ["0", "2"],
    "--check": ["none", "length,preamble,refusal,ratio", "echo", "none,echo"],
    "--timeout": ["90", "10m"],
    "--max-time": ["1h", "0.05"],
    "--errors": ["errors.jsonl", "none/errors.jsonl", "."],
    "--log": ["log.jsonl", "/dev/null", "none/log.jsonl"],
    "--store": ["store.db", "none/store.db", "."],
    "--store-size": ["1MB", "1"],
    "--output": ["out.txt", "none/out.txt", ".", "/dev/full"],
    "--output-dir": ["out", "none", "."],
    "--partial": ["partial.txt"],
    "--wait": ["0"],
    "--progress": ["auto", "plain", "json", "none"],
    "--system": ["Be brief.", "{text}"],
}
_MERGING = [
    ["--merge", "document"], ["--merge", "lines"], ["--merge", "jsonl"], ["--merge", "csv"], ["--merge", "reduce"],
    ["--merge", "x"], ["--reduce", "Join {text}"], ["--reduce", ""], ["--interleave"],
]  # fmt: skip
_SUMMARIZING = [["--per", "paragraph"], ["--per", "all"], ["--length", "9"], ["--length", "x"]]
_TRANSLATING = [["--context", "2"], ["--context", "-1"], ["--from", "en"], ["--from", "x"], ["--glossary", "none.csv"]]
_ASKING = [["--top", "all"], ["--top", "3"], ["--top", "0"], ["-q", "Who?"], ["--quote"], ["--format", "jsonl"]]
_FLAGS = [
    "--no-store", "--refresh", "--retry-failed", "--no-store-text", "--quiet", "--verbose", "--dry-run",
    "--offline", "--in-place", "--in-place=.bak", "--in-place=/x", "-q", "-v", "--no-such-option", "-Z",
]  # fmt: skip
_OTHERS: list[list[str]] = [
    *(
        ["store", "info"],
        ["store", "path"],
        ["store", "verify"],
        ["store", "purge"],
        ["store", "purge", "--older-than=x"],
    ),
    *([], ["nothing"], ["run", "--help"], ["--version"], ["models", "list"], ["store"], ["models"]),
]
# With these, something else than the input comes out, or elsewhere.
_NOT_PLAIN = {
    "--merge",
    "--reduce",
    "--interleave",
    "--output",
    "--output-dir",
    "--in-place",
    "--dry-run",
    "--max-new-tokens",
    "--help",
}
_ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def command_line(random: Random, record: dict[str, Any]) -> None:
    """A command ends with a documented exit code, a clean stderr and, when all is well, its input on stdout."""
    with _somewhere():
        files = {name: mutated_bytes(random) for name in random.sample(_NAMES, random.randint(0, 3))}
        for name, data in files.items():
            Path(name).write_bytes(data)
        Path("out").mkdir()
        stdin = mutated_bytes(random)
        arguments = record["arguments"] = _arguments(random, list(files))
        record["files"], record["stdin"] = files, stdin
        code, out, err = _call(arguments, stdin)
        record["outcome"] = (code, out, err)
        _judge(arguments, files, stdin, code, out, err)


def _some(random: Random, options: list[list[str]]) -> list[list[str]]:
    return random.sample(options, random.choice((0, 0, 1, 2)))


def _arguments(random: Random, files: list[str]) -> list[str]:
    options: list[list[str]] = [["--engine", "echo"]]
    options += [_option(random) for _ in range(random.choice((0, 1, 2, 3, 5, 8)))]
    sources = [f"./{name}" if name in ("-", "--") or random.randrange(2) else name for name in files]
    if not random.randrange(4):
        sources.append(random.choice(("-", "none.txt", ".", "", "-", "no\x1b[1m.txt", "x" * 300, "a\0b", "/dev/null")))
    random.shuffle(sources)
    if random.randrange(40) == 0:
        return random.choice([*_OTHERS, ["models", "remove", mutated_text(random, 20)]])
    command, *rest = random.choice(
        (["run"], ["run"], ["translate"], ["summarize"], ["split"], ["reply"], ["batch"], ["ask"])
    )
    if command == "run":
        prompt = random.choice(("Fix: {text}", "x", mutated_text(random, 30).replace("\0", ""), ""))
        # A file's name in the prompt's place is asked about; one that begins with a dash would be an option.
        rest = [prompt if not prompt.startswith("-") else f" {prompt}"]
    if command == "translate":
        options.append(["--to", random.choice(("German", "", "x\ny", "{text}"))])
        options += _some(random, _TRANSLATING)
    if command == "ask":
        rest = [random.choice(("Who?", "Who and why?", "", mutated_text(random, 30).replace("\0", "")))]
        rest = [f" {word}" if word.startswith("-") else word for word in rest]
        options += _some(random, _ASKING)
    if command == "summarize":
        options += _some(random, _SUMMARIZING)
    if command in ("run", "translate", "reply"):
        options += _some(random, _MERGING)
    random.shuffle(options)
    if command == "split":
        options = [
            option for option in options if option[0].startswith(("--unit", "--lang", "--inp", "--enc", "--no-su"))
        ]
        options.append(["--format", random.choice(("text", "jsonl", "x"))])
    if not random.randrange(5):
        rest = [*rest, *sources] if all(not name.startswith("-") or name == "-" for name in sources) else rest
        return [command, *rest, *(word for option in options for word in option)]
    return [command, *(word for option in options for word in option), "--", *rest, *sources]


def _option(random: Random) -> list[str]:
    if not random.randrange(3):
        return [random.choice(_FLAGS)]
    name = random.choice(list(_VALUES))
    value = random.choice(_VALUES[name] if random.randrange(5) else _WRONG)
    return [name, value] if random.randrange(2) else [f"{name}={value}"]


def _judge(arguments: list[str], files: dict[str, bytes], stdin: bytes, code: int, out: bytes, err: str) -> None:
    given = {argument.partition("=")[0] for argument in arguments}
    assert code in _CODES, f"exit code {code}"
    assert code != 124 or "--max-time" in given
    assert "Traceback" not in err, "a traceback"
    assert not (found := _ESCAPES.search(err)), f"{found[0]!r} on stderr" if found else ""
    assert code in (0, 3, 124) or err.strip() or len(arguments) < 2, f"exit code {code} without a word"
    for name, data in files.items():
        assert Path(name).read_bytes() == data, f"{name!r} was changed"
    if code or not {"run", "translate", "summarize", "reply"} & {*arguments[:1]} or given & _NOT_PLAIN:
        return
    if arguments[0] == "summarize" and not ("paragraph" in arguments or "--per=paragraph" in arguments):
        return
    last = arguments.index("--") if "--" in arguments else len(arguments)
    words = arguments[last + 1 :] if last < len(arguments) else arguments[1 : arguments.index("--engine")]
    sources = words[1:] if arguments[0] == "run" else words
    if not {name.removeprefix("./") for name in sources} <= {*files, "-"}:
        return
    expected = b"".join(stdin if name == "-" else files[name.removeprefix("./")] for name in sources or ["-"])
    assert out == expected, "not what was put in"


@contextmanager
def _somewhere() -> Iterator[None]:
    """Work in a fresh directory, with caches and state of its own."""
    before = Path.cwd()
    place = Path(tempfile.mkdtemp(prefix="llmpar-fuzz-"))
    work = place / "work"
    work.mkdir()
    own = {"LLMPAR_CACHE": str(place / "cache"), "LLMPAR_STATE": str(place / "state"), "NO_COLOR": "1"}
    try:
        os.chdir(work)
        with patch.dict(os.environ, own):
            yield
    finally:
        os.chdir(before)
        shutil.rmtree(place)


def _call(arguments: list[str], stdin: bytes) -> tuple[int, bytes, str]:
    from llmpar.cli.main import run_command_line

    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    source = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with patch.object(sys, "stdin", source), patch.object(sys, "stdout", out), patch.object(sys, "stderr", err):
        code = run_command_line(arguments)
        out.flush()
    return code, out.buffer.getvalue(), err.getvalue()  # type: ignore[attr-defined]
