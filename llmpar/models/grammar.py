"""What answers may look like (one of several choices, or JSON of a schema) → masks over a model's tokens.

The work is llguidance's. Knows no engine; what it makes fits `engine.constraint.Constraint`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.errors import AnswerFailed, ModelUnavailable, UsageError
from llmpar.models.endless import is_endless
from llmpar.models.vocabulary import open_vocabulary

_WORD = 32
# Answers that share what the library has worked out so far, which is most of its work. Then it begins again, so that
# what it keeps of a million different answers does not grow without end.
_MOST_SHARED = 1000
# What says something of the values that are valid. A file without any is an example, or empty, and allows everything.
_SAYS_SOMETHING = frozenset({
    "$ref", "allOf", "anyOf", "const", "enum", "format", "items", "maxLength", "maximum", "minLength", "minimum",
    "oneOf", "pattern", "prefixItems", "properties", "type",
})  # fmt: skip
_BY_NAME = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_NESTED = frozenset({"additionalProperties", "allOf", "anyOf", "items", "oneOf", "prefixItems"})
# Why the library stops, by the names that its messages begin with.
_REASONS = {
    "NoExtension": "there is nothing with which it could go on",
    "LexerTooComplex": "its texts and patterns are too complex",
    "ParserTooComplex": "its form is too complex",
    "InternalError": "the library for forms failed",
}
_LONGEST_MESSAGE = 300
_LARGEST = 2**53 - 1  # the numbers that every reader of JSON takes exactly (RFC 8259)
_SMALLEST = 1e-9
_NO_TEXT = "\U0010fffd"  # for private use, and used by nobody


def choices_rule(choices: SequenceOf[str]) -> str:
    """Return the rule of answers that are one of several texts, to the letter.

    Raises:
        UsageError: there are none, one is empty, comes twice or is no text.
    """
    from llguidance import LLMatcher

    if not choices:
        raise UsageError("no choices are given; name at least one")
    for index, choice in enumerate(choices):
        if not choice:
            raise UsageError(f"choice {index + 1} of {len(choices)} is empty; leave it out")
        if choice in choices[:index]:
            raise UsageError(f"choice {choice!r} is given twice; leave one out")
        if not _is_text(choice):
            raise UsageError(f"choice {choice!r} is not valid UTF-8")
    # By number, no character means anything else.
    spelled = ("".join(f"\\x{{{ord(char):x}}}" for char in choice) for choice in choices)
    return _checked(LLMatcher.grammar_from_regex("|".join(spelled)), "these choices cannot be used")


def schema_rule(schema: object, name: str = "the schema") -> str:
    """Return the rule of answers that are JSON as a schema says, without white space between its parts.

    Numbers that it does not limit stay within 2^53 and have nine decimals at most: a model may never stop to append
    digits.

    Args:
        schema: a parsed JSON Schema.
        name: what messages call it.

    Raises:
        UsageError: it is none, no value can fulfil it, or it asks for what cannot be held to token by token.
    """
    from llguidance import LLMatcher

    if not isinstance(schema, dict):
        raise UsageError(f"{name}: is no JSON schema: not an object, but {json.dumps(schema)[:40]}")
    if not _SAYS_SOMETHING & schema.keys():
        raise UsageError(f'{name}: is no JSON schema that says which values are valid; begin with its "type"')
    try:
        endless = is_endless(schema)
    except RecursionError as error:
        raise UsageError(f"{name}: cannot be used: it is nested too deeply") from error
    if endless:
        raise UsageError(f"{name}: no value can fulfil it, as each would hold another one like it, without end")
    options: Any = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":", "lenient": False}
    try:
        rule: str = LLMatcher.grammar_from_json_schema(json.dumps(_limited(schema)), overrides=options)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: cannot be used: {_first_line(error)}") from error
    complaint = f"{name}: cannot be used"
    return _tried(_checked(rule, complaint), complaint)


def fulfils(schema: str, text: str) -> bool:
    """Tell whether a text is JSON as the rule of a schema (given as JSON) has it, for answers that no mask held to it.

    The text has no white space between its parts, and its fields stand in the schema's order.
    """
    from llguidance import LLMatcher, LLParserLimits

    rule = _rule_of(schema)
    matcher = LLMatcher(_bytes_as_tokens(), rule, log_level=0, limits=LLParserLimits(verbose_errors=False))
    data = list(text.encode("utf-8", "replace"))
    return bool(matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting())


class Grammar:
    """A rule over one model's tokens. Built once for a run, in less than a second; safe for any number of threads.

    Args:
        path: the model's directory, with `tokenizer.json`, or its GGUF file.
        vocabulary: how many tokens the model scores; those that the tokenizer lacks are never allowed.
        stop_ids: the tokens that end an answer.
        rule: what `choices_rule` or `schema_rule` returned.
        control_ids: tokens that are no text, besides those the tokenizer adds to its vocabulary itself.

    Raises:
        ModelUnavailable: the model's tokenizer cannot be used, or no token of it ends an answer.
        UsageError: the rule is too complex.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: int,
        stop_ids: AbstractSet[int],
        rule: str,
        control_ids: AbstractSet[int] = frozenset(),
    ) -> None:
        from llguidance import LLTokenizer

        stops = {token_id for token_id in stop_ids if 0 <= token_id < vocabulary}
        if not stops:
            raise ModelUnavailable(f"{str(path)!r}: names no token that ends an answer, which choices and schemas need")
        with _translated(path):
            tokenizer = open_vocabulary(path, opens=False).whole
            description = tokenizer.to_str()
            added = tokenizer.get_added_tokens_decoder()
            num_tokens = 1 + max(tokenizer.get_vocab().values())
            spelling = _spelling(json.loads(description), tokenizer.get_vocab(with_added_tokens=False))
            self._tokens = LLTokenizer(spelling, n_vocab=max(vocabulary, num_tokens), eos_token=min(stops))
        # In the library's length, which may be more than the model's.
        text = np.arange(max(vocabulary, num_tokens)) < min(vocabulary, num_tokens)
        text[[i for i in control_ids | added.keys() | stops if i < len(text)]] = False
        self._text = _pack(text)
        self._stops = _pack(np.isin(np.arange(len(text)), sorted(stops)))
        self._num_words = -(-vocabulary // _WORD)
        self._rule = rule
        self._local = threading.local()
        self._matcher()

    def constrain(self) -> AnswerConstraint:
        """Return the constraint of one answer, for the calling thread."""
        return AnswerConstraint(self._matcher(), self._text, self._stops, self._num_words, self._renew)

    def _matcher(self) -> Any:
        """Return a matcher at its beginning.

        Copies share what they have worked out, behind a lock; a thread has its own original, so that none waits.
        """
        from llguidance import LLMatcher, LLParserLimits

        local = self._local
        if getattr(local, "num_left", 0) == 0:
            matcher = LLMatcher(self._tokens, self._rule, log_level=0, limits=LLParserLimits(verbose_errors=False))
            if matcher.is_error():
                raise UsageError(f"the rule for answers cannot be used: {_reason(matcher)}")
            local.matcher, local.num_left = matcher, _MOST_SHARED
        local.num_left -= 1
        return local.matcher.deep_copy()

    def _renew(self) -> None:
        self._local.num_left = 0


class AnswerConstraint:
    """What one answer has to obey; its methods are those of `engine.constraint.Constraint`.

    Args:
        matcher: the library's, at its beginning.
        text, stops: masks of the tokens that are text, and of those that end an answer, in the library's length.
        num_words: the length of the model's masks.
        failed: is told when the matcher has failed, and all that it shares may have.
    """

    def __init__(
        self,
        matcher: Any,
        text: npt.NDArray[np.uint32],
        stops: npt.NDArray[np.uint32],
        num_words: int,
        failed: Callable[[], None],
    ) -> None:
        self._matcher = matcher
        self._text, self._stops = text, stops
        self._num_words = num_words
        self._failed = failed

    def allowed(self, ahead: SequenceOf[int] = ()) -> list[npt.NDArray[np.uint32]]:
        """Return masks (V / 32,): what may come now, and after each token of `ahead` up to the first that may not."""
        masks = [self._mask()]
        for token_id in ahead:
            if not _has(masks[-1] & self._text, token_id):
                break
            self.accept(token_id)
            masks.append(self._mask())
        if len(masks) > 1 and not self._matcher.rollback(len(masks) - 1):
            raise self._failure()
        return [mask[: self._num_words] for mask in masks]

    def accept(self, token_id: int) -> None:
        """Take the next token."""
        if not self._matcher.consume_token(token_id):
            raise self._failure()

    def forced(self) -> list[int]:
        """Return tokens that come next because nothing else can; there may be more of them."""
        found = []
        for token_id in self._matcher.compute_ff_tokens():
            if not _has(self._text, token_id):  # what such a token says is spelled with others
                break
            found.append(token_id)
        if self._matcher.is_error():
            raise self._failure()
        return found

    @property
    def is_complete(self) -> bool:
        """Whether nothing can come any more but a token that stops."""
        if self._matcher.is_error():
            raise self._failure()
        if self._matcher.is_stopped():
            return True
        return self._matcher.is_accepting() and not (self._mask() & self._text).any()

    def _mask(self) -> npt.NDArray[np.uint32]:
        mask: npt.NDArray[np.uint32] = np.empty_like(self._text)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise self._failure()
        mask &= self._text
        if self._matcher.is_accepting():
            mask |= self._stops
        elif not mask.any():
            raise AnswerFailed("the model has no token with which the answer could go on as it must")
        return mask

    def _failure(self) -> AnswerFailed:
        self._failed()
        return AnswerFailed(f"the answer cannot go on as it must: {_reason(self._matcher)}")


def _spelling(fields: dict[str, Any], words: dict[str, int]) -> str:
    """Return a tokenizer's description in which added tokens have names that no text holds.

    The library would spell their real names with them, and with nothing else. Those among the model's words need not be
    added; the others keep their numbers.
    """
    added = [token for token in fields.get("added_tokens") or () if token["content"] not in words]
    named = [{**token, "content": f"{_NO_TEXT}{token['id']}", "special": True} for token in added]
    return json.dumps({**fields, "added_tokens": named, "post_processor": None, "truncation": None, "padding": None})


def _limited(schema: Any) -> Any:
    """Return a schema, or a list of them, with limits for the numbers that have none."""
    if isinstance(schema, list):
        return [_limited(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    limited = dict(schema)
    for key, value in schema.items():
        if key in _NESTED:
            limited[key] = _limited(value)
        elif key in _BY_NAME and isinstance(value, dict):
            limited[key] = {name: _limited(part) for name, part in value.items()}
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    if "const" in schema or "enum" in schema or not ("integer" in types or "number" in types):
        return limited
    low, high = (
        next((schema[key] for key in keys if isinstance(schema.get(key), (int, float))), None)
        for keys in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
    )
    if low is None and (high is None or high > -_LARGEST):
        limited["minimum"] = -_LARGEST
    if high is None and (low is None or low < _LARGEST):
        limited["maximum"] = _LARGEST
    if "number" in types:
        limited.setdefault("multipleOf", _SMALLEST)
    return limited


def _checked(rule: str, complaint: str) -> str:
    """Return a rule that the library can keep to."""
    from llguidance import LLMatcher

    is_wrong, messages = LLMatcher.validate_grammar_with_warnings(rule)
    if is_wrong:
        raise UsageError(f"{complaint}: {_first_line(messages[0])}")
    return rule


def _tried(rule: str, complaint: str) -> str:
    """Return a rule by which an answer can at least begin, whatever the model."""
    from llguidance import LLMatcher, LLParserLimits

    tokens = _bytes_as_tokens()
    matcher = LLMatcher(tokens, rule, log_level=0, limits=LLParserLimits(verbose_errors=False))
    if not matcher.is_error():
        mask = np.zeros(-(-tokens.vocab_size // _WORD), np.uint32)
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    if matcher.is_error():
        raise UsageError(f"{complaint}: {_reason(matcher)}")
    return rule


@cache
def _rule_of(schema: str) -> str:
    return schema_rule(json.loads(schema))


@cache
def _bytes_as_tokens() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def _reason(matcher: Any) -> str:
    """Return why a matcher has failed, in words."""
    message = _first_line(matcher.get_error())
    known = next((words for name, words in _REASONS.items() if message.startswith(name)), None)
    return known or message


def _first_line(message: object) -> str:
    """Return a library's message in one line; what a pattern's error points at stands in those below."""
    lines = [" ".join(line.split()) for line in str(message).split("<non-verbose/>")[0].strip().splitlines()]
    return " ".join(line for line in lines if line)[:_LONGEST_MESSAGE] or type(message).__name__


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that were no UTF-8
        return False
    return True


def _pack(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    padded = np.pad(bits, (0, -len(bits) % _WORD))
    return np.packbits(padded, bitorder="little").view("<u4").astype(np.uint32)


def _has(mask: npt.NDArray[np.uint32], token_id: int) -> bool:
    word, bit = divmod(token_id, _WORD)
    return word < len(mask) and bool(mask[word] >> np.uint32(bit) & np.uint32(1))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # The libraries raise bare Exceptions, and where they panic what is no Exception at all.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = f"its tokenizer cannot be held to choices or schemas: {_first_line(error)}"
        raise ModelUnavailable(f"{str(path)!r}: {reason}") from error
