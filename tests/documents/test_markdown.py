"""Markdown: what is prose, and that no answer changes what is not, whatever it does to the marks in its text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.markdown_structure import DOCUMENTS, INLINE, disturbed, structure
from support.program import Outcome

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text

Call = Callable[..., Outcome]
GOLDEN = Path(__file__).parent / "golden" / "marks"
CASES = Path(__file__).parent / "cases"


def split(text: str, name: str = "a.md", **reading: Any) -> tuple[Block, list[Segment]]:
    reading.setdefault("marks", "all")
    return split_text(text, Reading(**reading), Document(0, name, Path(name), Encoding()))


def answered(text: str, answer: Callable[[str], str], name: str = "a.md", **reading: Any) -> str:
    block, segments = split(text, name, **reading)
    return "".join(merge(block, segments, iter([Result(one, answer(one.text)) for one in segments])))


def prose(text: str, name: str = "a.md", **reading: Any) -> list[str]:
    return [segment.text for segment in split(text, name, **reading)[1]]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_upper_case_changes_the_prose_alone(newline: str) -> None:
    source, expected = ((GOLDEN / name).read_bytes().decode() for name in ("all.md", "all.upper.md"))
    options = FormatOptions(front_matter=True)
    written = answered(source.replace("\n", newline), str.upper, options=options)
    assert written == expected.replace("\n", newline)


def test_a_page_of_mdx() -> None:
    source = (CASES / "care.mdx").read_text("utf-8")
    assert prose(source, "care.mdx") == ["Boat care", "Wash it."]
    source = (
        'import {\n  A,\n} from "./a"\nexport const b = {\n  c: 1,\n}\n\n<Tabs items={["a > b"]}>\n  <Tab title="No">\n'
        "    Text {props.x} of <Badge kind={1}>new</Badge> tab.\n  </Tab>\n</Tabs>\n\n{/* no\n*/}\nEnd.\n"
    )
    assert prose(source, "a.mdx") == ["Text <1/> of <2>new</2> tab.", "End."]
    assert answered(source, lambda text: f"{text.upper()} {{a}} <b>", "a.mdx") == source.replace(
        "Text", "TEXT"
    ).replace("of <", "OF <").replace("new", "NEW").replace("tab.", "TAB. \\{a\\} \\<b>").replace(
        "End.", "END. \\{a\\} \\<b>"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("A [link *in* it](x). B.", ["A <1>link <2>in</2> it</1>.", "B."]),
        ("**A. B.**", ["A.", "B."]),
        ("A **b. C** d.", ["A <1>b. C</1> d."]),
        ("[A. B.](x)", ["A. B."]),
        ("`code` is said.[^n]\n\n[^n]: Note.", ["<1/> is said.", "Note."]),
        ("Has <7> in it, and *x*.", ["Has <7> in it, and <8>x</8>."]),
        ("![](a.png) [![ci](b)](c)\n\n42", ["ci"]),
        ("Roses  \nare red\\\nand", ["Roses", "are red", "and"]),
        ("a <span translate=no>b *c*</span> d", ["a <1/> d"]),
        ("[x]: y\n[z]\n\n[z]: w 'title'", ["z"]),
        ("> > - deep\n> > lazy [a\n> > b](c)", ["deep lazy <1>a b</1>"]),
    ],
)
def test_what_a_model_reads(source: str, expected: list[str]) -> None:
    assert prose(source) == expected
    assert answered(source, str) == source


@pytest.mark.parametrize(
    ("source", "answer", "expected"),
    [
        ("A *b* c", "<1>b</1> a c", "*b* a c"),
        ("A *b* c", "A <1> b </1>c", "A *b* c"),
        ("A *b* c", "A*b <1>x</1> `y", r"A\*b *x* \`y"),
        ("A **b** c", "A<1>“b”</1>c", "&#65;**“b”**&#99;"),
        ("A *b* c", "# <1>A</1>", r"\# *A*"),
        ("- A", "1. b", r"- 1\. b"),
        ("A", "b\n\n- c", "b - c"),
        ("| A |\n|---|", "a|b", "| a\\|b |\n|---|"),
        ("A [b](c) d", "A b d", "A [b](c) d"),
        ("A `b` d", "A <1/> <1/> d", "A `b` d"),
        ("A", "a_b _c_ 5 * 3 AT&T &lt; $x$ [a](b) <i>", r"a_b \_c\_ 5 * 3 AT&T &amp;lt; \$x\$ \[a\](b) \<i>"),
    ],
)
def test_how_answers_are_written(source: str, answer: str, expected: str) -> None:
    assert answered(source, lambda _: answer) == expected


def test_values_of_front_matter() -> None:
    source = '---\ntitle: Boats\nDescription: \'A "b"\'\nsummary: "x\\ty"\nslug: no\ntags: [a]\n---\n\nText.\n'
    assert prose(source) == ["Text."]
    options = FormatOptions(front_matter=True)
    assert prose(source, options=options) == ["Boats", 'A "b"', "x y", "Text."]
    assert answered(source, lambda text: f"{text}: it's", options=options) == (
        '---\ntitle: "Boats: it\'s"\nDescription: "A \\"b\\": it\'s"\nsummary: "x y: it\'s"\nslug: no\ntags: [a]\n---\n'
        "\nText.: it's\n"
    )


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.sampled_from(["sentence", "paragraph", "line"]), st.sampled_from(["\n", "\r\n"]))
def test_an_echo_is_the_document(source: str, unit: str, newline: str) -> None:
    source = source.replace("\n", newline)
    for marks in ("none", "all"):
        assert answered(source, str, unit=unit, marks=marks) == source


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS | INLINE, st.sampled_from(["sentence", "paragraph", "line"]), st.randoms(use_true_random=False))
def test_no_answer_changes_the_structure(source: str, unit: str, chance: random.Random) -> None:
    for answer in (str.upper, lambda text: disturbed(text, chance)):
        written = answered(source, answer, unit=unit)
        assert structure(written) == structure(source), written


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_what_cannot_be_written_is_objected_to(source: str, chance: random.Random) -> None:
    _, segments = split(source)
    for segment in segments:
        assert segment.format is not None
        assert segment.format.objection(segment, segment.text) is None
        answer = disturbed(segment.text, chance)
        reason, written = segment.format.objection(segment, answer), segment.format.write(segment, answer, 0)
        if reason:
            assert written == segment.source
        elif answer.split() != segment.text.split():
            assert written != segment.source


def test_a_run_on_stdin(llmpar: Call) -> None:
    source = (GOLDEN / "all.md").read_bytes()
    for options in ((), ("--marks",), ("--no-marks",), ("-u", "paragraph"), ("-u", "document"), ("--front-matter",)):
        outcome = llmpar("run", "{text}", "--engine", "echo", "-q", *options, stdin=source)
        assert (outcome.code, outcome.out) == (0, source), outcome.err


@pytest.mark.parametrize("answer", ["- One", "1. One", "# One", "> One", "+ One"])
def test_an_answer_in_a_row_without_a_pipe_before_it_opens_nothing(answer: str) -> None:
    source = "Head | Tail\n---- | ----\nCell | End\n\n> A | B\n> - | -\n> Cell | End\n"
    written = answered(source, lambda text: answer if text == "Cell" else text)
    assert structure(written) == structure(source), written
    assert written != source
    assert answered(source, str) == source
