"""A glossary: how terms are to be translated, read from a CSV file, and which of them a text holds. Knows no language.

A term is found as whole words, in any case, unless it has capitals inside a word (NATO, iPhone): then as it is written.
Scripts without spaces have no whole words to find, nor has Korean, which joins particles to its nouns.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from llmpar.errors import InputError, UsageError
from llmpar.smallfile import read_whole
from llmpar.tasks.languages import find_language
from llmpar.visible import one_line

_HEADER = ("source", "target")
_SEPARATORS = "\t;,"
_LONGEST_WORD = 200  # characters; composing the accents of a longer one could take quadratic time
# Python's \w leaves out the signs that many scripts write vowels with.
_MARKED = map(chr, chain(range(0x300, 0x2000), range(0xA66F, 0xAC00)))
_MARK = "".join(char for char in _MARKED if unicodedata.category(char)[0] == "M")
# Thai, Lao, Burmese, Khmer; Chinese and Japanese; Korean.
_APART = (
    "\u0e00-\u0e4e\u0e80-\u0ece\u1000-\u103f\u1780-\u17d3\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003fffd"
)
TOKEN = re.compile(rf"[{_APART}][{_MARK}]*|(?:(?![{_APART}])[\w{_MARK}\u200c\u200d])+|[^\w\s]")
"""A word, a character of a script without spaces, or a mark."""


@dataclass(slots=True)
class _Node:
    """Where the words read so far lead: on to more of them, and to the terms that end here."""

    following: dict[str, _Node] = field(default_factory=dict)
    exact: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    folded: tuple[str, str] | None = None


class Glossary:
    """Terms with their translations.

    Args:
        terms: pairs of source and target; a later one replaces an equal one.
    """

    def __init__(self, terms: Iterable[tuple[str, str]]) -> None:
        self._root = _Node()
        self._keys: set[str] = set()
        for term in terms:
            self._keys.add(key_of(term[0]))
            tokens = _tokens(term[0])
            node = self._root
            for token in tokens:
                node = node.following.setdefault(token.casefold(), _Node())
            if _has_inner_capital(tokens):
                node.exact[tuple(tokens)] = term
            elif tokens:
                node.folded = term

    @classmethod
    def read(cls, path: Path) -> Glossary:
        """Return the glossary in a CSV file: two columns, source and target, in UTF-8.

        The first of tab, semicolon and comma that the first row has sets all columns apart. That row is a header if it
        says "source" and "target", or names two different languages; a third column, which a header must name, is for
        people.

        Raises:
            InputError: the file is no such table.
            InputUnreadable: it cannot be read.
        """
        return cls.parse(one_line(path), read_whole(path))

    @classmethod
    def parse(cls, shown: str, data: bytes) -> Glossary:
        """Return the glossary that the bytes of a file make; see `read`.

        Args:
            shown: the file's name, for messages.
            data: its bytes.

        Raises:
            InputError: they are no such table.
        """
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InputError(f"{shown}:{line}: not valid UTF-8; save it as CSV UTF-8") from error
        return cls(_terms(shown, text))

    def __contains__(self, source: str) -> bool:
        """Tell whether it has a term that is found in just the places of this one."""
        return key_of(source) in self._keys

    def terms_in(self, text: str) -> tuple[tuple[str, str], ...]:
        """Return the terms that occur in `text` with their translations, each once, in the order of the text.

        Where terms overlap, the one that begins first counts, and of those the longest.
        """
        tokens = _tokens(text)
        found: dict[tuple[str, str], None] = {}
        first = self._root.following
        i = 0
        while i < len(tokens):
            end = i + 1
            if node := first.get(tokens[i].casefold()):
                term, end = _longest(node, tokens, i)
                if term:
                    found[term] = None
            i = end
        return tuple(found)


def _longest(node: _Node | None, tokens: list[str], start: int) -> tuple[tuple[str, str] | None, int]:
    """Return the longest term from `start` on, and where the search goes on; `node` is where its first word leads."""
    longest, after = None, start + 1
    end = start + 1
    while node:
        term = node.exact.get(tuple(tokens[start:end])) if node.exact else None
        if term := term or node.folded:
            longest, after = term, end
        if end == len(tokens):
            break
        node = node.following.get(tokens[end].casefold())
        end += 1
    return longest, after


def _tokens(text: str) -> list[str]:
    tokens: list[str] = TOKEN.findall(text)
    if text.isascii():
        return tokens
    return [unicodedata.normalize("NFC", token) if len(token) <= _LONGEST_WORD else token for token in tokens]


def _has_inner_capital(tokens: list[str]) -> bool:
    return any(char.isupper() for token in tokens for char in token[1:])


def key_of(source: str) -> str:
    """Return what terms have in common that are found in the same places."""
    tokens = _tokens(source)
    return " ".join(tokens if _has_inner_capital(tokens) else (token.casefold() for token in tokens))


def _terms(shown: str, text: str) -> Iterator[tuple[str, str]]:
    known: dict[str, tuple[str, int]] = {}
    num_columns = 0
    for line, row in rows_of(shown, text):
        if not num_columns:
            header = is_header(row)
            num_columns = max(2, len(row)) if header else 2
            if header and num_columns < 4:
                continue
        if not 2 <= len(row) <= min(num_columns, 3):
            raise InputError(
                f"{shown}:{line}: {_count(len(row))}, where there must be two, source and target; quote a term that "
                f"holds the separator, or name a third column, for notes, in a header (source,target,note)"
            )
        source, target = (" ".join(cell.split()) for cell in row[:2])
        if not source or not target or not TOKEN.search(source):
            raise InputError(f"{shown}:{line}: the {'target' if source and not target else 'source'} is empty")
        earlier, above = known.setdefault(key_of(source), (target, line))
        if earlier != target:
            raise InputError(
                f"{shown}:{line}: {one_line(source)!r} is {one_line(earlier)!r} in line {above}; leave one of them"
            )
        yield source, target


def rows_of(shown: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, without the empty cells that spreadsheets put after them, and their lines.

    Args:
        shown: the file's name, for messages.
        text: what it says.

    Raises:
        InputError: a row is none.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell has no length that is wrong
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator_of(first), skipinitialspace=True, strict=True)
    line = 1
    try:
        for row in rows:
            while len(row) > 2 and not row[-1].strip():
                del row[-1]
            if any(cell.strip() for cell in row):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(f"{shown}:{line}: not a CSV row: {error}") from error


def separator_of(row: str) -> str:
    """Return what sets columns apart, by the first row."""
    bare = re.sub(r'"[^"]*"', "", row)
    return next((separator for separator in _SEPARATORS if separator in bare), ",")


def is_header(row: list[str]) -> bool:
    """Tell whether a first row names the columns, and is no term."""
    cells = [cell.strip().casefold() for cell in row[:2]]
    if tuple(cells) == _HEADER:
        return True
    try:
        # "German,Deutsch" is a term, "German,English" is none.
        return len({find_language(cell).tag for cell in cells}) == 2
    except UsageError:
        return False


def _count(num_columns: int) -> str:
    return "1 column" if num_columns == 1 else f"{num_columns} columns"
