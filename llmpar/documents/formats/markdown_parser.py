"""Markdown → its blocks and, in each, its inline markup with places. markdown-it-py parses; what it lacks is places.

Its tokens of blocks tell lines, and those of inline markup nothing. So each inline rule is wrapped here in one that
records where it stood before it made a token, and where after (`SPAN` in the token's `meta`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from llmpar.documents.formats.markdown_syntax import ATOM, WORD, add_syntax
from llmpar.documents.formats.tags import COPIED, tag_name

SPAN, ROWS = "span", "rows"
"""Keys of tokens' `meta`: where an inline token stands in its block's content; where a table's rows begin in lines."""
_NESTING = 20  # blocks and inline markup in each other; what stands deeper is copied
_VOID = frozenset(("br", "hr", "img", "input", "wbr", "area", "embed", "source", "track", "meta", "link", "col"))
_NOT_TRANSLATED = re.compile(r"\btranslate=[\"']?no\b|\bnotranslate\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sign:
    """Inline markup: the characters `start` to `end` of a block's content.

    Args:
        kind: what opens or closes, by `pair`, what stands for itself (`atom`: no sentence misses it; `word`: it is a
            part of its sentence), a line break that wrapping made or one that the markup says (`hard`), and a
            character that is written otherwise than it is read (`special`).
        start: in characters from the content's start.
        end: the same.
        shown: what a reader sees; "" for markup.
        pair: equal for what opens and what closes it.
        is_one: whether what is in the pair stays together, as a link's text does, and a picture's.
    """

    kind: Literal["open", "close", "atom", "word", "soft", "hard", "special"]
    start: int
    end: int
    shown: str = ""
    pair: int = -1
    is_one: bool = False


Env = dict[str, Any]
"""What a parser knows of a document: its reference definitions."""


@lru_cache(maxsize=2)
def parser_for(*, is_mdx: bool) -> MarkdownIt:
    """Return the parser for documents of either kind. It keeps no state but its settings."""
    parser = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    add_syntax(parser, is_mdx=is_mdx)
    # All addresses are as good as any here, and none is written.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # noqa: ARG005
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    parser.inline.ruler2.disable("fragments_join")  # it would join tokens with places
    rules = {rule.name: rule.fn for rule in parser.block.ruler.__rules__}
    parser.block.ruler.at("table", _recorded_table(rules["table"]), {"alt": ["paragraph", "reference"]})
    for name in parser.inline.ruler.get_active_rules():
        inline = next(rule.fn for rule in parser.inline.ruler.__rules__ if rule.name == name)
        parser.inline.ruler.at(name, _RECORDERS.get(name, _recorded)(inline))
    return parser


_Rule = Callable[[StateInline, bool], bool]
_BlockRule = Callable[[StateBlock, int, int, bool], bool]


def _recorded_table(rule: _BlockRule) -> _BlockRule:
    """Wrap the rule for tables, which alone knows where a row begins that stands in other blocks."""

    def record(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        count = len(state.tokens)
        if not rule(state, start, end, silent):
            return False
        if not silent:
            places = {line: state.bMarks[line] + state.tShift[line] for line in range(start, state.line)}
            state.tokens[count].meta[ROWS] = {
                line: place - state.src.rfind("\n", 0, place) - 1 for line, place in places.items()
            }
        return True

    return record


def _recorded(rule: _Rule) -> _Rule:
    """Wrap a rule that makes at most one token."""

    def record(state: StateInline, silent: bool) -> bool:
        start, count = state.pos, len(state.tokens)
        if not rule(state, silent):
            return False
        if not silent and len(state.tokens) > count and state.tokens[-1].type != "text":
            state.tokens[-1].meta[SPAN] = (start, state.pos)
        return True

    return record


def _recorded_break(rule: _Rule) -> _Rule:
    """Wrap the rule for line breaks, to which the spaces before belong."""

    def record(state: StateInline, silent: bool) -> bool:
        start = state.pos
        if not rule(state, silent):
            return False
        if not silent:
            while start and state.src[start - 1] in " \t":
                start -= 1
            state.tokens[-1].meta[SPAN] = (start, state.pos)
        return True

    return record


def _recorded_delimiters(rule: _Rule) -> _Rule:
    """Wrap a rule that makes a token of each delimiter, which a later step pairs."""

    def record(state: StateInline, silent: bool) -> bool:
        start = state.pos
        if not rule(state, silent):
            return False
        end = state.pos
        for token in reversed(state.tokens):
            if end == start:
                break
            token.meta[SPAN] = (end - len(token.content), end)
            end -= len(token.content)
        return True

    return record


def _recorded_link(rule: _Rule) -> _Rule:
    """Wrap the rule for links, which opens, parses its text, and closes."""

    def record(state: StateInline, silent: bool) -> bool:
        start, count = state.pos, len(state.tokens)
        if not rule(state, silent):
            return False
        if not silent:
            end, state.pos = state.pos, start
            label_end = state.md.helpers.parseLinkLabel(state, start, True)
            state.pos = end
            opening = next(token for token in state.tokens[count:] if token.type == "link_open")
            opening.meta[SPAN] = (start, start + 1)
            state.tokens[-1].meta[SPAN] = (label_end, end)
        return True

    return record


def _recorded_autolink(rule: _Rule) -> _Rule:
    """Wrap the rule for addresses in angle brackets, of which one token is made."""

    def record(state: StateInline, silent: bool) -> bool:
        start = state.pos
        if not rule(state, silent):
            return False
        if not silent:
            del state.tokens[-2:], state.tokens_meta[-2:]
            state.tokens[-1] = Token(WORD, "", 0, meta={SPAN: (start, state.pos)})
        return True

    return record


_RECORDERS: dict[str, Callable[[_Rule], _Rule]] = {
    "newline": _recorded_break,
    "emphasis": _recorded_delimiters,
    "strikethrough": _recorded_delimiters,
    "link": _recorded_link,
    "autolink": _recorded_autolink,
}


def signs_of(content: str, parser: MarkdownIt, env: Env) -> list[Sign]:
    """Return the markup in a block's content, in order.

    Args:
        content: as markdown-it has it.
        parser: of `parser_for`.
        env: what its block parser found in the document.
    """
    found = _flat(parser.inline.parse(content, parser, env, []), 0)
    return _paired(sorted(found, key=lambda one: one.start))


@dataclass(slots=True)
class _Found:
    token: Token
    name: str  # by which what closes finds what opens; "" for neither
    start: int
    end: int


def _flat(tokens: list[Token], shift: int) -> Iterator[_Found]:
    for token in tokens:
        if token.type == "text" or SPAN not in token.meta:
            continue
        start, end = (place + shift for place in token.meta[SPAN])
        if token.type == "image":
            first, last = start + 2, start + 2 + len(token.content)
            yield _Found(Token("image_open", "", 1), "image", start, first)
            yield from _flat(token.children or [], first)
            yield _Found(Token("image_close", "", -1), "image", last, end)
        elif token.nesting:
            # Two delimiters make one: the token of the inner one stands for both.
            if token.markup in ("**", "__"):
                start, end = (start - 1, end) if token.nesting > 0 else (start, end + 1)
            yield _Found(token, token.tag, start, end)
        elif token.type == "html_inline":
            name, is_closing, is_alone = tag_name(token.content)
            is_alone |= name.lower() in _VOID or token.content.startswith(("<!", "<?"))
            nesting: Literal[-1, 0, 1] = 0 if is_alone else -1 if is_closing else 1
            tag = Token("html_inline", "", nesting, content=token.content)
            yield _Found(tag, f"<{name}", start, end)
        else:
            yield _Found(token, "", start, end)


def _paired(found: list[_Found]) -> list[Sign]:
    """Return signs, of which those open and close that stand in each other as they should; others are atoms."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for index, one in enumerate(found):
        if one.token.nesting > 0:
            opened.append(index)
        elif one.token.nesting < 0:
            is_tag = one.name.startswith("<")
            for depth in range(len(opened) - 1, -1, -1):
                other = found[opened[depth]]
                if other.name == one.name:
                    pairs[index] = pairs[opened[depth]] = opened[depth]
                    del opened[depth:]
                    break
                if is_tag and not other.name.startswith("<"):
                    break  # a tag closes nothing outside of the emphasis that it stands in
    signs: list[Sign] = []
    end = 0  # of what is copied as a whole
    closings = {opening: index for index, opening in pairs.items() if index != opening}
    for index, one in enumerate(found):
        if one.start < end:
            continue
        if index in closings and one.name.startswith("<") and _is_copied(one):
            end = found[closings[index]].end
            signs.append(Sign("word", one.start, end))
        else:
            signs.append(_sign(one, pairs.get(index)))
    return signs


def _is_copied(found: _Found) -> bool:
    return found.name[1:].lower() in COPIED or bool(_NOT_TRANSLATED.search(found.token.content))


_KINDS: dict[str, Literal["atom", "word", "soft", "hard", "special"]] = {
    ATOM: "atom",
    WORD: "word",
    "code_inline": "word",
    "softbreak": "soft",
    "hardbreak": "hard",
    "text_special": "special",
}


def _sign(found: _Found, pair: int | None) -> Sign:
    token = found.token
    kind: Literal["open", "close", "atom", "word", "soft", "hard", "special"]
    if pair is not None:
        kind = "open" if token.nesting > 0 else "close"
        return Sign(kind, found.start, found.end, pair=pair, is_one=found.name in ("a", "image"))
    kind = _KINDS.get(token.type, "atom")
    return Sign(kind, found.start, found.end, token.content if kind == "special" else "")
