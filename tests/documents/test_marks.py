"""Marks: what they look like, what is wrong with an answer's, and HTML in whose sentences tags are marks."""

from __future__ import annotations

import html.parser
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.markdown_structure import disturbed

from llmpar.documents.document import INLINE, Document, Encoding, Result
from llmpar.documents.formats.inline import marked_piece
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Piece, Reading
from llmpar.documents.marks import Mark, find_lost_mark, restored, show_marks, without_marks
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text

ALL = Reading(marks="all")
MARKS = (Mark(1, "<b>", "</b>"), Mark(2, "%d"))
TEXT = "A <1>bold</1> <2/>."


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("<2/>, <1>fett</1>", None),
        ("< 1>fett</ 1> <2>", None),
        ("<1>fett</1>", "lost <2/>"),
        ("<1>fett <2/>", "lost </1>"),
        ("<1>fett</1> <2/> <2/>", "has mark <2/> 2 times"),
        ("<1>fett</1> <2/> <3>", "has mark <3>, which its source has not"),
        ("<1>fett</1> <2/> </2>", "has mark </2>, which its source has not"),
        ("</1>fett<1> <2/>", "has marks that cross each other"),
        ("<1>fett <2/></1>", "has mark 2 in another pair than its source"),
        ("<1> </1> <2/>", "has nothing in mark 1"),
    ],
)
def test_what_is_wrong_with_an_answer(answer: str, fault: str | None) -> None:
    assert find_lost_mark(TEXT, answer, MARKS) == fault


def test_a_part_of_a_text_has_a_part_of_its_marks() -> None:
    assert find_lost_mark("A <1>bold", "<1>fett", MARKS) is None
    assert find_lost_mark("A <1>bold", "fett", MARKS) == "lost <1>"


def test_statements_stay_in_order() -> None:
    marks = (Mark(1, "{% if a %}"), Mark(2, "{% endif %}"), Mark(3, "{{ x }}"))
    assert find_lost_mark("<1/>a <3/><2/>", "<3/><1/>A<2/>", marks) is None
    assert "another order" in (find_lost_mark("<1/>a <3/><2/>", "<2/>A <3/><1/>", marks) or "")


def test_a_text_and_its_marks() -> None:
    assert (without_marks(TEXT, MARKS), restored(TEXT, MARKS)) == ("A bold .", "A <b>bold</b> %d.")
    assert show_marks(TEXT, MARKS) == "<1>, </1>, <2/>"


@given(
    st.lists(st.sampled_from(["a ", "<1>", "</2>", "<b>", "</b>", "<br/>", "%s", "{x}", "http://a.b.", "<", "&lt;"]))
)
def test_any_text_comes_back_from_its_marks(parts: list[str]) -> None:
    text = "".join(parts)
    piece = marked_piece(Piece(0, len(text), text, INLINE), ALL)
    assert restored(piece.text, piece.marks) == text
    assert find_lost_mark(piece.text, piece.text, piece.marks) is None
    assert not any(f"<{mark.number}" in text or f"</{mark.number}" in text for mark in piece.marks)


class Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(f"{tag} {sorted((name, value) for name, value in attrs if name not in ('alt', 'title'))}")

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append(f"!{data}")


PAGE = (
    "<!DOCTYPE html>\n<html lang=en><title>Fish &amp; chips</title>\n<p>See <b>the <i>old</i> docs</b> "
    "and <code>x &lt; y"
    '</code>, {{ name }}.  Then <a href="x">go</a>.<br>New\nline <!-- c --> ok. <a href=y '
    'title="Titled">Its link</a> more.'
    "\n<ul><li>One <em>two</em><li>Three http://a.b/c, <span translate=no>four</span>.</ul><p>Open <b>end</html>\n"
)


def answered(text: str, answer: object) -> str:
    block, segments = split_text(text, ALL, Document(0, "a.html", Path("a.html"), Encoding()))
    assert callable(answer)
    return "".join(merge(block, segments, iter([Result(one, answer(one.text)) for one in segments])))


def test_a_page() -> None:
    _, segments = split_text(PAGE, ALL, Document(0, "a.html", Path("a.html"), Encoding()))
    assert [segment.text for segment in segments] == [
        "Fish & chips", "See <1>the <2>old</2> docs</1> and <3/>, <4/>.", "Then <1>go</1>.", "New line <1/> ok.",
        "Titled", "Its link", "more.", "One <1>two</1>", "Three <1/>, <2/>.", "Open <1/>end",
    ]  # fmt: skip
    assert answered(PAGE, str) == PAGE
    assert answered(PAGE, str.upper) == (
        "<!DOCTYPE html>\n<html lang=en><title>FISH &amp; CHIPS</title>\n<p>SEE <b>THE <i>OLD</i> DOCS</b> "
        "AND <code>x &lt;"
        ' y</code>, {{ name }}.  THEN <a href="x">GO</a>.<br>NEW LINE <!-- c --> OK. <a href=y '
        'title="TITLED">ITS LINK</a>'
        " MORE.\n<ul><li>ONE <em>TWO</em><li>THREE http://a.b/c, <span translate=no>four</span>.</ul><p>OPEN <b>END"
        "</html>\n"
    )


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_answer_changes_a_pages_tags(chance: random.Random) -> None:
    written = answered(PAGE, lambda text: disturbed(text, chance))
    assert sorted(Tags(written).found) == sorted(Tags(PAGE).found), written


FIELDS = {
    "a.csv": ('text,id\n"Hi {name}, <b>see</b> https://a.example/x",7\n', {"column": ["text"]}),
    "a.jsonl": ('{"text": "Hi {name}, <b>see</b> https://a.example/x", "id": 7}\n', {"field": ["text"]}),
    "a.json": ('[{"text": "Hi {name}, <b>see</b> https://a.example/x"}]\n', {"field": ["$..text"]}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_data_have_marks_where_all_are_wanted(name: str) -> None:
    text, options = FIELDS[name]
    document = Document(0, name, Path(name), Encoding())

    def merged(marks: Any, answer: Any) -> tuple[list[str], str]:
        reading = Reading(options=FormatOptions(**options), marks=marks)
        block, segments = split_text(text, reading, document)
        results = iter([Result(segment, answer(segment.text)) for segment in segments])
        return [segment.text for segment in segments], "".join(merge(block, segments, results))

    asked, echoed = merged("all", str)
    assert asked == ["Hi <1/>, <2>see</2> <3/>"]
    assert echoed == text
    assert merged("all", str.upper)[1] == text.replace("Hi", "HI").replace("see", "SEE")
    assert merged("markup", str)[0] == ["Hi {name}, <b>see</b> https://a.example/x"]
