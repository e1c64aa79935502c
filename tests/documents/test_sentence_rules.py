"""Sentences as a reader would cut them: golden texts, a piece to a line, in every language and for every rule.

A file of `golden/sentences` or `golden/dialogue` is named after its language. Its lines, joined, are the text that is
split; blank lines stand between texts.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmpar.documents.sentences import LANGUAGES, sentence_spans
from llmpar.documents.sentences.clauses import LONGEST, LONGEST_UNMARKED, LONGEST_WIDE
from llmpar.documents.sentences.spans import RULES

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
WITHOUT_SPACES = ("chinese", "japanese", "burmese", "khmer_joined")
CLOSING = "”’»›)]}」』】》〉）,;:.!?…。，？！、"
CAPITALS = ("english", "german", "french", "spanish", "italian", "portuguese", "russian", "polish", "dutch", "turkish")


def files(kind: str) -> list[Path]:
    return sorted((GOLDEN / kind).glob("*.txt"))


def split(text: str, language: str) -> list[str]:
    known = language if language in LANGUAGES else "english"  # what --language auto comes to
    return [text[start:end] for start, end in sentence_spans(text, known)]


@pytest.mark.parametrize(
    "path", files("sentences") + files("dialogue"), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_golden_texts(path: Path) -> None:
    glue = "" if path.stem in WITHOUT_SPACES else " "
    for text in path.read_text("utf-8").strip().split("\n\n"):
        lines = text.split("\n")
        assert split(glue.join(lines), path.stem) == lines


def test_each_language_has_golden_texts() -> None:
    assert set(LANGUAGES) <= {path.stem for path in files("sentences")}
    assert len(files("dialogue")) >= 12


@pytest.mark.parametrize("path", files("dialogue"), ids=lambda path: path.stem)
def test_no_piece_of_a_dialogue_begins_with_a_closing_mark_or_a_reporting_clause(path: Path) -> None:
    text = ("" if path.stem in WITHOUT_SPACES else " ").join(path.read_text("utf-8").split("\n")).strip()
    for piece in split(text, path.stem):
        assert piece[0] not in CLOSING or (piece[0] == "»" and path.stem == "german"), piece
        if path.stem in CAPITALS:
            assert not re.match(r"[—–-]?\s*[^\W\d_A-Z]", piece) or not re.sub(r"^[—–-]\s*", "", piece)[0].islower(), (
                piece
            )


def test_quotations_stay_with_their_speakers() -> None:
    text = (HERE / "cases" / "quotes_de.txt").read_text("utf-8").strip()
    assert split(text, "german") == [
        "Nach einer Pause kam sie näher.",
        "„Darf ich mit?“, fragte sie.",
        "„Ja!“ Er lachte.",
        "»Wirklich?«, rief sie.",
        '"Wirklich?", rief sie laut.',
    ]


def test_abbreviations_end_no_sentence() -> None:
    text = (HERE / "cases" / "split_en.txt").read_text("utf-8").strip()
    assert split(text, "english") == [
        "She earned a Ph.D. in 1999.",
        "Fig. 3 shows e.g. the U.S. figures, cf. Smith et al. (2004) for details.",
        'He said "Stop. Now." and left.',
        "Visit https://example.org/a.b?c=1.",
        "It costs $3.50... maybe more.",
        "Wait... what?!",
        "Yes! 🎉",
        "Great.",
        "J. R. Hill lives on Main St. in Springfield.",
        "Meet at 5 p.m.",
        "Bring No. 7 etc. with you.",
        "The i.e. case.",
        "Is it Node.js v1.2.3?",
        "Yes.",
        "Mr. and Mrs. Bell vs. the city.",
        "What does ASAP mean?",
        "Nobody knows.",
        "The end.",
    ]


def without(rule: str, text: str, language: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patched:
        patched.setitem(RULES, rule, lambda _: None)
        return split(text, language)


@pytest.mark.parametrize(
    ("rule", "language", "text"),
    [
        ("bracket", "english", "He asked (did you see? I did.) and left."),
        ("bracket", "german", "Das Haus [siehe Bild. Unten rechts.] steht noch."),
        ("reporting", "english", "“Really?” she asked."),
        ("reporting", "russian", "— Правда? — спросила она."),
        ("reporting", "french", "— Tu viens ? demanda Anne."),
        ("quotation", "english", "She wrote “Stop. Now.” and left."),
        ("aside", "german", "„Ja!“ Er lachte."),
        ("sign", "spanish", "Son 42,07 hab. / km² en total."),
        ("ellipsis", "english", "I was ... well, late."),
        ("abbreviation", "english", "See Fig. 3 and Smith et al. (2004) there."),
        ("abbreviation", "german", "Das ist z. B. Dinkel."),
        ("abbreviation", "french", "Voici Mme. Roche."),
        ("ordinal", "german", "Wir gehen in die 3. Etage."),
        ("ordinal", "english", "Am 3. Mai kam er."),  # too short for its language to be known
    ],
)
def test_each_rule_holds_together_what_it_should(
    rule: str, language: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split(text, language) == [text]
    if rule != "ellipsis":  # without it, other rules hold this together
        assert len(without(rule, text, language, monkeypatch)) > 1, "the rule has nothing to do here"


def test_dots_end_a_sentence_before_a_capital(monkeypatch: pytest.MonkeyPatch) -> None:
    assert split("He waited... Nobody came. It rained … Then it stopped.", "english") == [
        "He waited...", "Nobody came.", "It rained …", "Then it stopped."
    ]  # fmt: skip


def test_a_rule_takes_no_bracket_for_one_that_never_closes() -> None:
    assert split("See (there. Then go. So (b) is good.", "english") == ["See (there.", "Then go.", "So (b) is good."]
    assert split("See (there. Then go.", "english") == ["See (there.", "Then go."]
    assert split("I am sad :( today. You laugh. So (b) it is.", "english") == [
        "I am sad :( today.", "You laugh.", "So (b) it is."
    ]  # fmt: skip


def test_long_pieces_are_cut_at_clauses() -> None:
    clause = "the river that runs behind the house was frozen, and nobody went there any more"
    text = "; ".join([clause] * 30) + "."
    pieces = split(text, "english")
    assert " ".join(pieces) == text
    assert len(pieces) > 1
    assert all(len(piece) <= LONGEST for piece in pieces)
    assert all(piece.endswith(";") for piece in pieces[:-1])
    commas = ", ".join(["a tall tree"] * 200) + "."
    assert all(piece.endswith((",", ".")) and len(piece) <= LONGEST for piece in split(commas, "english"))
    wide = "河边的房子后面有一棵很高的树，" * 60 + "谁也不去。"
    assert "".join(split(wide, "chinese")) == wide
    assert all(len(piece) <= LONGEST_WIDE and piece[-1] in "，。" for piece in split(wide, "chinese"))


def test_what_is_short_enough_is_never_cut() -> None:
    text = "word, " * 150 + "end."
    assert len(text) < LONGEST
    assert split(text, "english") == [text]


def test_blanks_in_a_long_piece_belong_to_none() -> None:
    text = "a" + " " * 3000 + "b, c" + " " * 3000 + "d"
    assert split(text, "english") == ["a", "b, c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "เมื่อวานนี้ฝนตกหนักมาก เราจึงอยู่บ้านทั้งวัน " * 12,
        "ມື້ວານນີ້ຝົນຕົກໜັກຫຼາຍ ພວກເຮົາຈຶ່ງຢູ່ເຮືອນໝົດມື້ " * 12,
    ],
)
def test_thai_and_lao_are_cut_at_spaces(text: str) -> None:
    pieces = split(text, "english")
    assert len(pieces) > 2
    assert all(len(piece) <= LONGEST_UNMARKED for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
