"""The structure of Markdown as markdown-it-py alone reads it, and Markdown of a grammar."""

from __future__ import annotations

import random
import re
from typing import Any

from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmpar.documents.formats.front_matter import end_of_front_matter

_PARSER = MarkdownIt("commonmark", {"maxNesting": 20}).enable(["table", "strikethrough"])
MARK = re.compile(r"</?\d+/?>")


def structure(text: str) -> Any:
    """Return all that is no text: blocks in order, and what stands in each other in them, in no order."""
    # This parser knows no footnotes, and would take one of a single word for the target of links. A footnote's further
    # paragraphs are indented, as those of a list's item are.
    tokens = _PARSER.parse(text[end_of_front_matter(text) :].replace("[^1]: ", "*   "))
    found: list[Any] = [text[: end_of_front_matter(text)]]
    for token in tokens:
        found.append((token.type, token.tag, token.info, token.attrs))
        if token.type == "inline":
            found.append(_tree(token.children or []))
        elif token.type == "html_block":
            found.append(re.findall(r"<[^>]*>", token.content))
        elif token.content:
            found.append(token.content)
    return found


def _tree(tokens: list[Token]) -> Any:
    stack: list[list[Any]] = [[]]
    for token in tokens:
        attributes = {name: value for name, value in token.attrs.items() if name != "alt"}
        if token.type == "image":
            stack[-1].append(("image", attributes, _tree(token.children or [])))
        elif token.nesting > 0:
            stack.append([(token.type, token.tag, attributes)])
        elif token.nesting < 0:
            stack[-2].append(tuple(sorted(map(repr, stack.pop()))))
        elif token.type not in ("text", "text_special", "softbreak"):
            stack[-1].append((token.type, " ".join(token.content.split())))
    return tuple(sorted(map(repr, stack[0])))


_WORDS = st.sampled_from(
    ["Boat", "late.", "the sea", "no. 5", "what?", "“So”,", "(aside)", "字。", "中文", "é", "a_b", "5 * 3", "AT&amp;T",
     "&copy;", r"\*", "x < y", "e.g.", "Ends!", "1)", "#1", "[sic]", "{name}", "50%"]
)  # fmt: skip
_ALONE = st.sampled_from(
    ["`co. de`", "`` a`b ``", "<https://x.y/z>", "![](a.png)", "[^1]", "$x_1 + y$", "{{ site.x }}", "{% include a %}",
     "<br>", "<!-- no -->", "https://a.b/c_d", ":smile:"]
)  # fmt: skip


def _pairs(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    forms = ["*%s*", "**%s**", "~~%s~~", "[%s](x.md)", '[%s](<a b> "Ti *t*")', "![%s](i.png)", "<b>%s</b>", "[%s][ref]"]
    return st.builds(lambda form, text: form.replace("%s", text), st.sampled_from(forms), inside)


INLINE = st.lists(
    st.recursive(
        _WORDS | _ALONE, lambda inner: _pairs(st.lists(inner, min_size=1, max_size=3).map(" ".join)), max_leaves=5
    ),
    min_size=1,
    max_size=7,
).map(" ".join)
_LINES = st.lists(INLINE, min_size=1, max_size=3).map("\n".join)


def _indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\n", "\n" + rest)


_LEAVES = (
    _LINES
    | INLINE.map("## {} ##".format)
    | INLINE.map("{}\n===".format)
    | st.tuples(INLINE, INLINE).map(lambda cells: f"| {cells[0]} | b |\n|:--|---|\n| {cells[1]} |  |")
    | INLINE.map("[^1]: {}".format)
    | INLINE.map(lambda text: f"<div>\n{text}\n</div>")
    | st.sampled_from(
        ["```js\nlet a = '*b*'\n```", "    indented\n    code", "***", "$$\nx *y* z\n$$", "::: tip\nInside it.\n:::",
         "{% if a %}\nText of it.\n{% endif %}", "> [!NOTE]\n> Take care.\n> Always."]
    )
)  # fmt: skip
DOCUMENTS = st.lists(
    st.recursive(
        _LEAVES,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=2)
            .map("\n\n".join)
            .flatmap(
                lambda text: st.sampled_from(
                    [_indented(text, "> ", "> "), _indented(text, "- ", "  "), _indented(text, "3. ", "   ")]
                )
            )
        ),
        max_leaves=4,
    ),
    min_size=1,
    max_size=4,
).map(lambda blocks: "\n\n".join([*blocks, "[ref]: <u r l> 'ti'", ""]))

_STRANGE = (
    "Wort", "“x”", "*", "**", "_a_", "`", "[x]", "(y)", "<b>", "&amp;", "\n\n", "# h", "- i", "1. z", "| p", "$5$",
    "~~", "{{", "{%", "字。", "\\", "!", "http://a.b", "<1>", "</1>", "<2/>", "<9/>", ":::", "---", "===", "> q", "\t",
    "    ",
)  # fmt: skip


def disturbed(text: str, chance: random.Random) -> str:
    """Return an answer to a text with marks that may drop, double and swap them, and say anything between them."""
    parts = [part for part in re.split(r"(</?\d+/?>)", text) if part]
    kind = chance.randrange(6)
    if kind == 0:
        parts = [part for part in parts if not MARK.fullmatch(part) or chance.random() > 0.3]
    elif kind == 1:
        parts = [part for part in parts for _ in range(2 if MARK.fullmatch(part) and chance.random() < 0.3 else 1)]
    elif kind == 2:
        chance.shuffle(parts)
    elif kind == 3:
        joint = chance.choice(["", " "])
        parts = [
            part if MARK.fullmatch(part) else joint.join(chance.choices(_STRANGE, k=chance.randrange(1, 4)))
            for part in parts
        ]
    elif kind == 4:
        parts = chance.choices(_STRANGE, k=chance.randrange(6))
    else:
        parts = [part if MARK.fullmatch(part) else f"“{part.strip().upper()}”" for part in parts]
    return "".join(parts)
