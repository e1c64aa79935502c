"""Subtitles: sentences over several cues and tags, the places of their answers, and cues that no answer breaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.laying import lay
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.layout import cells
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text

TIMES = {
    ".srt": "00:00:{0:02},000 --> 00:00:{0:02},500",
    ".vtt": "00:{0:02}.000 --> 00:{0:02}.500",
}


def written(cues: list[str], suffix: str, newline: str = "\n") -> str:
    blocks = [f"{number}\n{TIMES[suffix].format(number)}\n{cue}\n" for number, cue in enumerate(cues, 1)]
    text = "\n".join(["WEBVTT\n", *blocks] if suffix == ".vtt" else blocks)
    return text.replace("\n", newline)


def split(text: str, suffix: str, **options: Any) -> tuple[Block, list[Segment]]:
    name = f"a{suffix}"
    return split_text(text, Reading(options=FormatOptions(**options)), Document(0, name, Path(name), Encoding()))


def answered(block: Block, segments: list[Segment], answers: list[str], fate: Any = None) -> str:
    results = [Result(s, answer, "why" if fate else None) for s, answer in zip(segments, answers, strict=True)]
    return "".join(merge(block, segments, iter(results), fate or "keep"))


def cues_of(text: str, suffix: str) -> list[str]:
    """Return the text of each cue, read by other means."""
    head = TIMES[suffix].replace("{0:02}", r"\d\d").replace(".", r"\.")
    found = re.split(rf"(?m)^\d+\n{head}\n", text.replace("\r\n", "\n").replace("\r", "\n"))[1:]
    return [cue.rstrip("\n") for cue in found]


@pytest.mark.parametrize("suffix", TIMES)
@pytest.mark.parametrize(
    ("cues", "pieces"),
    [
        (["He waits", "for the\nferry. Really.", "Yes."], ["He waits for the ferry. Really.", "Yes."]),
        (["He waits,", "and waits,", "and waits."], ["He waits, and waits, and waits."]),
        (["Ask Mr.", "Smith.", "He knows."], ["Ask Mr. Smith.", "He knows."]),
        (["I thought...", "...you knew.", "So...", "Well."], ["I thought... ...you knew.", "So...", "Well."]),
        (["He said", "- What?\n- Nothing", "at all."], ["He said", "What?", "Nothing at all."]),
        (["THE END", "It was over.", "Fine."], ["THE END", "It was over.", "Fine."]),
        (["[knocks]", "Come in.", "♪ La la ♪", "he sang."], ["[knocks]", "Come in.", "La la ♪", "he sang."]),
        (["He went", "MRS. SMITH: home.", "No."], ["He went", "MRS. SMITH: home.", "No."]),
        (["他走了", "我也走了", "好吧", "再见"], ["他走了", "我也走了", "好吧", "再见"]),
        (["<i>He never</i>", "<i>came</i> back.", "Why?"], ["He never came back.", "Why?"]),
        (["<b>W</b>ell, <u>so</u>!", "1984", "</i> Hm.", "Yes."], ["Well, so!", "1984 Hm.", "Yes."]),
        (["So", "he", "came", "and", "then", "left.", "Both."], ["So he came and then", "left.", "Both."]),
    ],
)  # fmt: skip
def test_a_sentence_is_asked_as_one(suffix: str, cues: list[str], pieces: list[str]) -> None:
    text = written(cues, suffix)
    block, segments = split(text, suffix)
    assert [segment.text for segment in segments] == pieces
    assert answered(block, segments, pieces) == text
    upper = answered(block, segments, [piece.upper() for piece in pieces])
    # An answer that is as long stands where its source does, tags and all; only lines are broken anew.
    tags = re.compile(r"<[^>]*>")

    def words(cue: str) -> list[str]:
        return tags.sub("", cue).split()

    assert [words(cue) for cue in cues_of(upper, suffix)] == [words(cue.upper()) for cue in cues]


def test_voices_are_apart() -> None:
    _, segments = split(
        written(["<v Ann>I said", "<v Bob>nothing.", "<c.x>It</c> was <00:01.000>late."], ".vtt"), ".vtt"
    )
    assert [segment.text for segment in segments] == ["I said", "nothing.", "It was late."]


@pytest.mark.parametrize(
    ("answer", "sources", "parts"),
    [
        ("one two three four", ["1234567890", " 1234567890"], ["one two", "three four"]),
        ("eins, zwei drei vier", ["one two,", " three four five"], ["eins,", "zwei drei vier"]),
        ("Nein.", ["one two", " three", " four"], ["Nein.", "", ""]),
        ("a b", ["one", " two", " three"], ["a", "b", ""]),
        ("我能吞下玻璃。", ["one", " two"], ["我能吞", "下玻璃。"]),
        ("Hallo!", ["Hello", "!"], ["Hallo", "!"]),
        ("Oh ja", ["W", "ell"], ["Oh", " ja"]),
        ("", ["one", " two"], ["", ""]),
    ],
)
def test_laying(answer: str, sources: list[str], parts: list[str]) -> None:
    assert lay(answer, sources) == parts


@settings(deadline=None)
@given(st.text("ab .,我!\n", max_size=60), st.lists(st.text("xyz", min_size=1, max_size=20), min_size=1, max_size=5))
def test_laying_loses_nothing(answer: str, sources: list[str]) -> None:
    spaced = [f" {source}" if number else source for number, source in enumerate(sources)]
    parts = lay(answer, spaced)
    assert len(parts) == len(sources)
    assert "".join("".join(parts).split()) == "".join(answer.split())
    if len(answer.split()) >= len(sources):
        assert all(parts)


def test_lines_keep_their_length() -> None:
    text = written(["The old man sat\nby the sea and", "never said a word."], ".srt")
    block, segments = split(text, ".srt")
    answer = "Der alte Mann, der nie ein Wort sprach, saß am Meer und schwieg bis heute."
    for width, options in ((18, {}), (12, {"cue_width": 12}), (40, {"cue_width": 40})):
        block, segments = split(text, ".srt", **options)
        found = cues_of(answered(block, segments, [answer]), ".srt")
        assert " ".join(" ".join(found).split()) == answer
        assert all(cells(line) <= width for cue in found for line in cue.split("\n")), found


@pytest.mark.parametrize("suffix", TIMES)
@pytest.mark.parametrize("fate", ["mark", "skip"])
def test_what_fails_stays_in_its_cues(suffix: str, fate: str) -> None:
    text = written(["He waits", "for <i>the</i> ferry.", "Yes."], suffix)
    found = answered(*split(text, suffix), ["", ""], fate)
    said = [" ".join(cue.split()) for cue in cues_of(found, suffix)]
    assert len(said) == 3
    assert said == ["", "<i></i>", ""] if fate == "skip" else "[llmpar: why]" in said[0], said


WORDS = st.sampled_from(
    [
        "he",
        "Mr.",
        "waits.",
        "Why?",
        "<i>",
        "</i>",
        "<v Ann>",
        "\n",
        "- ",
        "…",
        "1984",
        "♪",
        "我走了",
        "and,",
        "&amp;",
        "{\\an8}",
    ]
)
CUES = st.lists(
    st.lists(WORDS, min_size=1, max_size=8)
    .map(" ".join)
    .map(lambda cue: re.sub(r"\s*\n\s*", "\n", cue).strip() or "x")
    # A line of digits alone could be the next cue's number.
    .map(lambda cue: re.sub(r"(?m)^1984$", "1984!", cue)),
    min_size=1,
    max_size=6,
)
ANSWERS = st.lists(
    st.sampled_from(
        [
            "word ",
            "\n",
            "\n\n",
            "\r",
            "-->",
            "<b>",
            "<",
            "7",
            "\n7\n",
            "00:01:02,000 --> 00:02:00,000",
            "8:15",
            "NOTE",
            "我",
        ]
    ),
    max_size=8,
).map("".join)


@settings(deadline=None)
@given(CUES, st.data(), st.sampled_from(list(TIMES)), st.sampled_from(["\n", "\r\n"]), st.sampled_from([None, 12]))
def test_no_answer_breaks_a_cue(cues: list[str], data: Any, suffix: str, newline: str, width: int | None) -> None:
    text = written(cues, suffix, newline)
    block, segments = split(text, suffix, cue_width=width)
    assert answered(block, segments, [segment.text for segment in segments]) == text
    answers = [data.draw(ANSWERS) for _ in segments]
    fate = data.draw(st.sampled_from([None, "keep", "mark", "skip"]))
    changed = answered(block, segments, answers, fate)
    assert len(cues_of(changed, suffix)) == len(cues), changed
    assert re.findall(r"<[^<>\s]*>", changed) == re.findall(r"<[^<>\s]*>", text)
    assert set(re.findall(r"\r\n|\n|\r", changed)) <= {newline}
    heads = re.compile(r"\d+\r?\n\S+ --> \S+")
    assert heads.findall(changed) == heads.findall(text)
    split(changed, suffix)  # and it can be read again
