"""Target: documents of each format, damaged at random, with any answers in them."""

from __future__ import annotations

import io
from random import Random
from typing import Any
from unittest.mock import patch

from support.kinds import KINDS, Kind, format_options

from fuzz.corpus import mutated_kind, mutated_text
from llmpar.documents import source as source_module
from llmpar.documents.document import Block, Result, Segment
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import DocumentMerger
from llmpar.documents.segments import read_segments
from llmpar.errors import InputError, UsageError

_FATES = ("keep", "mark", "skip")


def structured(random: Random, record: dict[str, Any]) -> None:
    """A document is refused, or comes back; no answer makes one that is refused, or has other things in it."""
    kind = random.choice(KINDS)
    is_whole = not random.randrange(3)
    data = kind.document.encode() if is_whole else mutated_kind(random, kind.document)
    record["data"], record["kind"] = data, kind.name
    blocks = _read(kind, data)
    if blocks is None:
        assert not is_whole, "a document that is not damaged was refused"
        return
    same = _merged(blocks, [Result(s, error=s.fault or "why") for _, ss in blocks for s in ss], "keep")
    assert same == data, "the bytes did not come back"
    results, answers = [], record.setdefault("answers", [])
    for _, segments in blocks:
        for segment in segments:
            answer = "" if not random.randrange(8) else mutated_text(random, random.choice((3, 30, 300)))
            error = segment.fault or (mutated_text(random, 30) if not random.randrange(10) else None)
            answer = answer.encode("utf-8", "replace").decode()  # a model's text has no halves of characters
            error = error and error.encode("utf-8", "replace").decode()
            answers.append((answer, error))
            results.append(Result(segment, answer, error))
    fate = record["fate"] = random.choice(_FATES)
    answered = record["answered"] = _merged(blocks, results, fate)
    again = _read(kind, answered)
    assert again is not None, "an answer broke the document"
    if is_whole:
        assert kind.structure(answered.decode("utf-8", "surrogateescape")) == kind.structure(kind.document)


def _read(kind: Kind, data: bytes) -> list[tuple[Block, list[Segment]]] | None:
    with patch.object(source_module, "_open", lambda _: io.BytesIO(data)):
        try:
            reading = Reading(options=format_options(kind), errors="surrogateescape")
            return list(read_segments(0, kind.name, reading))
        except (InputError, UsageError):
            return None


def _merged(blocks: list[tuple[Block, list[Segment]]], results: list[Result], fate: Any) -> bytes:
    encoding = blocks[0][0].document.encoding
    given = iter(results)
    merger = DocumentMerger(fate)
    text = "".join("".join(merger.merge(block, segments, given)) for block, segments in blocks)
    return encoding.bom + text.encode(encoding.name, "surrogatepass" if encoding.name != "utf-8" else "surrogateescape")
