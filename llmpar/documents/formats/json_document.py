"""A document of JSON: the texts that paths name are asked about; all else, and every space, is copied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Layout, Segment
from llmpar.documents.formats.inline import marked_piece
from llmpar.documents.formats.json_text import Node, is_exact, parse, parse_path, select
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.marks import restored
from llmpar.documents.reader import Portion
from llmpar.errors import InputError, UsageError, setting
from llmpar.visible import json_text, one_line

_STRING = Layout(newline="")


class JsonDocument(TextFormat):
    """One value of JSON. What a piece is does not depend on the unit: it is one text."""

    about: ClassVar[About] = About(
        "strings at the paths that are named", "all else", "", "read here with the scanner of Python's json"
    )

    @property
    def portion(self) -> Portion:
        """Return "document": what is damaged at its end must be known before anything is written."""
        return "document"

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return "would make no JSON of it"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the texts that the user's paths name.

        Raises:
            UsageError: the user names none, or a path is none.
            InputError: (what is returned) it is no JSON, or there is no text at a path.
        """
        given = self.reading.options.field
        if not given:
            raise UsageError(
                f"JSON: which texts are asked about? name them with {setting('field', 'PATH')}, several times for "
                "several; '$..*' takes all strings"
            )
        paths = {path: parse_path(path) for path in given}

        def pieces(block: Block) -> Iterator[Piece]:
            text = block.text
            if not text.strip():
                return
            shown = one_line(block.document.name)
            try:
                tree = parse(text)
            except json.JSONDecodeError as error:
                raise InputError(f"{shown}:{error.lineno}: is no JSON: {error.msg} at column {error.colno}") from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{shown}: is no JSON: {error}") from error
            found: dict[int, Node] = {}
            for path, steps in paths.items():
                nodes = list(select(tree, steps))
                if is_exact(steps) and not (nodes and isinstance(nodes[0].value, str)):
                    reason = "is no string" if nodes else "is missing"
                    raise InputError(f"{shown}: what is named with {setting('field', one_line(path))} {reason}")
                found.update((node.start, node) for node in nodes if isinstance(node.value, str))
            for start in sorted(found):
                node = found[start]
                if said := str(node.value).strip():
                    piece = Piece(node.start, node.end, said, _STRING)
                    yield marked_piece(piece, self.reading) if self.reading.marks == "all" else piece

        return pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (JSON has no layout)
        """Return the answer as a string of JSON, with the white space at the source's ends."""
        value = json.loads(segment.source, strict=False)
        stripped = value.strip()
        before, after = value[: value.index(stripped)], value[value.index(stripped) + len(stripped) :]
        return json_text(before + restored(answer.strip(), segment.marks) + after)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the text as a string of JSON, or an empty string."""
        said = f"[llmpar: {reason}] {restored(segment.text, segment.marks)}"
        return json_text(said if fate == "mark" else "")
