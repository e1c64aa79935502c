"""What a shell's user gets of servers: exit codes, warnings, notices, and keys that are nowhere to be found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from support.program import Outcome
from support.servers import Body, Response, Server, echo, failed, said, serving, text_of

KEY = "sk-sesame-9f8e7d6c5b4a"
LINES = [f"line {number}" for number in range(30)]
DOCUMENT = "".join(f"{line}\n" for line in LINES).encode()
ASK = ("run", "Say this:\n{text}", "-u", "line")

Llmpar = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_document_goes_through_a_server(llmpar: Llmpar) -> None:
    with serving() as server:
        outcome = llmpar(*ASK, "--endpoint", server.url, stdin=DOCUMENT)
    assert (outcome.code, outcome.out) == (0, DOCUMENT.upper())
    assert outcome.err.startswith("llmpar run: 30 pieces, 210 tokens in, 90 out"), "silent but for one line"


def test_where_there_is_nothing_to_ask_no_server_need_be_there(llmpar: Llmpar) -> None:
    for text in (b"", b"\n \n"):
        outcome = llmpar(*ASK, "--endpoint", "http://127.0.0.1:9", stdin=text)
        assert (outcome.code, outcome.out) == (0, text)
    outcome = llmpar(*ASK, "--endpoint", "http://127.0.0.1:9", "--dry-run", stdin=DOCUMENT)
    assert outcome.code == 0
    told = [b"documents", b"1", b"pieces", b"(lines)", b"30", b"to", b"ask", b"30"]
    assert outcome.out.split()[:8] == told


def test_the_environment_names_a_server(llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("LLMPAR_ENDPOINT", server.url)
        monkeypatch.setenv("LLMPAR_DEVICE", "cpu")  # which is for other commands
        assert llmpar(*ASK, stdin=DOCUMENT).out == DOCUMENT.upper()


def test_a_batch_goes_through_a_server(llmpar: Llmpar) -> None:
    request = {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "any", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 9},
    }
    with serving() as server:
        outcome = llmpar("batch", "--endpoint", server.url, stdin=json.dumps(request).encode())
        (asked,) = server.asked
        server.answer = lambda _: failed(422, "never")
        refused = llmpar("batch", "--endpoint", server.url, "--no-store", stdin=json.dumps(request).encode())
    assert outcome.code == 0
    body = json.loads(outcome.out)["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "HELLO"
    assert body["usage"]["total_tokens"] == 10
    assert asked["max_tokens"] == 9
    assert refused.code == 3
    assert json.loads(refused.out)["error"]["error"]["code"] == 400


@pytest.mark.parametrize(
    ("arguments", "code", "said_of_it"),
    [
        (["--endpoint", "nonsense"], 2, "neither a URL"),
        (["--endpoint", "http://127.0.0.1:9/v1"], 69, "is it running"),
        (["--endpoint", "http://192.0.2.1/v1", "--offline"], 2, "is not on this machine"),
        (["--endpoint", "http://me:sesame@127.0.0.1:9/v1"], 2, "OPENAI_API_KEY"),
        (["--endpoint", "http://127.0.0.1:9", "--engine", "echo"], 2, "excludes engine echo"),
        (["--engine", "endpoint"], 2, "--endpoint"),
        (["--endpoint", "http://127.0.0.1:9", "-m", "x"], 2, "--model is for models on this machine"),
        (["--endpoint", "http://127.0.0.1:9", "--precision", "int8"], 2, "--precision is for models"),
        (["--endpoint-model", "x"], 2, "--endpoint-model is for servers"),
        (["--max-tokens-total", "5"], 2, "--max-tokens-total is for servers"),
        (["--endpoint", "http://127.0.0.1:9", "--api-key-file", "/nowhere"], 66, "/nowhere"),
        (["--endpoint", "http://127.0.0.1:9", "--max-tokens-total", "0"], 2, "max-tokens-total"),
    ],
)
def test_what_cannot_be_meant_is_named(arguments: list[str], code: int, said_of_it: str, llmpar: Llmpar) -> None:
    outcome = llmpar(*ASK, *arguments, stdin=DOCUMENT)
    assert outcome.code == code
    assert said_of_it in outcome.err
    assert "sesame" not in outcome.err
    assert outcome.out == b""


def test_texts_that_anybody_can_read_on_their_way_are_warned_of(
    llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("llmpar.answering.endpoint.address._is_ours", lambda *_: False)
    monkeypatch.setattr("llmpar.answering.endpoint.address.Address.is_here", property(lambda _: False))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        outcome = llmpar(*ASK, "--endpoint", server.url, stdin=DOCUMENT)
    assert outcome.code == 0
    assert "texts and the key go to another machine unencrypted" in outcome.err


def test_the_tokens_that_a_run_may_take(llmpar: Llmpar) -> None:
    with serving() as server:
        outcome = llmpar(*ASK, "--endpoint", server.url, "--max-tokens-total", "400", stdin=DOCUMENT)
    assert outcome.code == 124
    assert "--max-tokens-total 400: " in outcome.err
    assert "go on on the same stdin with: llmpar run" in outcome.err


def test_the_first_run_tells_a_person_where_texts_go() -> None:
    with serving() as server:
        for expected in (1, 0):
            command = ["-m", "llmpar", *ASK, "--endpoint", server.url, __file__, "--input-format", "plain"]
            child = pexpect.spawn(sys.executable, command, env={**os.environ, "TERM": "dumb"}, timeout=60)
            child.expect(pexpect.EOF)
            child.close()
            shown = b" ".join(child.before.split())
            assert child.exitstatus == 0
            assert shown.count(f"go to {server.url}, on this machine".encode()) == expected


# Keys.


def everything_written(directory: Path) -> bytes:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


@pytest.fixture
def slow_server() -> Iterator[Server]:
    def answer(body: Body) -> Response:
        if text_of(body) == "line 7":
            return failed(422, f"the key {KEY} may not ask this")
        if text_of(body) == "line 8":
            return failed(500, f"wrong: Bearer {KEY}")
        return said(text_of(body).upper())

    with serving(answer, seconds=0.1) as server:
        yield server


@pytest.mark.parametrize("by_file", [False, True])
def test_a_key_is_nowhere_to_be_found(tmp_path: Path, slow_server: Server, by_file: bool) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    secret.write_text(f"{KEY}\n")
    (home / "in.txt").write_bytes(DOCUMENT)
    given = ["--api-key-file", str(secret)] if by_file else []
    environment = {
        **os.environ,
        "LLMPAR_STATE": str(home / "state"),
        "TMPDIR": str(home),
        "OPENAI_LOG": "debug",
        **({} if by_file else {"OPENAI_API_KEY": KEY}),
    }
    command = [
        *(sys.executable, "-m", "llmpar", *ASK, "--endpoint", slow_server.url, "-j", "3", "-v", *given),
        *("--log", "log.jsonl", "--errors", "errors.jsonl", "-o", "out.txt", "--progress", "json", "in.txt"),
    ]
    process = subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    while not slow_server.asked and process.poll() is None:
        time.sleep(0.05)
    arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert (home / "out.txt").read_bytes().count(b"LINE") == 28
    assert {headers.get("authorization") for headers in slow_server.headers} == {f"Bearer {KEY}"}
    kept = everything_written(home)
    assert b"may not ask this" in kept, "what the server says is recorded"
    for place in (arguments, out, err, kept):
        assert KEY.encode() not in place


def test_a_key_that_is_refused_is_not_repeated(llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        server.pages["/v1/models"] = failed(401, f"Incorrect API key provided: {KEY}")
        outcome = llmpar(*ASK, "--endpoint", server.url, stdin=DOCUMENT)
    assert outcome.code == 69
    assert KEY not in outcome.err
    assert "Incorrect API key provided: [the key]" in outcome.err


def test_a_server_of_a_list_gets_its_own_key(tmp_path: Path, llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    with serving(seconds=0.05) as one, serving(seconds=0.05) as other:
        (tmp_path / "servers").write_text(f"{one.url}\n{other.url} key=OTHER_KEY\n")
        outcome = llmpar(*ASK, "--endpoint", str(tmp_path / "servers"), "-j", "2", stdin=DOCUMENT)
        assert (outcome.code, outcome.out) == (0, DOCUMENT.upper())
        assert {headers["authorization"] for headers in one.headers} == {f"Bearer {KEY}"}
        assert {headers["authorization"] for headers in other.headers} == {"Bearer sk-other"}


# Signals.


def test_a_signal_keeps_what_is_finished(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(DOCUMENT)
    command = [sys.executable, "-m", "llmpar", *ASK, "-j", "2", "-o", "out.txt", "in.txt", "--endpoint"]
    with serving(echo, seconds=0.2) as server:
        process = subprocess.Popen([*command, server.url], cwd=tmp_path, stderr=subprocess.PIPE)
        while len(server.asked) < 8 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 143, err
        assert b"go on with" in err
        first = len(server.asked)
        server.seconds = 0.0
        again = subprocess.run([*command, server.url], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert again.returncode == 0, again.stderr
        assert len(server.asked) <= len(LINES) + 2, "only what was on its way is asked again"
    assert first < len(LINES)
    assert (tmp_path / "out.txt").read_bytes() == DOCUMENT.upper()
