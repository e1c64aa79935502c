"""What may be shown on a terminal or written as JSON, whatever characters a text is made of. Knows nobody."""

from __future__ import annotations

import json
import re

# Everything that can move a cursor, change a colour or reorder what is read; tabs and newlines are innocent.
_CONTROL = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_JSON_FAULTS = {
    "Expecting value": "a value is missing",
    "Expecting ',' delimiter": "',' is missing",
    "Expecting ':' delimiter": "':' is missing",
    "Expecting property name enclosed in double quotes": "a name between double quotes is missing",
    "Extra data": "more follows behind its end",
    "Illegal trailing comma before end of array": "a comma too many stands",
    "Illegal trailing comma before end of object": "a comma too many stands",
    "Invalid \\escape": "a backslash makes no sense",
    "Invalid \\uXXXX escape": "\\u lacks its four digits",
    "Invalid control character": "a control character or the end of the line stands in a string",
    "Unterminated string starting": "a string is not closed that begins",
}
"""What Python says of a text that is no JSON, and how we say it."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAK = re.compile("[\t\n\r\x85\u2028\u2029]")


def visible(text: str) -> str:
    """Return `text` with control and escape characters in visible form: `^[` for ESC, `<U+202E>` for others."""
    return _CONTROL.sub(lambda match: _show(match[0]), text)


def one_line(name: object) -> str:
    """Return a name as a message can hold it, on one line, whatever is in it (a file's name may be anything)."""
    return visible(_BREAK.sub(lambda match: _show(match[0]), str(name)))


def json_text(value: object) -> str:
    """Return a value as JSON on one line; see `spell_surrogates`."""
    return spell_surrogates(json.dumps(value, ensure_ascii=False))


def no_json(error: json.JSONDecodeError) -> str:
    """Return that a text is no JSON, and why."""
    return f"is no JSON: {json_fault(error)}"


def json_fault(error: json.JSONDecodeError) -> str:
    """Return what keeps a text from being JSON, and in which column; Python's words are hard to read."""
    said = error.msg.removesuffix(" at").rstrip(": ")
    return f"{_JSON_FAULTS.get(said, said)} at column {error.colno}"


def spell_surrogates(text: str) -> str:
    """Return JSON in which only those characters are escaped that UTF-8 has no bytes for, as it may hold them so.

    They are halves of UTF-16's characters, and bytes that were no text and are carried through.
    """
    return text if text.isascii() else _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _show(char: str) -> str:
    code = ord(char)
    return f"^{chr(code ^ 64)}" if code < 128 else f"<U+{code:04X}>"
