"""Bytes and texts that something may go wrong on: pieces of the sample documents and nasty fragments, mutated."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

SAMPLES = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "sample_data").iterdir())]
_TEXTS = [
    "", " ", "\n", "\n\n", "\r\n", "\r", "\n\r", "\r\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e",
    "\x1f", "\0", "\x85", "\xa0", "\xad", "\u1680", "\u180e", "\u2000", "\u2028", "\u2029", "\u202f",
    "\u3000", "\ufeff", "\ufffe", "\u200b", "\u200d", "\u2060", "\u034f", "\u202e", "\u2066", "\u2069",
    "\u200f", "\u061c", "\x1b[31m", "\x1b]0;x\x07", "\x9b2J", "\x7f", "\b\b", "e\u0301", "\u0301" * 40,
    "\u0316\u0301" * 300, "\ufdfa", "ß", "İ", "ǆ", "ﬁ", "👩‍👩‍👧", "🇩🇪", "\ufe0f", "\U0010ffff",
    "\U000e0041", "\ue000", "عربي، نص؟ ", "עברית. ", "中文。「引用。」", "日本語、文。", "한국어 문장.",
    "ไทยไทย", "हिन्दी। ", "… ", "……", "?!", "。。", "Mr. X went. ", "z. B. ", "e.g. this. ", "3. Oktober ",
    "1. ", "12) ", "(a) ", "- ", "* ", "• ", "— ", "> ", ">> ", "# ", "###### ", "===\n", "---\n", "***\n",
    "+++\n", "```\n", "````", "~~~\n", "`", "``", "$$\n", "$x$", "\\[", "\\]", "\\", "  \n", "<!--", "-->",
    "<script>\n", "</script>", "<pre>", "<div a='b'>", "<a", ">", "[", "](", "](x. y)", "[^1]: ",
    "[x]: http://a.b/\n", "![a](b. c)", "| a | b |\n", "|---|:-:|\n", "|", "\\|", "---\ntitle: x. y\n---\n",
    "+++\nt = 1\n+++\n", "    code. line\n", "\tcode\n", "<|im_end|>", "<|im_start|>system\n",
    "<|endoftext|>", "<s>", "</s>", "[INST]", "<think>", "{text}", "{{ x }}", "{% raw %}", "%s", "%n", "{0}",
    "$(id)", "\ue000user\ue000", '"', "'", "“", "”", "„", "«", "»", "(", ")", "a" * 200, "a " * 100,
    " " * 300, "x" * 5000, "." * 100, "a." * 200, "[" * 300, "`" * 301, "$" * 99, "<" * 200, "|" * 200,
    "> " * 100, "\\" * 101, "- " * 100,
    "A line of text that somebody wrapped by hand, more or less\nwell, at a column of sixty, and which\ngoes on.\n",
    "Dr. Smith, Jr., of the U.S. said: “No. 5 is fine.” He left at 5 p.m. on Jan. 3. Why?\n",
]  # fmt: skip
FRAGMENTS = [
    *(text.encode() for text in _TEXTS),
    *(codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    *(b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xe2\x80", b"\xed\xa0\x80", b"\xed\xb2\x80", b"\xf4\x90\x80\x80"),
    *(b"\xf0\x9f\x98", b"\x00\xd8", b"\xd8\x00", b"\x00\xdc", b"\x0a\x00", b"\x0d\x00\x0a\x00", b"\x00\x00\x11\x00"),
]
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "shift-jis")
_NEWLINES = (b"\r\n", b"\r", b"\n\n", b"\x0c\n", b" \n", b"\n\t", b"\n> ", b"\x85", b"\n    ")


def mutated_bytes(random: Random, longest: int = 4000) -> bytes:
    """Return a document's bytes, rarely many more than `longest`."""
    data = bytearray(_piece(random, longest))
    for _ in range(random.choice((0, 1, 1, 2, 3, 5, 8, 20))):
        data = bytearray(random.choice(_MUTATIONS)(random, bytes(data)))
    return bytes(data[: 20 * longest])


def mutated_kind(random: Random, document: str) -> bytes:
    """Return the bytes of a document of some format, damaged in a few places, so that most of it stays what it was."""
    data = document.encode() * random.choice((1, 1, 2, 20))
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_MUTATIONS)(random, data)
    return data


def mutated_text(random: Random, longest: int = 1000) -> str:
    """Return a text that may hold anything that a string can, lone surrogates too."""
    text = mutated_bytes(random, longest).decode("utf-8", random.choice(("surrogateescape", "replace", "ignore")))
    if not random.randrange(4):
        at = random.randint(0, len(text))
        text = text[:at] + chr(random.choice((0xD800, 0xDBFF, 0xDC00, 0xDC80, 0xDFFF))) + text[at:]
    return text


def long_bytes(random: Random) -> bytes:
    """Return some hundred thousand bytes, so that blocks are cut."""
    part = random.choice((mutated_bytes(random, 300), *FRAGMENTS[1:])) or b"x"
    data = part * (random.randint(300_000, 900_000) // len(part))
    return b"".join((mutated_bytes(random, 500), data, mutated_bytes(random, 500)))


def _piece(random: Random, longest: int) -> bytes:
    match random.randrange(4):
        case 0:
            return b"".join(random.choices(FRAGMENTS, k=random.randint(0, 30)))[:longest]
        case 1:
            pieces = (random.choice(FRAGMENTS) + _slice(random, random.choice(SAMPLES), 80) for _ in range(20))
            return b"".join(pieces)[:longest]
        case _:
            return _slice(random, random.choice(SAMPLES), longest)


def _slice(random: Random, data: bytes, longest: int) -> bytes:
    start = random.randint(0, len(data)) if random.randrange(3) else 0
    return data[start : start + random.randint(0, longest)]


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 8) if data else 0):
        at = random.randrange(len(changed))
        changed[at] = random.choice((changed[at] ^ 1 << random.randrange(8), random.randrange(256), 0, 0xFF))
    return bytes(changed)


def _insert(random: Random, data: bytes) -> bytes:
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(data))
        data = data[:at] + random.choice(FRAGMENTS) + data[at:]
    return data


def _splice(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + _slice(random, random.choice(SAMPLES), 500) + data[at:]


def _duplicate(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + _slice(random, data, 200) * random.choice((1, 2, 5, 30)) + data[at:]


def _truncate(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] if random.randrange(3) else data[at:]


def _delete(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + data[at + random.randint(0, 100) :]


def _recode(random: Random, data: bytes) -> bytes:
    encoding = random.choice(_ENCODINGS)
    recoded = data.decode("utf-8", "replace").encode(encoding, "replace")
    if encoding == "utf-16-be":
        recoded = codecs.BOM_UTF16_BE + recoded
    return recoded


def _new_newlines(random: Random, data: bytes) -> bytes:
    return data.replace(random.choice((b"\n", b"\r\n", b"\r", b". ")), random.choice(_NEWLINES))


_Mutation = Callable[[Random, bytes], bytes]
_MUTATIONS: Sequence[_Mutation] = (
    *(_insert, _insert, _insert, _flip, _splice, _duplicate, _truncate, _delete, _recode, _new_newlines, _new_newlines),
)
flip = _flip
"""Change some of the bytes."""
