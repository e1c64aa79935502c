"""What an encoding cannot write fails by itself and is named, and what cannot be read is told with what it may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.program import Outcome

from llmpar.answering import echo
from llmpar.documents.encodings import looks_like

Call = Callable[..., Outcome]
RUN = ("run", "{text}", "--engine", "echo", "--encoding", "latin-1")
WHY = "the answer has U+010D (LATIN SMALL LETTER C WITH CARON), which iso8859-1, the document's encoding, cannot write"


@pytest.fixture
def czech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the echo write another letter for c, which Latin-1 lacks."""
    own = echo.CODEC
    monkeypatch.setattr(echo, "CODEC", replace(own, decode=lambda ids: own.decode(ids).replace("c", "č")))


@pytest.mark.usefixtures("czech")
class TestWhatIsLacking:
    @pytest.mark.parametrize(
        ("fate", "line"),
        [("keep", "Ecké"), ("mark", f"[llmpar: {WHY}; --output-encoding utf-8 can] Ecké"), ("skip", "")],
    )
    def test_a_piece_fails_alone(self, fate: str, line: str, llmpar: Call) -> None:
        source = "Äpfel\nEcké\nÖl\n".encode("latin-1")
        outcome = llmpar(*RUN, "-u", "line", "--on-error", fate, stdin=source)
        assert (outcome.code, outcome.out.decode("latin-1")) == (3, f"Äpfel\n{line}\nÖl\n"), outcome.err
        assert WHY in outcome.err
        assert "1 failed" in outcome.err

    def test_another_encoding_has_it(self, llmpar: Call) -> None:
        for more in (("--output-encoding", "utf-8"), ("--merge", "lines")):
            outcome = llmpar(*RUN, *more, "-u", "line", stdin="Ecké\n".encode("latin-1"))
            assert (outcome.code, outcome.out.decode()) == (0, "Ečké\n"), outcome.err

    @pytest.mark.parametrize(
        ("name", "source", "expected"),
        [
            ("a.jsonl", '{"text": "Ecké"}\n', '{"text": "E\\u010dké"}\n'),
            ("a.json", '{"text": "Ecké"}\n', '{"text": "E\\u010dké"}\n'),
            ("a.html", "<p>Ecké</p>\n", "<p>E&#269;ké</p>\n"),
            ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nEcké\n", "WEBVTT\n\n00:01.000 --> 00:02.000\nE&#269;ké\n"),
            ("a.properties", "a = Ecké\n", "a = E\\u010Dké\n"),
        ],
    )
    def test_some_formats_can_spell_it(
        self, name: str, source: str, expected: str, llmpar: Call, tmp_path: Path
    ) -> None:
        (tmp_path / name).write_bytes(source.encode("latin-1"))
        given = ("--field", "text") if "json" in name else ()
        outcome = llmpar(*RUN, *given, str(tmp_path / name))
        assert (outcome.code, outcome.out.decode("latin-1")) == (0, expected), outcome.err

    def test_equal_pieces_of_documents_in_other_encodings(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes("\ufeffcc\n".encode())
        (tmp_path / "b.txt").write_bytes(b"cc\n")
        outcome = llmpar(*RUN, str(tmp_path / "b.txt"), str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
        assert (outcome.code, outcome.out) == (3, "cc\n\ufeffčč\ncc\n".encode()), outcome.err

    def test_a_catalogue_is_in_the_encoding_that_it_names(self, llmpar: Call, tmp_path: Path) -> None:
        head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
        (tmp_path / "a.po").write_bytes((head + 'msgid "é"\nmsgstr ""\n').encode("latin-1"))
        outcome = llmpar(*RUN, str(tmp_path / "a.po"))
        assert (outcome.code, outcome.out.decode("latin-1")) == (0, head + 'msgid "é"\nmsgstr "é"\n'), outcome.err
        (tmp_path / "b.po").write_bytes((head + 'msgid "e"\nmsgstr ""\n').encode("latin-1"))
        outcome = llmpar("run", "{text}", "--engine", "echo", str(tmp_path / "b.po"))
        assert (
            outcome.code,
            "b.po:2: is in ISO-8859-1, as it says; read it with --encoding ISO-8859-1" in outcome.err,
        ) == (
            65,
            True,
        ), outcome.err


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("Grüße aus Köln, schöne Straße über Nürnberg.".encode("cp1252"), {"cp1252", "latin-1", "cp1250", "cp1254"}),
        ("Быстрая лиса прыгает через ленивую собаку.".encode("cp1251"), {"cp1251"}),
        ("Hello, world.\n".encode("utf-16-le"), {"utf-16-le"}),
        ("Hello, world.\n".encode("utf-16-be"), {"utf-16-be"}),
        ("Größe, Höhe".encode() + b"\xff", {None}),
        (bytes(range(256)), {None}),
    ],
)
def test_advice_fits_the_bytes(data: bytes, name: set[str | None], llmpar: Call) -> None:
    assert looks_like(data) in name
    outcome = llmpar("run", "{text}", "--engine", "echo", stdin=data)
    assert outcome.code == 65
    guess = looks_like(data)
    assert (f"{guess}; " in outcome.err or f"{guess}\n" in outcome.err) == (guess is not None), outcome.err


@pytest.mark.parametrize(
    "option",
    [
        ("--encoding", "latin-1"),
        ("--output-encoding", "latin-1"),
        ("--input-format", "plain"),
        ("--encoding-errors", "surrogateescape"),
        ("--field", "text"),
        ("--column", "1"),
        ("--into", "x"),
        ("-u", "line"),
        ("--language", "german"),
    ],
)
def test_requests_are_not_read_so(
    option: tuple[str, str], llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"model": "x", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    given = ("batch", "--engine", "echo", "--no-store", str(tmp_path / "r.jsonl"))
    outcome = llmpar(*given, *option)
    assert (outcome.code, "affects nothing here" in outcome.err) == (2, True), outcome.err
    if option[0] == "--encoding":
        monkeypatch.setenv("LLMPAR_ENCODING", "latin-1")  # is for all commands, and may mean nothing to one
        assert llmpar(*given).code == 0
