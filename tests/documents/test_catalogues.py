"""Catalogues of gettext: plural forms by the language's rule, fuzzy marks, and messages that no answer breaks."""

from __future__ import annotations

import gettext
import io
import re
from pathlib import Path
from typing import Any

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import read_segments, split_text

ENTRY = '#: a.c:1\n#, c-format\nmsgid "One boat"\nmsgid_plural "%d boats"\nmsgstr[0] ""\nmsgstr[1] ""\n'
HEAD = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
RULES = {
    "de": "nplurals=2; plural=(n != 1);",
    "pl": "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);",
    "ru": "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);",
    "ja": "nplurals=1; plural=0;",
    "fr": "nplurals=2; plural=(n > 1);",
    "sl": "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);",
}


def split(text: str, tag: str = "", **options: Any) -> tuple[Block, list[Segment]]:
    reading = Reading(options=FormatOptions(**options), into_language=tag)
    return split_text(text, reading, Document(0, "a.po", Path("a.po"), Encoding()))


def answered(block: Block, segments: list[Segment], answers: list[str] | None = None, fate: Any = None) -> str:
    given = answers or [f"{segment.text}!" for segment in segments]
    results = [Result(s, answer, "why" if fate else None) for s, answer in zip(segments, given, strict=True)]
    return "".join(merge(block, segments, iter(results), fate or "keep"))


