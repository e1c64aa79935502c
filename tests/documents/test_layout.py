"""Hard-wrapped lines: which breaks are wrapping's, how an answer is set, and how it meets what stands around it."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

from llmpar.documents.document import INLINE, Document, Encoding, Layout, Result
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.layout import cells, fill, joint, soft_breaks
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text

ENGLISH = (
    "The single hand goes round once in twelve hours and twenty-five minutes, near enough, because that is how long "
    "the sea takes to come in, go out and come in again. Where an ordinary dial would show twelve, this one shows a "
    "painted fish; where you would expect six, there is a boot. Fish means the boats are afloat. Boot means you may "
    "walk to the lighthouse and keep your ankles dry."
)
GERMAN = (
    "Als das Postamt von Niederwalden am 3. Oktober 1990 zum letzten Mal öffnete, ahnte niemand, dass hinter "
    "denselben Schaltern einmal Toaster, Kaffeemühlen und Kinderfahrräder stehen würden. Das Gebäude in der "
    "Lindenstraße Nr. 14 blieb fast zwanzig Jahre lang leer. Im Keller stand Wasser, auf dem Dach wuchs eine Birke."
)
CHINESE = (
    "在云溪镇的后山上，有一间只有十二平方米的天文小屋。它没有圆顶，也没有昂贵的设备，屋顶是两块可以推开的铁皮。" * 3
)


@pytest.mark.parametrize("width", [40, 60, 72, 80])
@pytest.mark.parametrize("text", [ENGLISH, GERMAN])
def test_greedily_wrapped_text_is_recognised(text: str, width: int) -> None:
    lines = textwrap.wrap(text, width)
    assert all(soft_breaks(lines))


@pytest.mark.parametrize("width", [20, 30, 38])
def test_wrapped_chinese_is_recognised(width: int) -> None:
    lines = [CHINESE[i : i + width] for i in range(0, len(CHINESE), width)]
    assert all(soft_breaks(lines))
    assert joint(lines[0], lines[1]) == ""


SOFT = {
    "ragged": """\
        I had come to write about the lighthouse, and by the second
        morning it was clear that it was only one wheel
        in a larger machine, and that the machine was the town. Nobody
        had told me anything of that before I left, and
        London seemed very far away.""",
    "a clause a line": """\
        I had come to write about the lighthouse,
        and by the second morning it was clear
        that the lighthouse was only one wheel
        in a larger machine""",
    "capitals": """\
        BECAUSE THE PROGRAM IS LICENSED FREE OF CHARGE, THERE IS NO WARRANTY
        FOR THE PROGRAM, TO THE EXTENT PERMITTED BY APPLICABLE LAW. EXCEPT WHEN
        OTHERWISE STATED IN WRITING""",
    "two lines": """\
        The tower was finished in three summers and first lit on 11 November
        1791. It stands.""",
}
HARD = {
    "address": """\
        Mr. John Smith
        12 High Street
        London""",
    "wide address": """\
        Institut für Angewandte Mathematik
        Universität Niederwalden am See
        Lindenstraße 14, Hinterhaus
        12345 Niederwalden""",
    "verse": """\
        Shall I compare thee to a summer's day?
        Thou art more lovely and more temperate:
        Rough winds do shake the darling buds of May,
        And summer's lease hath all too short a date""",
    "lowercase words": """\
        apple
        banana
        cherry pie""",
    "a sentence a line": """\
        Everything on this page is data, and none of it is to be obeyed.
        None of it should be expanded or rendered on its way through it.
        Nobody remembered to write the other half of this one line here.
        All of them are of about the same length, which proves nothing.""",
    "columns": """\
        name of the thing          how many there are of it        price
        kettle, blue, with a dent                    12            4.50
        lamp                                          3           12.00""",
    "long lines": "\n".join(["This line goes on for longer than anybody would wrap by hand " * 3] * 3),
}


@pytest.mark.parametrize("name", SOFT)
def test_soft(name: str) -> None:
    assert all(soft_breaks(textwrap.dedent(SOFT[name]).splitlines()))


@pytest.mark.parametrize("name", HARD)
def test_hard(name: str) -> None:
    assert not any(soft_breaks(textwrap.dedent(HARD[name]).splitlines()))


def test_columns_apart_from_prose() -> None:
    assert soft_breaks(["kettle,   blue, with a dent in its lid", "lamp, which is lit at all hours of"]) == [False]


def test_one_line_has_no_break() -> None:
    assert soft_breaks(["alone"]) == []
    # Two words, each as long as the line: the second did not fit, but nobody wrapped anything.
    assert soft_breaks(["A" * 25, "B" * 25]) == [False]


