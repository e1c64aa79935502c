"""What an input is: from its name, else from its beginning; and what is done about an option that means nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import Outcome

from llmpar.documents.formats.recognition import look
from llmpar.documents.formats.refused import BY_MAGIC, BY_SUFFIX, Refused

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-q")
BEGINNINGS = {
    "": "plain",
    "\n \n": "plain",
    "One. Two.\n": "plain",
    "No newline": "plain",
    "---\ntitle: x\n---\n\nText.\n": "markdown",
    "+++\ntitle = 1\n+++\n": "markdown",
    "---\ntitle: x\n\nIt is never closed.\n": "plain",
    "---\n\nA ruler.\n": "plain",
    "```js\nlet a\n```\n": "markdown",
    "~~~\ncode\n~~~\n": "markdown",
    "# Heading\n\nText.\n": "plain",
    '<h1 align="center">Title</h1>\n': "markdown",
    "<!-- a remark -->\n# Title\n": "markdown",
    "<john@example.org> wrote:\n": "plain",
    "\ufeffWEBVTT\n": "vtt",
    "WEBVTT - Titles\n\n00:01.000 --> 00:02.000\nHi\n": "vtt",
    "WEBVTTX\n": "plain",
    "1\n00:00:01,000 --> 00:00:02,000\nHi\n": "srt",
    "\r\n1\r\n00:00:01,000 -> 00:00:02,000\r\nHi\r\n": "srt",
    "1\nThe first.\n": "plain",
    "1984\n\nIt was a bright day.\n": "plain",
    'msgid ""\nmsgstr ""\n': "po",
    '# A file\n#\n\n#: a.c:1\nmsgctxt "x"\nmsgid "y"\n': "po",
    "# A comment\nand text\n": "plain",
    "<!DOCTYPE html>\n<p>Hi\n": "html",
    "\n<HTML lang=en>\n": "html",
    '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html>\n': "html",
    '<?xml version="1.0"?>\n<!-- a -->\n<!DOCTYPE a [\n<!ENTITY b "c">\n]>\n<a/>\n': "an XML document",
    '<?xml version="1.0"?>\n<svg/>\n': "an SVG drawing",
    '{"text": "a"}\n{"text": "b"}\n': "jsonl",
    '{"text": "a"}': "jsonl",
    '{"text": "a", \n "b": 1}\n': "json",
    "{\n  \"a\": 1\n}\n": "json",
    '[\n{"a": 1}\n]\n': "json",
    '["a", "b"]\n': "json",
    '{"text": oops}\n{"text": "b"}\n': "jsonl",
    "[1] Smith, On Boats.\n": "plain",
    "[Note: this is prose.]\n": "plain",
    "{{ page.title }}\n": "plain",
    "{text}\n": "plain",
    "% a comment\n\\documentclass{article}\n": "a LaTeX document",
    "BZh is how it begins.\n": "plain",
    "RIFFs and raffs.\n": "plain",
}  # fmt: skip


def named(found: str | Refused | None) -> str | None:
    return found.kind if isinstance(found, Refused) else found


@pytest.mark.parametrize(("text", "kind"), BEGINNINGS.items())
def test_beginnings(text: str, kind: str) -> None:
    assert named(look(text.encode(), is_whole=True)) == kind
    if text.isascii():
        assert named(look(b"\xff\xfe" + text.encode("utf-16-le"), is_whole=True)) == kind


@given(st.sampled_from(list(BEGINNINGS)) | st.lists(st.sampled_from(list(BEGINNINGS))).map("".join))
def test_what_is_decided_does_not_depend_on_the_pace(text: str) -> None:
    data = text.encode()
    whole = look(data, is_whole=True)
    for end in range(len(data)):
        early = look(data[:end], is_whole=False)
        assert early is None or early == whole, data[:end]


def test_prose_is_not_waited_for() -> None:
    assert look(b"A first line.\n", is_whole=False) == "plain"
    assert look(b"- an item\n", is_whole=False) == "plain"


@pytest.mark.parametrize("magic", [magic for magic, _ in BY_MAGIC])
def test_magics(magic: bytes, llmpar: Call) -> None:
    is_text = magic in (b"%PDF-", b"{\\rtf", b"%!PS")
    data = magic + (b"" if is_text else b"\x00\x01\xff") + b" and so on\n"
    assert isinstance(look(data, is_whole=False), Refused)
    outcome = llmpar(*ECHO, stdin=data)
    assert (outcome.code, outcome.out) == (65, b"")
    assert "which is not read" in outcome.err
    assert ("--input-format plain" in outcome.err) == is_text, "no advice to read what is no text as text"


@pytest.mark.parametrize("suffix", [".pdf", ".docx", ".doc", ".xlsx", ".epub", ".xliff", ".parquet", ".png", ".yaml"])
def test_what_is_recognised_by_its_name_is_refused_with_a_remedy(suffix: str, llmpar: Call, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    path.write_text("One. Two.\n")
    outcome = llmpar(*ECHO, str(path))
    assert (outcome.code, outcome.out) == (65, b"")
    assert f"{path}: is {BY_SUFFIX[suffix].kind}, which is not read: {BY_SUFFIX[suffix].remedy}" in outcome.err
    assert llmpar(*ECHO, "--input-format", "plain", str(path)).out == b"One. Two.\n"


def test_one_of_several_is_named_and_the_others_are_done(llmpar: Call, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\n")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4\n")
    outcome = llmpar(*ECHO, str(tmp_path / "b.pdf"), str(tmp_path / "a.txt"))
    assert (outcome.code, outcome.out) == (3, b"One.\n")
    assert "b.pdf: is a PDF document" in outcome.err


PIPED = "---\ntitle: Boat care\n---\n\n# Boat care\n\n```js\nopen(harbour); // wait. Then\n```\n\nWash it. Dry it.\n"


@pytest.mark.parametrize("text", [PIPED, PIPED.split("---\n\n", 1)[1]])
def test_piped_markdown_keeps_front_matter_and_fences(text: str, llmpar: Call) -> None:
    assert llmpar("split", stdin=text.encode()).out == b"Boat care\nWash it.\nDry it.\n"
    assert b"Then" in llmpar("split", "--input-format", "plain", stdin=text.encode()).out


class TestOptionsThatMeanNothing:
    def test_none_heeds_it(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("One.\n")
        for call in ((*ECHO, "--field", "x", str(path)), ("split", "--field", "x", str(path))):
            outcome = llmpar(*call)
            assert (outcome.code, outcome.out) == (2, b"")
            assert "--field affects nothing here: it is for jsonl" in outcome.err
            assert "what is read is plain" in outcome.err

    def test_stdin_is_looked_at_when_it_is_read(self, llmpar: Call) -> None:
        assert llmpar(*ECHO, "--field", "x", stdin=b"One.\n").code == 2
        assert llmpar(*ECHO, "--field", "x", stdin=b'{"x": "One."}\n').code == 0

    def test_one_of_several_is_enough(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("One.\n")
        (tmp_path / "b.jsonl").write_text('{"x": "Two."}\n')
        names = (str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"))
        assert llmpar(*ECHO, "--field", "x", *names).code == 0
        assert llmpar(*ECHO, "--field", "x", "-", names[1], stdin=b"One.\n").code == 0
        assert llmpar(*ECHO, "--field", "x", "--output-dir", str(tmp_path), names[0], "-", stdin=b"O.\n").code == 2

    def test_the_environment_is_for_all_commands(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_FIELD", "x")
        assert llmpar(*ECHO, stdin=b"One.\n").code == 0
