"""`--report` and `llmpar report`: the page says what the log says, with the texts, and is whole however a run ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.html_pages import hostile_texts, read_page
from support.program import Outcome

from llmpar.cli.particulars import command, commanded, without_secrets
from llmpar.documents.document import Result
from llmpar.errors import Interrupted
from llmpar.reporting.records import Records

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-u", "line")
TEXT = b"This is one line.\nThis is another one.\nThis is one line.\n\nThis is the last one.\n"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_page_says_what_the_log_says(llmpar: Call, tmp_path: Path) -> None:
    log, report, store = tmp_path / "log", tmp_path / "r.html", tmp_path / "store"
    outcome = llmpar(*ECHO, "--log", str(log), "--report", str(report), "--store", str(store), stdin=TEXT)
    assert (outcome.code, outcome.out) == (0, TEXT)
    page, told = read_page(report), records(log)
    assert len(page.rows) == len(told) == 4
    for row, record in zip(page.rows, told, strict=True):
        assert row["place"] == f"{record['document']}:{record['line']}"
        assert (row["reason"], row["cut"]) == (record["finish_reason"], record.get("cut", False))
        for name in ("error", "attempts", "prompt_tokens", "output_tokens", "seconds", "worker", "key", "model"):
            assert row[name] == record[name], name
    assert [row["source"] for row in page.rows] == [
        "This is one line.",
        "This is another one.",
        "This is one line.",
        "This is the last one.",
    ]
    assert [row["answer"] for row in page.rows] == [row["source"] for row in page.rows]
    assert [row["place"] for row in page.rows] == ["<stdin>:1", "<stdin>:2", "<stdin>:3", "<stdin>:5"]
    assert [row["origin"] for row in page.rows] == ["", "", "repeated", ""]
    assert [row["finished"] is None for row in page.rows] == [False, False, True, False]
    for said in ("Pieces4", "Repeated1", "Failed0", "--unit (given)line", "llmpar run"):
        assert said in page.text.replace("\n", "")


def test_hostile_texts_change_nothing(llmpar: Call, tmp_path: Path) -> None:
    texts = [text for text in hostile_texts() if text.strip() and not {*"\x00\r\n\u2028\x85"} & {*text}]
    texts = [text.encode("utf-8", "ignore").decode().strip() for text in texts]
    file, report, plain = tmp_path / "a<b>&'.txt", tmp_path / "r.html", tmp_path / "p.html"
    file.write_text("\n".join(texts) + "\n", "utf-8")
    assert llmpar(*ECHO, str(file), "--input-format", "plain", "--report", str(report), "-q").code == 0
    page = read_page(report)
    assert [row["source"] for row in page.rows] == texts
    assert [row["answer"] for row in page.rows] == texts
    llmpar(*ECHO, "--report", str(plain), "-q", stdin=b"Plain.\n")
    other = read_page(plain)
    assert (page.script, page.style, page.policy) == (other.script, other.style, other.policy)
    assert set(page.tags) == set(other.tags)


@pytest.mark.parametrize("limit", [(), ("--max-new-tokens", "5")])
def test_a_page_made_later_is_the_same(llmpar: Call, tmp_path: Path, limit: tuple[str, ...]) -> None:
    log, now, later, store = (tmp_path / name for name in ("log", "now", "later", "store"))
    given = (*ECHO, "--check", "echo", "--log", str(log), "--report", str(now), "--store", str(store), *limit)
    assert llmpar(*given, stdin=TEXT).code == 3
    outcome = llmpar("report", str(log), "--store", str(store), "-o", str(later))
    assert (outcome.code, outcome.out, outcome.err) == (0, b"", "")
    assert read_page(later).rows == read_page(now).rows
    row = read_page(later).rows[0]
    assert row["others"] == [[0, "This is one line.", "stop"]]
    assert row["error"] == "the answer repeats its source"
    assert "Not complete" not in read_page(later).text
    assert "{text}" in read_page(later).text, "the store knows what was asked"


def test_answers_that_a_limit_cut_are_found(llmpar: Call, tmp_path: Path, tiny_model: Path) -> None:
    log, now, later, store = (tmp_path / name for name in ("log", "now", "later", "store"))
    given = ("run", "{text}", "-u", "line", "-m", str(tiny_model), "--max-new-tokens", "3", "--store", str(store), "-q")
    given = (*given, "--log", str(log), "--report", str(now), "--check", "none", "-j", "1", "--device", "cpu")
    llmpar(*given, "--precision", "fp32", stdin=TEXT)
    page = read_page(now)
    assert any(row["cut"] and row["answer"] for row in page.rows)
    assert "Cut at the limit" in page.text
    assert llmpar("report", str(log), "--store", str(store), "-o", str(later)).code == 0
    # Beside an answer that was cut, the store keeps the key of its source alone.
    assert read_page(later).rows == [row | {"source": None} if row["cut"] else row for row in page.rows]


def test_texts_that_were_not_kept_are_said_to_be_missing(llmpar: Call, tmp_path: Path) -> None:
    log, later, store = (tmp_path / name for name in ("log", "later", "store"))
    llmpar(*ECHO, "--log", str(log), "--store", str(store), "--no-store-text", stdin=TEXT)
    outcome = llmpar("report", str(log), "--store", str(store), "-o", str(later))
    assert outcome.code == 0
    said = "llmpar report: of 4 pieces the source was not kept, or is no longer in the store.\n"
    assert outcome.err == said
    page = read_page(later)
    assert (page.rows[0]["source"], page.rows[0]["answer"]) == (None, "This is one line.")
    assert "Of 4 pieces the source was not kept" in page.text
    outcome = llmpar("report", str(log), "--store", str(tmp_path / "none"), stdin=None)
    assert "of 4 pieces the source and of 4 pieces the answer was not kept" in outcome.err
    assert not (tmp_path / "none").exists()
    assert outcome.out.startswith(b"<!doctype html>")


def test_a_file_of_failures_has_its_texts(llmpar: Call, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    llmpar(*ECHO, "--check", "echo", "--errors", str(errors), "--no-store", stdin=TEXT)
    outcome = llmpar("report", "--store", str(tmp_path / "none"), "-o", str(tmp_path / "r"), stdin=errors.read_bytes())
    assert (outcome.code, outcome.err) == (0, "")
    assert read_page(tmp_path / "r").rows[1]["source"] == "This is another one."


def test_the_page_says_that_an_input_could_not_be_read(llmpar: Call, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    (tmp_path / "b.bin").write_bytes(b"\x7fELF\0\0")
    page = tmp_path / "r.html"
    files = (str(tmp_path / "a.txt"), str(tmp_path / "b.bin"))
    assert llmpar("run", "{text}", "--engine", "echo", "--report", str(page), *files).code == 3
    assert "1 input could not be read" in page.read_text()


def test_a_terminal_is_shown_no_page(llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "my log.jsonl"
    llmpar("run", "{text}", "--engine", "echo", "--log", str(log), stdin=b"a")
    monkeypatch.setattr("llmpar.cli.report.is_terminal", lambda: True)
    outcome = llmpar("report", str(log))
    assert (outcome.code, outcome.out) == (2, b"")
    assert outcome.err.endswith(f": -o '{tmp_path / 'my log.html'}'\n"), outcome.err
    monkeypatch.setattr("llmpar.cli.report.is_terminal", lambda: False)
    assert llmpar("report", str(log)).out.startswith(b"<!doctype html>")


def test_half_a_last_line_is_left_out_and_other_files_are_refused(llmpar: Call, tmp_path: Path) -> None:
    log, report = tmp_path / "log", tmp_path / "r.html"
    llmpar(*ECHO, "--log", str(log), stdin=TEXT)
    log.write_bytes(log.read_bytes()[:-9])
    assert llmpar("report", str(log), "-o", str(report)).code == 0
    assert len(read_page(report).rows) == 3
    before = report.read_bytes()
    for held, said in ((b"No log.\n", "is no line of a log"), (b'{"a": 1}\n', "is no line of a log: it lacks some of")):
        log.write_bytes(held)
        outcome = llmpar("report", str(log), "-o", str(report))
        assert outcome.code == 65
        assert f"{log}:1: {said}" in outcome.err
        assert report.read_bytes() == before
    assert llmpar("report", str(tmp_path / "missing")).code == 66


def test_logs_of_earlier_versions_are_read(llmpar: Call, tmp_path: Path) -> None:
    log = tmp_path / "log"
    record = {
        "document": "a.txt",
        "index": 0,
        "start": 3,
        "end": 9,
        "key": "00",
        "model": "m",
        "finish_reason": "length",
    }
    log.write_text(
        json.dumps(record) + "\n" + json.dumps({**record, "key": 7, "attempts": "?", "finished": "x"}) + "\n"
    )
    assert llmpar("report", str(log), "-o", str(tmp_path / "r")).code == 0
    first, second = read_page(tmp_path / "r").rows
    assert (first["place"], first["cut"], first["finished"]) == ("a.txt (3-9)", True, None)
    assert second["finished"] is None


@pytest.mark.parametrize("way", ["signal", "failure"])
def test_a_run_that_ends_early_leaves_a_page_that_says_so(
    llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    report = tmp_path / "r.html"
    report.write_text("an old page")
    add, seen = Records.add, []

    def interrupt(self: Records, result: Result) -> None:
        if len(seen) == 2 and way == "signal":
            raise Interrupted(2)
        seen.append(result)
        add(self, result)

    monkeypatch.setattr(Records, "add", interrupt)
    ends = ("--check", "echo", "--on-error", "fail") if way == "failure" else ()
    outcome = llmpar(*ECHO, "--report", str(report), *ends, "-o", str(tmp_path / "out"), stdin=TEXT)
    page = read_page(report)
    assert "Not complete." in page.text
    assert "The run ended early" in page.text
    if way == "signal":
        assert outcome.code == 130
        assert "interrupted by SIGINT" in page.text
        assert [row["source"] for row in page.rows] == ["This is one line.", "This is another one."]
    else:
        assert outcome.code == 3
        assert [row["error"] for row in page.rows] == ["the answer repeats its source"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"], "nothing else is left"


def test_a_page_that_cannot_be_written_is_said_before_the_model_is_read(llmpar: Call, tmp_path: Path) -> None:
    outcome = llmpar(*ECHO, "--report", str(tmp_path / "missing" / "r.html"), stdin=TEXT)
    assert outcome.code == 73
    assert outcome.out == b""
    assert "r.html: cannot be created" in outcome.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_never_a_success(llmpar: Call) -> None:
    outcome = llmpar(*ECHO, "--report", "/dev/full", stdin=TEXT)
    assert (outcome.code, outcome.out) == (74, TEXT)
    assert outcome.err.splitlines()[-1].startswith("llmpar: /dev/full: writing failed")


def test_the_report_may_not_be_another_file_of_the_run(llmpar: Call, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT)
    for other in (("--log", str(file)), ("-o", str(file)), ("--errors", str(file))):
        name = tmp_path / "b.txt"
        name.write_bytes(TEXT)
        assert llmpar(*ECHO, str(name), "--report", str(file), *other).code == 2
    assert llmpar(*ECHO, str(file), "--report", str(file)).code == 2
    assert file.read_bytes() == TEXT


def test_other_commands_make_pages(llmpar: Call, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    assert llmpar("translate", "--to", "French", "--engine", "echo", "--report", str(report), stdin=TEXT).code in (0, 3)
    assert len(read_page(report).rows) == 4
    assert llmpar("summarize", "--engine", "echo", "--report", str(report), stdin=TEXT * 400).code in (0, 3)
    assert read_page(report).rows
    assert llmpar(
        "ask", "Which line is this?", "--top", "all", "--engine", "echo", "--report", str(report), stdin=TEXT
    ).code in (0, 3)
    assert read_page(report).rows
    body = {"model": "m", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hello?"}]}
    request = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    log, store = tmp_path / "log", tmp_path / "store"
    given = ("--engine", "echo", "--report", str(report), "--log", str(log), "--store", str(store))
    assert llmpar("batch", *given, stdin=json.dumps(request).encode() + b"\n").code == 0
    (row,) = read_page(report).rows
    assert row["source"] == "Hello?"
    assert llmpar("report", str(log), "--store", str(store), "-o", str(tmp_path / "later")).code == 0
    assert read_page(tmp_path / "later").rows == [row]


def test_an_empty_input_makes_an_empty_page(llmpar: Call, tmp_path: Path) -> None:
    assert llmpar(*ECHO, "--report", str(tmp_path / "r"), stdin=b"").code == 0
    page = read_page(tmp_path / "r")
    assert page.rows == []
    assert "Pieces0" in page.text.replace("\n", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("--endpoint http://me:hunter22@host:8080/v1", "--endpoint http://…@host:8080/v1"),
        ("x sk-abcdefghij0123456789", "x …"),
        ("x hf_abcdefghijklmn y", "x … y"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("http://host/v1?user=me&api_key=12345", "http://host/v1?…&…"),
        ("api_key=12345 token=67890", "api_key=… token=…"),
        ("a value from-the-environment b", "a value … b"),
        *((text, text) for text in ("--max-tokens-total 500 --api-key-file key.txt", "What? Ask=1")),
    ],
)  # fmt: skip
def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, given: str, kept: str) -> None:
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    assert without_secrets(given) == kept


def test_the_command_is_shown_as_a_shell_takes_it(
    llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-key")
    report = tmp_path / "r.html"
    llmpar(*ECHO, "--set-nothing", stdin=TEXT)
    llmpar("run", "Say 'very-secret-key': {text}", "--engine", "echo", "--report", str(report), "-q", stdin=TEXT)
    page = read_page(report)
    assert "very-secret-key" not in page.html
    assert f"llmpar run 'Say '\"'\"'…'\"'\"': {{text}}' --engine echo --report {report} -q" in page.text
    with commanded(["a b"]):
        assert command() == "llmpar 'a b'"
