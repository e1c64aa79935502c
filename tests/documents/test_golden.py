"""Golden files: a document, then after a line of its own the pieces or the merged document that are expected.

The first line names unit and format. Pieces stand between lines of dashes. In merge/, a model that writes every word
twice in capitals answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from llmpar.documents.document import Block, Document, Encoding, Result, Segment, Unit
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = "\n=====>\n"
BETWEEN = "\n-----\n"


def read(path: Path) -> tuple[Block, list[Segment], str]:
    head, rest = path.read_text("utf-8").split("\n", 1)
    unit, name = head.split()
    text, expected = rest.split(EXPECTED)
    document = Document(0, name, Path(name), Encoding())
    return *split_text(text, Reading(cast("Unit", unit)), document), expected.removesuffix("\n")


def answer(text: str) -> str:
    return "\n".join(" ".join(f"{word} {word}" for word in line.upper().split()) for line in text.split("\n"))


def cases(kind: str) -> list[Path]:
    return sorted((GOLDEN / kind).glob("*.txt"))


@pytest.mark.parametrize("path", cases("split"), ids=lambda path: path.stem)
def test_split(path: Path) -> None:
    _, segments, expected = read(path)
    assert [segment.text for segment in segments] == (expected.split(BETWEEN) if expected else [])


@pytest.mark.parametrize("path", cases("merge"), ids=lambda path: path.stem)
def test_merge(path: Path) -> None:
    block, segments, expected = read(path)
    results = [Result(segment, answer(segment.text)) for segment in segments]
    assert "".join(merge(block, [result.segment for result in results], iter(results))) == expected


@pytest.mark.parametrize("path", cases("split") + cases("merge"), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_echo(path: Path) -> None:
    block, segments, _ = read(path)
    assert "".join(merge(block, segments, iter([Result(segment, segment.text) for segment in segments]))) == block.text


def test_there_are_cases() -> None:
    assert len(cases("split")) >= 10
    assert len(cases("merge")) >= 5
