"""Names and terms are found in texts, and a glossary's file grows without a change to what is there."""

from __future__ import annotations

import pytest

from llmpar.tasks.terms import TermFinder
from llmpar.tasks.terms_file import translation_in, with_rows

STORY = """
Nobody knew where Davy Orme had been. Then Davy came in. We saw Davy Orme at the lime kiln. She liked Tollan Vale.
The lime kiln was cold. In Tollan Vale the lime kiln smoked. Hester laughed. Hester waited. Hester left. When Davy
spoke, it was late. When he came, it rained. When Ruth of Callow heard of it, Ruth of Callow wept. I saw him on Monday.
Some of it was said on Monday. IT WAS LATE.
"""


def found(*texts: str) -> list[str]:
    finder = TermFinder()
    for text in texts:
        finder.add(text)
    return finder.found()


def test_names_and_terms_are_found() -> None:
    sentences = STORY.replace("\n", " ").split(". ")
    names = ["Davy", "Davy Orme", "Hester", "lime kiln", "Monday", "Ruth of Callow", "Tollan Vale"]
    assert found(*(f"{sentence}." for sentence in sentences)) == names
    assert found(STORY.replace("\n", " ")) == names


@pytest.mark.parametrize(
    "text",
    [
        "When it rains, it pours. When it rains, it pours. When it rains, it pours.",
        "THE END OF IT ALL. THE END OF IT ALL. THE END OF IT ALL.",
        "It is what it is, and it was what it was, and so it is.",
        "Alice once.",
        "",
        "1 2 3 4 … — «»",
        "I said that I saw what I saw.",
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert found(text) == []


def test_a_nouns_capital_makes_no_name_in_german() -> None:
    text = (
        "Gestern kam Frau Brandt mit dem Hund in das Haus. Der Hund sah das Haus und die Katze. "
        "Heute ging Ilse mit der Katze aus dem Haus. Da sah der Hund, wie Ilse und Frau Brandt die Katze riefen."
    )
    assert found(text) == ["Frau Brandt", "Ilse"]


def test_scripts_without_capitals() -> None:
    assert "アリス" in found("アリスは走った。昨日アリスが来た。")
    assert "林老师" in found("林老师说。他看见林老师。林老师走了。我和林老师。林老师在。")
    arabic = "كانت السكة الحديدية قديمة. السكة الحديدية طويلة. رأيت السكة الحديدية."
    assert found(arabic) == ["السكة الحديدية"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("He saw Jean-Luc and Jean-Luc.", "Jean-Luc"),
        ("He saw O'Brien, and then O'Brien.", "O'Brien"),
        ("We know Ursula van der Berg, and met Ursula van der Berg.", "Ursula van der Berg"),
        ("He saw Alice's hat, and Alice's hat again.", "Alice"),
        ("Он видел Анну, и потом Анну.", "Анну"),
    ],
)
def test_names_of_several_words(text: str, name: str) -> None:
    assert found(text) == [name]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.tasks.terms._MOST_COUNTED", 50)
    finder = TermFinder()
    for number in range(500):
        finder.add(f"She met Alice near Place{number} and word{number}x came.")
    assert len(finder._inside) <= 50
    assert "Alice" in finder.found()


NEW = [("zebra", "Zebra"), ("Alder", "Erle, die")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b'source,target\nAlder,"Erle, die"\nzebra,Zebra\n'),
        (b"\n\n", b'\n\nsource,target\nAlder,"Erle, die"\nzebra,Zebra\n'),
        (b"source,target\nbeech,Buche\n", b'source,target\nAlder,"Erle, die"\nbeech,Buche\nzebra,Zebra\n'),
        (b"beech , Buche", b'Alder,"Erle, die"\nbeech , Buche\nzebra,Zebra\n'),
        (b"oak,Eiche\nbeech,Buche\n", b'oak,Eiche\nbeech,Buche\nAlder,"Erle, die"\nzebra,Zebra\n'),
        (b"beech;Buche\r\n", b"Alder;Erle, die\r\nbeech;Buche\r\nzebra;Zebra\r\n"),
        (
            b'\xef\xbb\xbfsource\ttarget\tnote\r\n"beech"\tBuche\t"a\r\nb"\r\n',
            b'\xef\xbb\xbfsource\ttarget\tnote\r\nAlder\tErle, die\r\n"beech"\tBuche\t"a\r\nb"\r\nzebra\tZebra\r\n',
        ),
    ],
)
def test_rows_come_among_those_that_are_there(data: bytes, expected: bytes) -> None:
    assert with_rows(data, NEW) == expected
    assert with_rows(data, []) == data


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Erle", "Erle"),
        (" „Erle“. ", "Erle"),
        ('"Erle"', "Erle"),
        ("Erle.", "Erle"),
        ("alder = Erle", "Erle"),
        ("**Alder**: Erle", "**Alder**: Erle"),
        ("Alder: Erle", "Erle"),
        ("St. Peter u. Co.", "St. Peter u. Co."),
        ("", None),
        (" \n", None),
        ("Erle\nor another", None),
        ("=1+1", None),
        ("x" * 200, None),
    ],
)
def test_a_translation_is_taken_out_of_an_answer(answer: str, expected: str | None) -> None:
    assert translation_in(answer, "alder") == expected
