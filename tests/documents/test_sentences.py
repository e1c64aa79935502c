"""Where sentences end: what Punkt says is what nltk's says, and the rules on top of it do what they promise."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import sys
from pathlib import Path
from typing import NoReturn

import nltk.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tabdata import TabEncoder
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTokenizer
from punkt.data import load_bundled

from llmpar.documents.language import detect
from llmpar.documents.sentences import LANGUAGES, load_punkt, sentence_spans, spans, tables
from llmpar.documents.sentences.clauses import WIDEST
from llmpar.documents.sentences.punkt import ends
from llmpar.errors import UsageError

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
SAMPLES = {
    name: (SAMPLE_DATA / name).read_text("utf-8") for name in ("article.txt", "french.txt", "german.txt", "chinese.md")
}


def split(text: str, language: str = "english") -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text, language)]


def write_punkt_tab(root: Path, language: str, parameters: PunktParameters) -> None:
    """Write a model as nltk.download('punkt_tab') lays it out."""
    directory = root / "tokenizers" / "punkt_tab" / language
    directory.mkdir(parents=True)
    encoder = TabEncoder()
    (directory / "collocations.tab").write_text(encoder.tups2tab(parameters.collocations), "utf-8", newline="")
    (directory / "sent_starters.txt").write_text(encoder.set2txt(parameters.sent_starters), "utf-8", newline="")
    (directory / "abbrev_types.txt").write_text(encoder.set2txt(parameters.abbrev_types), "utf-8", newline="")
    (directory / "ortho_context.tab").write_text(encoder.ivdict2tab(parameters.ortho_context), "utf-8", newline="")


@pytest.fixture
def nltk_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nltk_data directory of the user's own, and no other."""
    root = tmp_path / "nltk_data"
    root.mkdir(mode=0o700)
    monkeypatch.setattr(nltk.data, "path", [str(root)])
    monkeypatch.setattr(tables, "_tables", {})
    return root


