"""A document of each format with all that the format knows, and what reads its structure by other means."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpar.documents.formats.options import FormatOptions

# How else a document can be read: what is left when the prose is taken out.


def srt_structure(text: str) -> Any:
    times = re.compile(r"(\d+)\r?\n(\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3})(?=\r?\n|\Z)")
    return times.findall(text), sorted(re.findall(r"</?[ib]>", re.sub(times, "", text)))


def vtt_structure(text: str) -> Any:
    blocks = re.split(r"\n{2,}", text.strip("\n"))
    # A cue's name and times, or all of what is no cue.
    return [re.match(r"(?:.*\n)?.*-->.*|(?s:.*)", block)[0] for block in blocks]  # type: ignore[index]


def po_structure(text: str) -> Any:
    """Return the lines that are no msgstr's, and how many strings those have in which order."""
    joined = re.sub(r'"[ \t]*\n[ \t]*"', "", text)
    lines = joined.split("\n")
    for line in lines:
        assert re.fullmatch(r'|#.*|(?:msgctxt|msgid|msgid_plural|msgstr(?:\[\d\])?) "(?:[^"\\]|\\.)*"', line), line
    return [re.sub(r"(msgstr\S*) .*", r"\1", line) for line in lines]


def csv_structure(text: str) -> Any:
    return [row[:2] + row[3:] for row in csv.reader(io.StringIO(text, newline=""), delimiter=";", strict=True)]


class Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [(name, value) for name, value in attrs if name not in ("alt", "title")]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append(data)


def json_structure(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: json_structure(inner) for key, inner in value.items()}
    return [json_structure(inner) for inner in value] if isinstance(value, list) else type(value)


@dataclass(frozen=True)
class Kind:
    """A format under test.

    Args:
        name: of a file.
        document: with all that the format knows.
        prose: what is asked about.
        structure: reads what must stay.
        options: of the format.
    """

    name: str
    document: str
    prose: tuple[str, ...]
    structure: Callable[[str], Any]
    options: tuple[tuple[str, Any], ...] = ()
    has_places_of_its_own: bool = False  # an echo changes it, as answers go elsewhere


