"""What Markdown is written with beside CommonMark: rules for markdown-it-py, as its own are, which push tokens.

Footnotes, formulas, `:::` containers, template tags, attributes in braces, and what MDX adds. Plugins know some of it
(mdit-py-plugins), but none of them tells places.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

ATOM, WORD = "atom", "word"
"""Types of tokens that stand for what is copied: one that no sentence misses, and one that is a part of it."""

# A line of MDX that loads or defines something. Prose hardly has quotation marks or an equals sign behind such words.
_MODULE = re.compile(
    r"import\s+(?:[\w$*{}\s,]+\s+from\s+)?(?:\"[^\"]+\"|'[^']+');?\s*"
    r"|export\s+(?:(?:const|let|var)\s+[\w$]+\s*=|default\s+(?:function|class|\(|\{|[\w$]+;?\s*$)|(?:async\s+)?function\b"
    r"|\{|\*).*"
)
_MODULE_OPEN = re.compile(r"import\s*(?:[\w$]+\s*,\s*)?\{[\w$\s,]*")  # the names follow on the next lines
_CONTAINER = re.compile(r":{3,}[^:\n]*:*[ \t]*")
# Bounded, as a text may open many and close none.
_TEMPLATE = re.compile(r"\{%.{0,2000}?%\}|\{\{.{0,2000}?\}\}|\{#(?!\w[\w-]*\}).{0,2000}?#\}", re.DOTALL)
_TEMPLATE_LINE = re.compile(r"(?:(?:\{%(?:(?!%\}).)*%\}|\{\{(?:(?!\}\}).)*\}\}|\{#(?:(?!#\}).)*#\})[ \t]*)+")
_ATTRIBUTES = re.compile(r"\{[:.#][^{}\n]*\}")
_FORMULA = re.compile(r"\$\$(?:\\.|[^$\\])+\$\$|\$(?![\s$])(?:\\.|[^$\\])*?(?<![\s\\])\$(?!\d)", re.DOTALL)
_FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]")
_FOOTNOTE_START = re.compile(r"\[\^[^\]\s]+\]:[ \t]*")
_SHORTCODE = re.compile(r":[a-z][a-z0-9_+-]*:(?!\w)")
_JSX_NAME = re.compile(r"</?(?:[A-Za-z][\w.:-]*)?")
_JSX_ATTRIBUTE = re.compile(r"[^\s>{\"'/]+|/(?!>)")
_COMMENT = re.compile(r"<!--.{0,20000}?-->", re.DOTALL)
_LONGEST_INLINE, _LONGEST_LINES = 2_000, 20_000  # characters of a tag or an expression, in a line or by itself


_EVERYWHERE: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
_IN_PARAGRAPHS: RuleOptionsType = {"alt": ["paragraph", "reference"]}


def add_syntax(parser: MarkdownIt, *, is_mdx: bool) -> None:
    """Teach a parser what is written beside CommonMark.

    Args:
        parser: any.
        is_mdx: whether tags and braces are those of MDX, in which there are no HTML blocks and no indented code.
    """
    for name, rule in (("formula_block", _formula_block), ("kept_line", _kept_line)):
        parser.block.ruler.before("table", name, rule, _EVERYWHERE)
    parser.block.ruler.before("reference", "footnote", _footnote, _IN_PARAGRAPHS)
    patterns = [("$", _FORMULA, WORD), ("[", _FOOTNOTE, ATOM), ("{", _TEMPLATE, WORD), ("{", _ATTRIBUTES, ATOM)]
    for index, (sign, pattern, kind) in enumerate([*patterns, (":", _SHORTCODE, ATOM)]):
        parser.inline.ruler.before("escape", f"pattern_{index}", _pattern(sign, pattern, kind))
    if is_mdx:
        parser.disable(["html_block", "code", "html_inline", "autolink"])
        parser.block.ruler.before("table", "jsx_line", _jsx_line, _EVERYWHERE)
        parser.inline.ruler.before("escape", "jsx_braces", _jsx_braces)
        parser.inline.ruler.before("escape", "jsx_tag", _jsx_tag)


def _pattern(sign: str, pattern: re.Pattern[str], kind: str) -> Callable[[StateInline, bool], bool]:
    """Return a rule for what begins with a sign and matches a pattern."""

    def rule(state: StateInline, silent: bool) -> bool:
        # Who looks for the end of a link's text takes what begins with a bracket for a link, in which there is none.
        if state.src[state.pos] != sign or (silent and sign == "["):
            return False
        match = pattern.match(state.src, state.pos, state.posMax)
        return match is not None and _take(state, silent, match.end(), kind)

    return rule


def _take(state: StateInline, silent: bool, end: int, kind: str, name: str = "") -> bool:
    """Make a token of what goes from here to `end`."""
    if not silent:
        token = state.push(kind, name, 0)
        token.content = state.src[state.pos : end]
    state.pos = end
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _push(state: StateBlock, start: int, end: int) -> bool:
    """Make a block of lines that are copied."""
    token = state.push("kept", "", 0)
    token.map = [start, end]
    token.content = state.getLines(start, end, state.blkIndent, True)
    state.line = end
    return True


def _kept_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Recognise a line that opens or closes a container, one of template tags, and a statement of MDX."""
    if state.is_code_block(start) or state.sCount[start] < state.blkIndent:
        return False
    line = _line(state, start)
    if line[:1] not in (":", "{", "i", "e"):
        return False
    after = start + 1
    is_module = state.level == 0 and line[0] in "ie" and not state.tShift[start]
    if is_module and _MODULE.fullmatch(line):
        if silent:
            return False  # not below a line of prose
        while line[0] == "e" and after < end and not state.isEmpty(after):
            after += 1
    elif is_module and _MODULE_OPEN.fullmatch(line) and not silent:
        while after < end and not state.isEmpty(after) and "}" not in _line(state, after - 1):
            after += 1
        if not re.search(r"\}\s*from\s*[\"']", _line(state, after - 1)):
            return False
    elif not (_CONTAINER if line[0] == ":" else _TEMPLATE_LINE).fullmatch(line):
        return False
    return silent or _push(state, start, after)


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Recognise a formula that begins a line with $$, or stands below a bracket with a backslash alone on a line."""
    if state.is_code_block(start) or state.sCount[start] < state.blkIndent:
        return False
    line = _line(state, start).rstrip()
    if line.startswith("$$"):
        closing, rest = "$$", line[2:]
    elif line == "\\[":
        closing, rest = "\\]", ""
    else:
        return False
    after = start + 1
    if closing in rest:
        if not rest.endswith(closing):
            return False  # a formula in a paragraph
    else:
        while after < end and not _line(state, after).rstrip().endswith(closing):
            if not state.isEmpty(after) and state.sCount[after] < state.blkIndent:
                return False
            after += 1
        if after >= end:
            return False
        after += 1
    return silent or _push(state, start, after)


def _footnote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Recognise a footnote's definition; what it holds is indented by four, but for the first line."""
    if state.is_code_block(start):
        return False
    match = _FOOTNOTE_START.match(state.src, state.bMarks[start] + state.tShift[start], state.eMarks[start])
    if match is None:
        return False
    if silent:
        return True
    token = state.push("footnote_open", "", 1)
    saved = state.bMarks[start], state.tShift[start], state.sCount[start], state.blkIndent, state.parentType
    # As if the line began behind the label.
    state.bMarks[start], state.tShift[start] = match.end(), 0
    state.blkIndent += 4
    state.sCount[start] = state.blkIndent
    state.parentType = "footnote"
    state.md.block.tokenize(state, start, end)
    state.bMarks[start], state.tShift[start], state.sCount[start], state.blkIndent, state.parentType = saved
    token.map = [start, state.line]
    state.push("footnote_close", "", -1)
    return True


