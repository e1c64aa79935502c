"""Languages: every usual name and code finds one, and what is no language is refused with what it may have been."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.errors import UsageError
from llmpar.tasks.languages import Language, find_language


@pytest.mark.parametrize(
    ("names", "tag", "name"),
    [
        (["French", "french", "FRENCH", " French ", "français", "FRANÇAIS", "franc\u0327ais", "法语"], "fr", "French"),
        (["fr", "FR", "fra", "fre", "francés"], "fr", "French"),
        (["German", "Deutsch", "deutsch", "de", "deu", "ger"], "de", "German"),
        (["Chinese", "中文", "zh", "zho", "chi"], "zh", "Chinese"),
        (["日本語", "Japanese", "ja", "jpn"], "ja", "Japanese"),
        (["Brazilian Portuguese", "pt-BR", "pt_br", "Portuguese (Brazil)"], "pt-BR", "Brazilian Portuguese"),
        (
            ["traditional chinese", "Chinese (Traditional)", "繁體中文", "中文（繁體）"],
            "zh-Hant",
            "Traditional Chinese",
        ),
        (["zh-hant", "traditional-chinese"], "zh-Hant", "Traditional Chinese"),
        (["zh-TW"], "zh-TW", "Chinese (Traditional, Taiwan)"),
        (["pa-PK"], "pa-PK", "Punjabi (Arabic, Pakistan)"),
        (["Español (Latinoamérica)", "es-419", "Latin American Spanish"], "es-419", "Latin American Spanish"),
        (["Serbian (Cyrillic)", "sr-Cyrl"], "sr-Cyrl", "Serbian (Cyrillic)"),
        (["no", "Norwegian"], "no", "Norwegian"),
        (["iw", "Hebrew"], "he", "Hebrew"),
        (["Farsi", "fas", "per"], "fa", "Persian"),
        (["Türkçe", "TÜRKÇE"], "tr", "Turkish"),
    ],
)
def test_a_language_is_found_by_any_of_its_names(names: list[str], tag: str, name: str) -> None:
    assert {find_language(given) for given in names} == {Language(tag, name)}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Frnech", "French"),
        ("Deutsh", "Deutsch"),
        ("brazilian portugese", "Brazilian Portuguese"),
        ("espanol", "español"),
        ("Germanium", "German"),
    ],
)
def test_a_slip_is_told_what_may_have_been_meant(name: str, suggestion: str) -> None:
    with pytest.raises(UsageError, match=rf"^source language '{name}': no language; did you mean .*\b{suggestion}\b"):
        find_language(name, "source language")


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a", "xx", "english please", "to French", "French and German", "gibberish that is long enough"),
        *("und", "mul", "zxx", "mis", "root", "qaa", "afa", "sgn", "x-mine", "en-x-pirate", "en-XX", "i-default"),
        *("en-u-ca-buddhist", "fr-QQ", "de-Qaaa", "{text}", "French\x00", "\ud800", "French (Narnia)"),
        *("fr" * 5000, "a-" * 5000),
    ],
)
def test_what_is_no_language_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no language"):
        find_language(name)


@given(st.text(max_size=20) | st.from_regex(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", fullmatch=True))
def test_any_text_is_a_language_or_refused_on_one_line(name: str) -> None:
    found, refusal = None, ""
    try:
        found = find_language(name)
    except UsageError as error:
        refusal = str(error)
    assert "\n" not in refusal
    if found:
        assert find_language(found.tag).tag in (found.tag, "fil")  # the name Tagalog, tl, has its own code
        assert "Unknown" not in found.name


def test_nothing_is_loaded_before_a_language_is_looked_for() -> None:
    code = "import sys, llmpar.tasks.languages; print({'langcodes', 'language_data'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