KINDS = [
    Kind(
        "a.srt",
        "1\n00:00:01,000 --> 00:00:02,000\n<i>One line\nand another.</i>\n\n2\n00:00:03,000 --> 00:00:04,000\n- Who?\n"
        "- Nobody <b>here</b>.\n\n3\n00:00:05,000 --> 00:00:06,000\n1984\n",
        ("One line and another.", "Who?", "Nobody here."),
        srt_structure,
    ),
    Kind(
        "over.srt",
        "1\n00:00:01,000 --> 00:00:02,000\nThe old keeper waits\nfor <i>the</i>\n\n2\n00:00:03,000 --> 00:00:04,000\n"
        "ferry of Mr.\n\n3\n00:00:05,000 --> 00:00:06,000\n<b>Smith</b>.\n\n4\n00:00:07,000 --> 00:00:08,000\n- "
        "Is it late?\n",
        ("The old keeper waits for the ferry of Mr. Smith.", "Is it late?"),
        srt_structure,
    ),
    Kind(
        "a.vtt",
        "WEBVTT - Titles\nKind: captions\n\nNOTE a remark\nof two lines\n\nSTYLE\n::cue {color: red}\n\nintro\n"
        "00:01.000 --> 00:02.000 align:start\n<v Roger>Fish &amp; chips &lt;here&gt;\nfor all.\n\n"
        "00:03.000 --> 00:04.000\nTwo.\n",
        ("Fish & chips <here> for all.", "Two."),
        vtt_structure,
    ),
    Kind(
        "a.po",
        '# A file\nmsgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n#: a.c:1\n#, c-format\n'
        'msgid "%d boat"\nmsgid_plural "%d boats"\nmsgstr[0] ""\nmsgstr[1] ""\n\nmsgctxt "menu"\nmsgid ""\n'
        '"A \\"b\\"\\n"\n"c\\n"\nmsgstr ""\n\nmsgid "done"\nmsgstr "fertig"\n\n#, fuzzy\n'
        'msgid "old"\nmsgstr "alt"\n\n#~ msgid "x"\n',
        ("%d boat", "%d boats", 'A "b"\nc', "old"),
        po_structure,
        has_places_of_its_own=True,
    ),
    Kind(
        "plural.po",
        'msgid ""\nmsgstr ""\n"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n<5 ? 1 : 2);\\n"\n\n#, c-format\n'
        'msgid "%d boat"\nmsgid_plural "%d boats"\nmsgstr[0] ""\nmsgstr[1] ""\nmsgstr[2] ""\n\nmsgid "b"\nmsgstr ""\n',
        ("%d boat", "%d boats", "%d boats", "b"),
        lambda text: po_structure(re.sub(r"(?m)^#, fuzzy\n|(?<=^#,) fuzzy,", "", text)),
        (("fuzzy", True),),
        has_places_of_its_own=True,
    ),
    Kind(
        "a.properties",
        "# A remark = none\n! another\n\nkey.one = One \\u00e4 {0}\nkey\\ two: Two \\\n    and more\nn=5\nlast Three\n",
        ("One ä {0}", "Two and more", "Three"),
        lambda text: re.findall(
            r"(?m)^(?:[#!].*|(?:\\.|[^\s=:\\])+[ \t]*[=: ])", re.sub(r"(?<!\\)((?:\\\\)*)\\\n\s*", r"\1", text)
        ),
    ),
    Kind(
        "a.csv",
        'id;name;text;n\r\n1;"A; B";"Two\r\nlines, ""quoted""";5\r\n2;C;;6\r\n3;D;plain text;7\r\n',
        ('Two\nlines, "quoted"', "plain text"),
        csv_structure,
        (("column", ["text"]),),
    ),
    Kind(
        "a.html",
        '<!DOCTYPE html>\n<html lang="en"><title>Fish &amp; chips</title><script>"no < text"</script><!-- none -->\n'
        '<p title="A title">One sentence\nhere. <b>Two</b> <code>x &lt; y</code><p translate="no">Never <i>this</i>\n'
        "<li>An item &lt;<br><img src=a.png alt=Boat></html>\n",
        ("Fish & chips", "A title", "One sentence here.", "Two", "An item <", "Boat"),
        lambda text: Tags(text).found,
    ),
    Kind(
        "a.json",
        '{"a": "One.", "b": [1, null, {"c": "Two \\u00e4 \\"x\\""}, ""], "d" : " Three\\n"}\n',
        ("One.", 'Two ä "x"', "Three"),
        lambda text: json_structure(json.loads(text)),
        (("field", ["$..*"]),),
    ),
    Kind(
        "a.jsonl",
        '{"t": "One.", "u": {"v": ["Two."]}}\n\n{"t": "Three.", "u": {"v": []}}\n',
        ("One.", "Two.", "Three."),
        lambda text: [json_structure(json.loads(line)) for line in text.split("\n") if line],
        (("field", ["t"]), ("field", ["u.v[*]"])),
    ),
    Kind(
        "into.jsonl",
        '{"id": 1, "text": "One.", "u": {"v": "Two."}}\n\n{"text":"Three.","id":2,"u":{}}\n',
        ("One.", "Three."),
        lambda text: [
            json_structure({**record, "u": {**record["u"], "v": ""}})
            for record in (json.loads(line) for line in text.split("\n") if line)
        ],
        (("field", ["text"]), ("into", "u.v")),
        has_places_of_its_own=True,
    ),
    Kind(
        "into.json",
        '{"all": [\n  {"text": "One.", "n": 1},\n  {"text": "Two.", "answer": {}}\n]}\n',
        ("One.", "Two."),
        lambda text: [json_structure({**record, "answer": ""}) for record in json.loads(text)["all"]],
        (("field", ["all[*].text"]), ("into", "answer")),
        has_places_of_its_own=True,
    ),
]


def options_of(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in kind.options:
        if isinstance(value, list):
            found.setdefault(name, []).extend(value)
        else:
            found[name] = value
    return found


def words_of(kind: Kind) -> list[str]:
    """Return the same as words of a command."""
    words: list[str] = []
    for name, value in kind.options:
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}"] if one is True else [f"--{name}", one]
    return words


def format_options(kind: Kind) -> FormatOptions:
    """Return the same as the formats take them."""
    return FormatOptions(**options_of(kind))