# MDX (https://mdxjs.com/docs/what-is-mdx): tags whose attributes may be expressions, and expressions in braces.


def _jsx_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Recognise lines on which nothing stands but tags, or one expression in braces."""
    if state.sCount[start] < state.blkIndent:
        return False
    at = state.bMarks[start] + state.tShift[start]
    if state.src[at : at + 1] not in ("<", "{"):
        return False
    limit = min(state.eMarks[end - 1], at + _LONGEST_LINES)
    while at < limit:
        found = end_of_tag(state.src, at, limit) if state.src[at] == "<" else end_of_braces(state.src, at, limit)
        if found is None:
            return False
        at = found
        while at < limit and state.src[at] in " \t":
            at += 1
        if at >= limit or state.src[at] == "\n":
            line = start
            while state.eMarks[line] < at:
                line += 1
            return silent or _push(state, start, line + 1)
        if state.src[at] not in "<{":
            return False
    return False


def _jsx_braces(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "{":
        return False
    end = end_of_braces(state.src, state.pos, min(state.posMax, state.pos + _LONGEST_INLINE))
    return end is not None and _take(state, silent, end, WORD)


def _jsx_tag(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<":
        return False
    end = end_of_tag(state.src, state.pos, min(state.posMax, state.pos + _LONGEST_INLINE))
    return end is not None and _take(state, silent, end, "html_inline")


def end_of_braces(text: str, start: int, limit: int) -> int | None:
    """Return where the expression ends that begins with a brace here; None if it does not.

    Args:
        text: which is searched.
        start: the brace's place.
        limit: where the search ends.
    """
    depth, at = 0, start
    while at < limit:
        char = text[at]
        if char in "\"'`":
            closing = text.find(char, at + 1, limit)
            # An apostrophe may stand in a comment, where it opens nothing.
            at = closing if closing >= 0 and "\n" not in text[at:closing] else at
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return None


def end_of_tag(text: str, start: int, limit: int) -> int | None:
    """Return where the tag or comment ends that begins here; None if there is none.

    Args:
        text: which is searched.
        start: the place of its <.
        limit: where the search ends.
    """
    if comment := _COMMENT.match(text, start, limit):
        return comment.end()
    name = _JSX_NAME.match(text, start, limit)
    assert name is not None
    at = name.end()
    if not name[0][-1].isalnum() and text[at : at + 1] != ">":  # <> and </> alone have no name
        return None
    while at < limit:
        char = text[at]
        if char == ">":
            return at + 1
        if text.startswith("/>", at):
            return at + 2
        if char.isspace():
            at += 1
        elif char in "\"'":
            closing = text.find(char, at + 1, limit)
            if closing < 0:
                return None
            at = closing + 1
        elif char == "{":
            closing_brace = end_of_braces(text, at, limit)
            if closing_brace is None:
                return None
            at = closing_brace
        else:
            attribute = _JSX_ATTRIBUTE.match(text, at, limit)
            if attribute is None:
                return None
            at = attribute.end()
    return None
