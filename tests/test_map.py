"""The map (llmpar/README.md) says what is so: its example is followed from bytes to bytes, and it names every room."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from support.places import ROOT
from support.program import Outcome

from llmpar.documents.formats.protocol import Reading
from llmpar.documents.segments import read_segments
from llmpar.tasks.question import Question
from llmpar.tasks.task import task_of_prompt

MAP = (ROOT / "llmpar" / "README.md").read_text("utf-8")
TEXT = "The cat sat. Two dogs ran home.\n"
PROMPT = "Say it in other words: {text}"


def test_the_example_is_followed_from_bytes_to_bytes(tmp_path: Path, llmpar: Callable[..., Outcome]) -> None:
    file = tmp_path / "cats.txt"
    file.write_bytes(TEXT.encode())
    assert f"holds {len(TEXT)} bytes" in MAP
    ((block, segments),) = read_segments(0, str(file), Reading(unit="sentence"))
    assert (block.text, block.first, block.last) == (TEXT, True, True)
    for segment in segments:
        assert f"`Segment(index={segment.index}, start={segment.start}, end={segment.end})` is `{segment.text}" in MAP
    questions = [Question(segment, task_of_prompt(PROMPT)) for segment in segments]
    assert f'`(("user", "{questions[0].prompt.messages[0][1]}"),)`' in MAP
    assert f"max_new_tokens={questions[0].task.max_new_tokens(4)})" in MAP
    outcome = llmpar("run", PROMPT, "--unit", "sentence", "--engine", "echo", str(file))
    assert outcome.out == TEXT.encode()


def test_every_room_is_on_it() -> None:
    rows = set(re.findall(r"^\| (.*?) \|", MAP, re.MULTILINE))
    named = {name.strip("`/") for row in rows for name in row.split(", ")}
    package = ROOT / "llmpar"
    rooms = {path.name for path in package.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    rooms |= {f"{path.parent.parent.name}/{path.parent.name}" for path in package.glob("*/*/__init__.py")}
    rooms |= {path.stem for path in package.glob("*.py") if not path.stem.startswith("_")}
    assert rooms - {"tasks/builtin"} <= named


def test_its_rooms_stand_in_the_order_of_their_imports() -> None:
    rows = re.findall(r"^\| (`.*?) \|", MAP.partition("## Threads")[0], re.MULTILINE)
    places = {name.strip("`/").replace("/", "."): number for number, row in enumerate(rows) for name in row.split(", ")}
    for path in sorted((ROOT / "llmpar").rglob("*.py")):
        room = _room(path.relative_to(ROOT / "llmpar").with_suffix("").as_posix().replace("/", "."), places)
        for known in (
            re.findall(r"^ *from llmpar\.([\w.]+) import", path.read_text("utf-8"), re.MULTILINE) if room else ()
        ):
            found = _room(known, places)
            is_inside = found.startswith(f"{room}.") or room.startswith(f"{found}.")
            assert is_inside or places[found] <= places[room], f"{path} imports {known}"


def _room(module: str, places: dict[str, int]) -> str:
    """Return the room of a module; "" for `__main__`, which is in none."""
    return max((name for name in places if f"{module}.".startswith(f"{name}.")), key=len, default="")


def test_the_readme_names_every_folder() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for folder in (ROOT / "llmpar").iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"llmpar/{folder.name}/" in readme, folder