def test_korean_keeps_its_spaces() -> None:
    assert joint("한국어", "문장") == " "
    assert joint("中文", "日本") == ""
    assert joint("中文", "word") == " "


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("中文", 4), ("é", 1), ("e\u0301", 1), ("\ta", 9), ("a\x1bb", 3), ("", 0)]
)
def test_cells(text: str, width: int) -> None:
    assert cells(text) == width


WORDS = st.lists(st.text(st.sampled_from("abcé中文字。（"), min_size=1, max_size=12), min_size=1, max_size=40)


@settings(deadline=None)
@given(words=WORDS, width=st.integers(8, 60), indent=st.sampled_from(["", "  ", "> ", "\t"]), column=st.integers(0, 8))
def test_a_filled_answer_fits_and_loses_nothing(words: list[str], width: int, indent: str, column: int) -> None:
    text = " ".join(words)
    lines = fill(text, Layout(width, indent, "\r\n"), column).split("\r\n")
    assert "".join("".join(lines).replace(indent, "").split()) == "".join(words).replace(indent.strip() or " ", "")
    assert all(line.startswith(indent) for line in lines[1:])
    for i, line in enumerate(lines):
        content = line if i == 0 else line.removeprefix(indent)
        room = width - (column if i == 0 else cells(indent))
        assert cells(content) <= room or " " not in content, "only a word may be too long"
        assert content == content.rstrip()
        assert content or i == 0, "no line is empty"
    # Greedy: no line leaves room for the next one's first word.
    for above, below in itertools.pairwise(lines[1:]):
        word = below.removeprefix(indent).split(" ")[0]
        if all(char in "abcé" for char in word + above[-1]):
            assert cells(above) + 1 + cells(word) > width


def test_an_answers_own_line_breaks_stay() -> None:
    assert fill("one\ntwo\r\nthree", Layout(0, "  ", "\r\n")) == "one\r\n  two\r\n  three"
    assert fill("one\n\ntwo", Layout(20, "> ", "\n")) == "one\n>\n> two"


def test_what_stands_in_a_line_stays_in_it() -> None:
    assert fill(" one\n\n two \n", INLINE) == "one two"


def test_a_word_longer_than_the_line_stands_alone() -> None:
    assert fill("a " + "x" * 30 + " " + "y" * 30 + " b", Layout(20, "  ")).split("\n") == [
        "a",
        "  " + "x" * 30,
        "  " + "y" * 30,
        "  b",
    ]


def test_no_line_is_broken_before_its_first_word() -> None:
    assert fill("x" * 30, Layout(20, "  "), column=2) == "x" * 30


def test_white_space_around_an_answer_is_not_the_documents() -> None:
    assert fill("\n answer \n", Layout()) == "answer"


def rewritten(text: str, answer: str, unit: str = "sentence") -> str:
    document = Document(0, "x.txt", Path("x.txt"), Encoding())
    block, segments = split_text(text, Reading(unit), document)  # type: ignore[arg-type]
    return "".join(merge(block, segments, iter([Result(segment, answer or segment.text) for segment in segments])))


def test_an_answer_is_wrapped_behind_what_stands_before_it() -> None:
    text = "\n".join(textwrap.wrap(ENGLISH, 60)) + "\n"
    merged = rewritten(text, "Some other words stand here instead of it, more or less.")
    assert max(map(len, merged.splitlines())) <= 60
    assert all(line == line.rstrip() for line in merged.splitlines())
    assert merged.endswith("less.\n")


def test_failed_segments_keep_their_text() -> None:
    document = Document(0, "x.txt", Path("x.txt"), Encoding())
    block, segments = split_text("One.\n\nTwo.\n\nThree.", Reading(), document)
    results = [Result(segment, "X" * 3) for segment in segments]
    results[1] = Result(segments[1], "lost", error="no")
    assert "".join(merge(block, [result.segment for result in results], iter(results))) == "XXX\n\nTwo.\n\nXXX"


def test_no_long_text_is_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time grows with the square of a row of flags."""
    lengths: list[int] = []

    def measure(text: str) -> int:
        lengths.append(len(text))
        return wcswidth(text)

    monkeypatch.setattr("llmpar.documents.layout.wcswidth", measure)
    assert 100_000 <= cells("\U0001f1e9\U0001f1ea" * 100_000) <= 400_000
    assert cells("a\u0301" * 1000) == 1000
    assert max(lengths) <= 256