class TestPlurals:
    @pytest.mark.parametrize(
        ("tag", "sources"),
        [
            ("de", ["One boat", "%d boats"]),
            ("pl", ["One boat", "%d boats", "%d boats"]),
            ("ru", ["%d boats", "%d boats", "%d boats"]),  # 21 is one, too
            ("ja", ["%d boats"]),
            ("fr", ["One boat", "%d boats"]),
            ("sl", ["%d boats"] * 4),
        ],
    )
    def test_as_many_as_the_catalogue_says(self, tag: str, sources: list[str]) -> None:
        head = HEAD + f'"Plural-Forms: {RULES[tag]}\\n"\n\n'
        block, segments = split(head + ENTRY)
        assert [segment.text for segment in segments] == sources
        text = answered(block, segments)
        assert len(re.findall(r"(?m)^msgstr\[\d\] ", text)) == max(2, len(sources))
        if tag == "ja":  # the form that the language lacks stays as it is, and is for its author to remove
            assert text.endswith('msgstr[0] "%d boats!"\nmsgstr[1] ""\n')
            return
        catalogue = read_po(io.StringIO(text), abort_invalid=True)
        assert catalogue["One boat"].string == tuple(f"{source}!" for source in sources)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        assert gettext.GNUTranslations(compiled).ngettext("One boat", "%d boats", 5) == "%d boats!"

    @pytest.mark.parametrize(
        ("tag", "count"), [("", 2), ("de", 2), ("pl", 3), ("ar", 6), ("pt-BR", 2), ("fr", 2), ("xx-YY", 2)]
    )
    def test_else_as_many_as_the_language_has(self, tag: str, count: int) -> None:
        assert len(split(HEAD + "\n" + ENTRY, tag)[1]) == count
        said = HEAD + f'"Language: {tag.replace("-", "_")}\\n"\n\n'
        assert len(split(said + ENTRY)[1]) == count

    def test_a_template_is_filled_in(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pot"
        path.write_text(
            HEAD + '"Language: \\n"\n"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"\n\n' + ENTRY, "utf-8"
        )
        ((block, segments),) = read_segments(0, str(path), Reading(into_language="pl"))
        text = answered(block, segments)
        assert '"Language: pl\\n"\n"Plural-Forms: nplurals=3; plural=n == 1 ? 0 :' in text
        assert len(read_po(io.StringIO(text), abort_invalid=True)["One boat"].string) == 3
        ((block, segments),) = read_segments(0, str(path), Reading())  # nobody says a language
        assert answered(block, segments, fate="keep") == path.read_text("utf-8")

    @pytest.mark.parametrize("rule", ["n/", "n%0", "(" * 3000, "__import__('os')", "n**n**n", "1 if n else 0"])
    def test_a_rule_that_is_none(self, rule: str) -> None:
        head = HEAD + f'"Plural-Forms: nplurals=3; plural={rule};\\n"\n\n'
        assert [segment.text for segment in split(head + ENTRY)[1]] == ["One boat", "%d boats", "%d boats"]

    @pytest.mark.parametrize(("fate", "added"), [("keep", ""), ("skip", ""), ("mark", '\nmsgstr[2] "[llmpar: why] %d')])
    def test_a_form_that_fails(self, fate: str, added: str) -> None:
        head = HEAD + f'"Plural-Forms: {RULES["pl"]}\\n"\n\n'
        text = answered(*split(head + ENTRY), fate=fate)
        assert added in text if added else text == head + ENTRY


class TestFuzzy:
    SOURCE = (
        'msgid "a"\nmsgstr ""\n\n#, c-format\nmsgid "b"\nmsgstr ""\n\n#, fuzzy\nmsgid "c"\nmsgstr "old"\n\n'
        'msgid "d"\nmsgstr "done"\n\n#, fuzzy\n#~ msgid "x"\n#~ msgstr ""\n\nmsgctxt "m"\nmsgid "e"\n'
        'msgid_plural "es"\nmsgstr[0] ""\nmsgstr[1] ""\n'
    )

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_new_ones_are_marked_on_request(self, newline: str) -> None:
        source = self.SOURCE.replace("\n", newline)
        assert answered(*split(source), fate="keep") == source
        plain, marked = answered(*split(source)), answered(*split(source, fuzzy=True))
        expected = (
            plain.replace('msgid "a"', f'#, fuzzy{newline}msgid "a"')
            .replace("#, c-format", "#, fuzzy, c-format")
            .replace('msgctxt "m"', f'#, fuzzy{newline}msgctxt "m"')
        )
        assert marked == expected
        catalogue = read_po(io.StringIO(marked), abort_invalid=True)
        assert [bool(message.fuzzy) for message in catalogue if message.id] == [True, True, True, False, True]
        assert answered(*split(marked, fuzzy=True)).count("fuzzy") == marked.count("fuzzy")

    def test_what_fails_is_not(self) -> None:
        for fate in ("keep", "skip"):
            assert "fuzzy\nmsgid" not in answered(*split(self.SOURCE, fuzzy=True), fate=fate).replace(
                "fuzzy\n#~", ""
            ).replace('#, fuzzy\nmsgid "c"', "")


TEXTS = st.text('ab é%"\\\n\t', max_size=8)
MESSAGES = st.lists(
    st.tuples(TEXTS.filter(bool), TEXTS, st.booleans(), st.booleans()), max_size=5, unique_by=lambda m: m[0]
)
ANSWERS = st.lists(
    st.sampled_from(["a ", '"', "\\", "\n", "\r", 'msgid "x"', "#", "\t", "é", "%d", '"\n"']), max_size=6
)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", '\\n"\n"')
    return f'"{escaped}"'


@settings(deadline=None)
@given(MESSAGES, st.data(), st.sampled_from(["", "pl", "fr"]), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_any_catalogue(messages: list[Any], data: Any, tag: str, fuzzy: bool, newline: str) -> None:
    source = HEAD + (f'"Plural-Forms: {RULES[tag]}\\n"\n' if tag else "") + "\n"
    for text, string, is_fuzzy, is_plural in messages:
        source += ("#, fuzzy\n" if is_fuzzy else "#. note\n") + f"msgid {quoted(text)}\n"
        source += (
            f'msgid_plural {quoted(text + "s")}\nmsgstr[0] {quoted(string)}\nmsgstr[1] ""\n\n'
            if is_plural
            else f"msgstr {quoted(string)}\n\n"
        )
    source = source.replace("\n", newline)
    block, segments = split(source, tag, fuzzy=fuzzy)
    assert answered(block, segments, fate="keep") == source
    answers = ["".join(data.draw(ANSWERS)) or "a" for _ in segments]
    fate = data.draw(st.sampled_from([None, "mark", "skip"]))
    text = answered(block, segments, answers, fate)
    before, after = (list(read_po(io.StringIO(one, newline=None), abort_invalid=True)) for one in (source, text))
    assert [(m.id, m.context) for m in after] == [(m.id, m.context) for m in before]
    assert set(re.findall(r"\r\n|\n|\r", text)) <= {newline}
    split(text, tag)  # and it can be read again