def abbreviations_at_work(language: str) -> str:
    """Return text that puts a model's tables to use: each kind of entry, before words of each kind."""
    model = load_bundled(language)
    starters = sorted(model.sent_starters) or ["so"]  # Russian has none
    words = sorted(model.ortho_context)[:: max(1, len(model.ortho_context) // 300)]
    text = [
        f"{word.capitalize()} {abbreviation}. {starters[i % len(starters)].capitalize()} {word}."
        for i, (abbreviation, word) in enumerate(zip(sorted(model.abbrev_types)[:300], words * 9, strict=False))
    ]
    text += [f"x {first}. {second} {second.capitalize()} y." for first, second in sorted(model.collocations)[:100]]
    text += [f"One 3. {word} and? {word.capitalize()} A. {word.capitalize()}!" for word in words]
    return " ".join(text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_bundled_tables_are_what_nltk_would_have_loaded(nltk_data: Path, language: str) -> None:
    bundled = load_punkt(language)
    assert type(bundled) is PunktSentenceTokenizer, "nothing is installed yet"
    write_punkt_tab(nltk_data, language, bundled._params)
    installed = PunktTokenizer(language)
    assert installed._params.abbrev_types == bundled._params.abbrev_types
    assert installed._params.sent_starters == bundled._params.sent_starters
    assert installed._params.collocations == bundled._params.collocations
    assert dict(installed._params.ortho_context) == dict(bundled._params.ortho_context)
    for text in (abbreviations_at_work(language), *(sample[:6000] for sample in SAMPLES.values())):
        assert list(bundled.span_tokenize(text)) == list(installed.span_tokenize(text))
    assert len(list(bundled.span_tokenize(abbreviations_at_work(language)))) > 10


def test_the_users_own_data_comes_first(nltk_data: Path) -> None:
    assert split("See the zork. Anything else.") == ["See the zork.", "Anything else."]
    parameters = PunktParameters()
    parameters.abbrev_types = {"zork"}
    parameters.collocations = {("a", "b")}
    parameters.sent_starters = {"the"}
    parameters.ortho_context["the"] = 1
    write_punkt_tab(nltk_data, "english", parameters)
    assert isinstance(load_punkt("english"), PunktTokenizer)
    tables._tables.clear()
    assert split("See the zork. Anything else.") == ["See the zork. Anything else."]


def test_nltk_is_imported_only_where_data_of_its_own_may_be(
    nltk_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tables.tables("english")
    nltk_data.rmdir()

    def load(language: str) -> NoReturn:
        raise AssertionError("nltk has been asked")

    monkeypatch.setattr(tables, "load_punkt", load)
    tables._tables.clear()
    assert tables.tables("english") == known
    nltk_data.mkdir()
    tables._tables.clear()
    with pytest.raises(AssertionError, match="asked"):
        tables.tables("english")


def test_the_places_of_data_are_those_that_nltk_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLTK_DATA", f"/one{os.pathsep}~/two")
    own = importlib.util.find_spec("nltk.data")
    assert own
    assert own.loader
    fresh = importlib.util.module_from_spec(own)
    own.loader.exec_module(fresh)
    monkeypatch.delitem(sys.modules, "nltk.data")
    assert {*map(str, tables._places_of_data())} == {*fresh.path}


def test_unknown_languages_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown language 'klingon'; Punkt knows: czech"):
        load_punkt("klingon")


WORDS = [
    "Mr.", "Dr.", "e.g.", "U.S.", "St.", "No.", "a", "dog", "The", "Dog", "3.", "14.5", "end.", "What?", "No!", "Oh...",
    "(Yes.)", '"Sure."', "J.", "?!", "well", "etc.", "i.e.,", "--", "and", ". . .", "It", "said.”", "end.)",
]  # fmt: skip
PROSE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=120).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(text=PROSE, language=st.sampled_from(["english", "german", "french", "turkish"]))
def test_punkts_part_is_nltks(text: str, language: str) -> None:
    for word, after in itertools.pairwise(text.split()):
        after = after.rstrip(",”)!?")
        if word[-1:] == "." and word[-2:-1].isalnum() and word[0].isalnum() and after[:1].isalnum():
            assert ends(word[:-1], after, tables.tables(language)) == ends_in_nltk(word, after, language), (word, after)


def ends_in_nltk(word: str, after: str, language: str) -> bool:
    found = load_cached(language).span_tokenize(f"x {word} {after} y")
    return any(start == len(f"x {word} ") for start, _ in found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_punkts_part_is_nltks_for_all_that_the_tables_hold(language: str) -> None:
    num = 0
    for before, after in itertools.pairwise(abbreviations_at_work(language).split()):
        if before.endswith(".") and not before.endswith("..") and after[:1].isalnum() and after.isalpha():
            if not all(char.isalnum() or char in ".-" for char in before) or not before[0].isalnum():
                continue
            expected = ends_in_nltk(before, after, language)
            assert ends(before[:-1], after, tables.tables(language)) == expected, (before, after)
            num += 1
    assert num > (10 if language == "russian" else 100)  # whose tables hold abbreviations only


@functools.cache
def load_cached(language: str) -> PunktSentenceTokenizer:
    return load_punkt(language)


def test_what_is_plain_is_decided_as_the_rules_would(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*SAMPLES.values(), abbreviations_at_work("english"), abbreviations_at_work("german")]
    fast = [split(" ".join(text.split()), language) for text in texts for language in ("english", "german", "turkish")]
    monkeypatch.setattr(spans, "_is_plain", lambda *_: False)
    slow = [split(" ".join(text.split()), language) for text in texts for language in ("english", "german", "turkish")]
    assert fast == slow


ANY = st.text(st.sampled_from("aB.?! \n\t\"'»«“”。！…」(\x1c\x85\u2028\ufeff3-中"), max_size=60)


@settings(max_examples=400, deadline=None)
@given(text=ANY, language=st.sampled_from(["english", "german", "greek"]))
def test_spans_are_ordered_and_hold_everything(text: str, language: str) -> None:
    found = list(sentence_spans(text, language))
    position = 0
    for start, end in found:
        assert position <= start < end <= len(text)
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("他来了。你好！真的吗？", "english", ["他来了。", "你好！", "真的吗？"]),
        ("她说：“只收耐心。”他笑了。", "english", ["她说：“只收耐心。”", "他笑了。"]),
        ('他说:"你好。"他走了。', "english", ['他说:"你好。"', "他走了。"]),
        ('他来了。"你好。"', "english", ["他来了。", '"你好。"']),
        ("「はい。」と言った。次。", "english", ["「はい。」と言った。", "次。"]),
        ("她愣了很久……然后笑了！！光环", "english", ["她愣了很久……", "然后笑了！！", "光环"]),
        ("版本 2.0 发布了。价格是3.5元。", "english", ["版本 2.0 发布了。", "价格是3.5元。"]),
        ("Dr. Li said so. 他同意。He left. Bye.", "english", ["Dr. Li said so.", "他同意。", "He left.", "Bye."]),
        ("यह एक वाक्य है। यह दूसरा है॥ हाँ।", "english", ["यह एक वाक्य है।", "यह दूसरा है॥", "हाँ।"]),
        ("هل هذا صحيح؟ نعم. شكرا", "english", ["هل هذا صحيح؟", "نعم.", "شكرا"]),
        ("یہ ایک جملہ ہے۔ دوسرا", "english", ["یہ ایک جملہ ہے۔", "دوسرا"]),
        ("Սա նախադասություն է։ Երկրորդ", "english", ["Սա նախադասություն է։", "Երկրորդ"]),
        ("ይህ ነው። ሁለተኛ", "english", ["ይህ ነው።", "ሁለተኛ"]),
        ("Wait… what? Yes.", "english", ["Wait… what?", "Yes."]),
        ("Il part. « Je reste », dit-elle. Oui.", "french", ["Il part.", "« Je reste », dit-elle.", "Oui."]),
        ("Il a dit « Je pars. » Elle reste.", "french", ["Il a dit « Je pars. »", "Elle reste."]),
        ("Il part. «", "french", ["Il part. «"]),
        ("Er sagte: »Ich gehe.« Sie blieb.", "german", ["Er sagte: »Ich gehe.«", "Sie blieb."]),
        ("Am 3. Oktober kam Dr. Ah, d. h. spät. Gut.", "german", ["Am 3. Oktober kam Dr. Ah, d. h. spät.", "Gut."]),
        ("", "english", []),
        (" \n ", "english", []),
    ],
)  # fmt: skip
def test_sentences(text: str, language: str, expected: list[str]) -> None:
    assert split(text, language) == expected


def test_a_sentence_without_end_is_cut_between_words() -> None:
    text = "word " * 30_000
    pieces = split(text)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= WIDEST
    assert {word for piece in pieces for word in piece.split()} == {"word"}


def test_the_language_is_guessed_from_the_text() -> None:
    for language in ("french", "german"):
        assert detect(SAMPLES[f"{language}.txt"], "english") == language
    assert detect(SAMPLES["article.txt"], "german") == "english"
    assert detect("Это предложение. И ещё одно.", "english") == "russian"
    assert detect("Αυτή είναι μια πρόταση.", "english") == "greek"
    assert detect("OK 42", "german") == "german"
    assert detect("你好", "english") == "english"
