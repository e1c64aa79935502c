"""A page as a browser's parser sees it: its scripts, its rows, its facts, and what it forbids itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


@dataclass
class PageRead(HTMLParser):
    """What is in a page.

    Args:
        html: the page.
    """

    html: str
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    policy: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    script: str = ""
    style: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self._data = ""
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._inside, self._data = (tag, given), ""

    def handle_data(self, data: str) -> None:
        self._data += data
        if self._inside[0] not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        name, given = self._inside
        if tag != name:
            return
        if tag == "style":
            self.style = self._data
        elif tag == "script" and given.get("id") == "settings":
            self.settings = json.loads(self._data)
        elif tag == "script" and given.get("class") == "rows":
            self.rows += [dict(zip(self.settings["columns"], row, strict=True)) for row in json.loads(self._data)]
        elif tag == "script":
            assert not given, "the page's own script has no attributes"
            self.script = self._data
        self._inside = ("", {})


def read_page(file: Path) -> PageRead:
    """Return what is in a page's file."""
    return PageRead(file.read_bytes().decode("utf-8"))


def hostile_texts() -> list[str]:
    """Return texts that would like to be more than text."""
    return [
        "</script><script>window.broken = 1</script>",
        "<!--<script>",
        "]]> --> </ScRiPt \n>",
        "<img src=x onerror='window.broken = 1'>",
        "\u2028window.broken = 1\u2029",
        "{{ 7 * 7 }} {% raw %} {# #}",
        "\x00\x01\x1b[31m\r\n\t\x7f\x85\ufeff\ufffe",
        "\ud800 half of a character \udc80",
        "\u202e written from the right \u2066",
        "javascript:window.broken=1",
        "&lt;b&gt; &amp; \"' ` ${window.broken = 1} \\u003c \\",
        "__proto__",
        "",
    ]
