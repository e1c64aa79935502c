"""Where servers are, as the user names them: a URL, or a file with a list of URLs. Opens no connection."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llmpar.errors import InputError, UsageError, setting
from llmpar.smallfile import read_whole
from llmpar.visible import one_line

KEY_VARIABLE = "OPENAI_API_KEY"
_USUAL_PATH = "/v1"
_SETTINGS = ("model", "key")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Address:
    """One server.

    Args:
        url: where its interface begins, such as `http://localhost:8080/v1`.
        model: what it calls the model; None if it has only one.
        key_variable: the environment variable that holds the key for it.
    """

    url: str
    model: str | None = None
    key_variable: str = KEY_VARIABLE

    @property
    def root(self) -> str:
        """What stands before the interface's usual path; servers have paths of their own there."""
        return self.url.removesuffix(_USUAL_PATH)

    @property
    def host(self) -> str:
        """The name or number of the machine."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_here(self) -> bool:
        """Whether it is this machine's own; no name is looked up for that."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            number = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return number.is_loopback or _is_ours(str(number), number.version)

    @property
    def is_open_to_others(self) -> bool:
        """Whether whoever is on the way there can read along."""
        return self.url.startswith("http://") and not self.is_here


def find_addresses(given: Iterable[str], model: str | None = None) -> tuple[Address, ...]:
    """Return the servers that the user names, each once.

    Args:
        given: URLs, and files that list some.
        model: what those servers call the model that are listed without a name for it.

    Raises:
        UsageError: one is no URL of a server, holds a password, or is named twice with other settings.
        InputError: a list is malformed.
        InputUnreadable: a list cannot be read.
    """
    found: dict[str, Address] = {}
    for one in given:
        for address in [_address(one, model)] if "://" in one else _listed(Path(one), model):
            if found.setdefault(address.url, address) != address:
                raise UsageError(f"{_setting()} {address.url}: is named twice, with different settings")
    if not found:
        raise UsageError(f"{_setting()}: names no server")
    return tuple(found.values())


def _address(given: str, model: str | None, key_variable: str = KEY_VARIABLE) -> Address:
    name = _setting()
    try:
        parts = urlsplit(given.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{name}: is no URL of a server: {error}") from error
    if parts.username is not None or parts.password is not None:
        # Everybody on this machine can read a command line, and this message may be kept: it does not say it again.
        raise UsageError(
            f"{name}: holds a user's name or password; put the key in {KEY_VARIABLE}, or in a file "
            f"({setting('api_key_file', 'FILE')})"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name} {one_line(given)}: is no URL of a server; write it like http://localhost:8080/v1")
    if parts.query or parts.fragment:
        raise UsageError(f"{name} {parts.scheme}://{parts.hostname}: leave out what stands behind the path (? or #)")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/") or _USUAL_PATH
    return Address(f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}", model, key_variable)


def _listed(file: Path, model: str | None) -> Iterator[Address]:
    """Yield the servers of a list: a URL a line, perhaps with `model=NAME` and `key=VARIABLE`, and # before remarks."""
    if not file.exists():
        raise UsageError(
            f"{_setting()} {one_line(file)}: is neither a URL such as http://localhost:8080/v1 nor a file "
            "that lists some"
        )
    try:
        text = read_whole(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(file)}: is no list of servers: not valid UTF-8 at byte {error.start}") from error
    for number, line in enumerate(text.splitlines(), 1):
        url, *words = line.partition("#")[0].split() or [""]
        if not url:
            continue
        place = f"{one_line(file)}:{number}"
        values = {name: value for name, _, value in (word.partition("=") for word in words)}
        if unknown := [word for word in words if word.partition("=")[0] not in _SETTINGS or word[-1] == "="]:
            # Not what it says: somebody may have put a key there.
            raise InputError(f"{place}: word {words.index(unknown[0]) + 2} is neither model=NAME nor key=VARIABLE")
        variable = values.get("key", KEY_VARIABLE)
        if not _VARIABLE.fullmatch(variable):
            raise InputError(f"{place}: key= names an environment variable, and holds no key")
        try:
            yield _address(url, values.get("model", model), variable)
        except UsageError as error:
            raise InputError(f"{place}: {error}") from error


def _setting() -> str:
    return setting("endpoints", option="--endpoint")


def _is_ours(number: str, version: int) -> bool:
    """Tell whether a number is one of this machine's, to which alone a socket can be bound."""
    try:
        with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.bind((number, 0))
    except OSError:
        return False
    return True
