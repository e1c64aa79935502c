"""Where servers are, as the user names them, and the keys for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmpar.answering.endpoint.address import Address, find_addresses
from llmpar.answering.endpoint.keys import Key, find_key, read_key
from llmpar.errors import InputError, InputUnreadable, UsageError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        ("https://a.example/api/v3/chat/completions", "https://a.example/api/v3"),
        ("HTTPS://A.example", "https://a.example/v1"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_a_url_is_written_one_way(given: str, url: str) -> None:
    assert find_addresses([given]) == (Address(url),)


@pytest.mark.parametrize(
    "given",
    [
        "ftp://a/v1",
        "http:///v1",
        "http://a:99999999/v1",
        "http://a/v1?api-version=1",
        "http://a/v1#x",
        "http://[::1/v1",
    ],
)
def test_what_is_no_url_of_a_server(given: str) -> None:
    with pytest.raises(UsageError):
        find_addresses([given])


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        find_addresses(["https://me:sesame@a.example/v1"])
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://localhost:1/v1", True),
        ("http://x.localhost/v1", True),
        ("http://127.0.0.5:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://192.0.2.1/v1", False),
        ("http://localhost.example/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_whether_it_is_on_this_machine(url: str, is_here: bool) -> None:
    (address,) = find_addresses([url])
    assert address.is_here is is_here
    assert address.is_open_to_others is (not is_here and url.startswith("http:"))


def test_a_list(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("# ours\nhttp://a:1\n\nhttps://b/v1 model=x key=B_KEY  # theirs\n")
    assert find_addresses([str(file), "http://a:1/v1"], "m") == (
        Address("http://a:1/v1", "m"),
        Address("https://b/v1", "x", "B_KEY"),
    )


@pytest.mark.parametrize("line", ["http://a sesame-1", "http://a key=", "http://a key=sk-sesame", "nonsense", "a:80"])
def test_a_malformed_list_is_named_by_line_and_keeps_secrets(tmp_path: Path, line: str) -> None:
    file = tmp_path / "servers"
    file.write_text(f"http://b\n{line}\n")
    with pytest.raises((InputError, UsageError)) as refused:
        find_addresses([str(file)])
    assert f"{file}:2" in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_a_list_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a URL"):
        find_addresses([str(tmp_path / "no")])
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(UsageError, match="no server"):
        find_addresses([str(tmp_path / "empty")])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        find_addresses([str(tmp_path / "binary")])
    (tmp_path / "twice").write_text("http://a model=x\nhttp://a model=y\n")
    with pytest.raises(UsageError, match="twice"):
        find_addresses([str(tmp_path / "twice")])


def test_where_a_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " sesame ")
    assert find_key("SOME_KEY") == Key("sesame", "SOME_KEY")
    assert find_key("NO_KEY") is None
    (tmp_path / "key").write_text("other\n")
    assert read_key(tmp_path / "key").secret == "other"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"sesam\xc3\xa9"])
def test_a_file_without_a_key_is_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_key(tmp_path / "key")
    assert "two" not in str(refused.value)
    assert "sesam" not in str(refused.value)
    with pytest.raises(InputUnreadable):
        read_key(tmp_path / "no")


def test_a_key_does_not_show() -> None:
    key = Key("sesame", "X")
    assert "sesame" not in repr(key)
    assert key.hidden_in("wrong key: sesame!") == "wrong key: [the key]!"
