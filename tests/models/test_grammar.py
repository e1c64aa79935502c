"""Choices and schemas → constraints: every walk along the masks is a valid answer, and engines walk along them."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat import CONTROL
from support.tiny_models import make as make_transformers

from llmpar.engine.build import build_engine
from llmpar.engine.constraint import unpack
from llmpar.engine.generic.model import TorchModel
from llmpar.engine.request import Request, SamplingParams
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.integrity.foundation import Foundation
from llmpar.models import grammar as grammar_module
from llmpar.models.grammar import Grammar, choices_rule, schema_rule
from llmpar.models.load import LoadedModel, load_model

VOCABULARY, STOP, BEGIN = 259, 2, 0
PREFIXES = ["no", "none", "nothing", "n", "yes", "yes, but"]
ODD = [
    '"quoted"',
    "back\\slash",
    "tab\there",
    "two\nlines",
    "a\x00b",
    "日本語",
    "naïve 😀",
    "<|im_end|>",
    "x<|im_end|>y",
    "a|b ; /c/",
]
TICKET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["billing", "bill", "bug"]},
        "order": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "share": {"type": "number"},
        "urgent": {"type": "boolean"},
        "words": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,3}$"}, "maxItems": 2},
    },
    "required": ["topic", "order", "urgent", "words"],
    "additionalProperties": False,
}


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


@pytest.fixture(scope="session")
def make(tiny_model: Path) -> Callable[..., Grammar]:
    def make_grammar(rule: str, vocabulary: int = VOCABULARY, stop_ids: frozenset[int] = frozenset({STOP})) -> Grammar:
        return Grammar(tiny_model, vocabulary, stop_ids, rule)

    return make_grammar


def walk(
    made: Grammar, seed: object, vocabulary: int = VOCABULARY, stop_ids: frozenset[int] = frozenset({STOP})
) -> list[int]:
    """Return the ids of a random answer along the masks, forced tokens taken as an engine does."""
    draw = random.Random(repr(seed))
    rule, ids = made.constrain(), []
    while not rule.is_complete:
        forced = rule.forced()
        allowed = set(np.flatnonzero(unpack(rule.allowed()[0], vocabulary)).tolist())
        assert not forced or forced[0] in allowed
        if forced and draw.random() < 0.5:
            for token_id in forced:
                rule.accept(token_id)
            ids += forced
            continue
        token_id = draw.choice(sorted(allowed))
        if token_id in stop_ids:
            assert stop_ids <= allowed, "one token may end the answer and another may not"
            break
        rule.accept(token_id)
        ids.append(token_id)
        assert len(ids) < 500
    return ids


def assert_valid(text: str, schema: dict[str, Any] = TICKET) -> None:
    value = json.loads(text)
    assert set(schema["required"]) <= value.keys() <= schema["properties"].keys()
    assert value["topic"] in schema["properties"]["topic"]["enum"]
    assert value["order"] is None or (type(value["order"]) is int and abs(value["order"]) < 2**53)
    assert isinstance(value.get("share", 0), (int, float))
    assert isinstance(value["urgent"], bool)
    assert len(value["words"]) <= 2
    assert all(word.isascii() and word.islower() and 1 <= len(word) <= 3 for word in value["words"])
    assert not set(" \n\t\r") & set(text), "white space between its parts"


class TestChoices:
    def test_each_walk_is_one_of_them_and_each_one_is_reached(self, make: Any, tokenizer: Any) -> None:
        made = make(choices_rule(PREFIXES))
        found = [decoded(tokenizer, walk(made, seed)) for seed in range(200)]
        assert set(found) == set(PREFIXES)

    def test_to_the_letter(self, make: Any, tokenizer: Any) -> None:
        made = make(choices_rule(ODD))
        answers = [walk(made, seed) for seed in range(300)]
        assert {decoded(tokenizer, ids) for ids in answers} == set(ODD)
        assert not {token_id for ids in answers for token_id in ids} & set(range(len(CONTROL)))

    @settings(max_examples=60, deadline=None)
    @given(choices=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True), seed=st.integers())
    def test_any_text(self, make: Any, tokenizer: Any, choices: list[str], seed: int) -> None:
        assert decoded(tokenizer, walk(make(choices_rule(choices)), seed)) in choices

    def test_the_only_one_is_forced(self, make: Any, tokenizer: Any) -> None:
        rule = make(choices_rule(["billing"])).constrain()
        assert decoded(tokenizer, rule.forced()) == "billing"

    def test_what_may_end_is_not_forced_on(self, make: Any) -> None:
        rule = make(choices_rule(["a", "ab"])).constrain()
        rule.accept(rule.forced()[0])
        assert not rule.is_complete
        assert rule.forced() == []

    def test_no_name_of_a_control_token_is_spelled_with_it(self, make: Any, tokenizer: Any) -> None:
        for choices in (["<|im_end|>"], ["x<|im_end|>y", "z"]):
            ids = walk(make(choices_rule(choices)), 0)
            assert not set(ids) & set(range(len(CONTROL)))
            assert decoded(tokenizer, ids) in choices

    def test_added_tokens_may_lie_outside_the_vocabulary(self, tmp_path: Path) -> None:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        alphabet = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        outside = Tokenizer(models.BPE(alphabet, []))
        outside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        outside.decoder = decoders.ByteLevel()
        outside.add_special_tokens([AddedToken("<end>", special=True)])
        outside.add_tokens(["tool", "<end>no"])
        outside.save(str(tmp_path / "tokenizer.json"))
        choices = ["no", "none", "tool", "toolbox", "<end>no"]
        made = Grammar(tmp_path, 264, {256}, choices_rule(choices))
        answers = [walk(made, seed, 264, frozenset({256})) for seed in range(100)]
        assert {outside.decode(ids) for ids in answers} == set(choices)
        assert max(token_id for ids in answers for token_id in ids) < 256

    def test_many(self, make: Any, tokenizer: Any) -> None:
        choices = [f"number {index}" for index in range(2000)]
        made = make(choices_rule(choices))
        assert {decoded(tokenizer, walk(made, seed)) for seed in range(20)} <= set(choices)

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ([], "no choices"),
            (["a", ""], "choice 2 of 2 is empty"),
            (["a", "b", "a"], "choice 'a' is given twice"),
            (["a", "\udcff"], "not valid UTF-8"),
        ],
    )
    def test_those_that_cannot_be_meant(self, choices: list[str], message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            choices_rule(choices)
        assert "\n" not in str(caught.value)


class TestSchemas:
    def test_each_walk_is_valid(self, make: Any, tokenizer: Any) -> None:
        made = make(schema_rule(TICKET))
        found = [decoded(tokenizer, walk(made, seed)) for seed in range(100)]
        for text in found:
            assert_valid(text)
        assert len(set(found)) > 80

    @pytest.mark.parametrize(
        ("schema", "valid", "invalid"),
        [
            ({"type": "integer"}, ["0", "-12", str(2**53 - 1), str(1 - 2**53)], [str(2**53), "9" * 40, "1.0", " 1"]),
            ({"type": "integer", "minimum": 10**17}, [str(10**17)], [str(10**17 - 1), "5"]),
            ({"type": "integer", "maximum": -(10**17)}, [str(-(10**17))], [str(1 - 10**17), "5"]),
            ({"type": "integer", "minimum": 5}, ["5", str(2**53 - 1)], ["4", str(2**53)]),
            ({"type": ["number", "null"]}, ["null", "-0.5", "12", "4.000000001"], ["9" * 17, "0." + "3" * 10, "true"]),
            ({"type": "number", "minimum": 0.25}, ["0.25", "7.5"], ["0.2", "0." + "3" * 10]),
            ({"type": "number", "multipleOf": 0.01}, ["0.25", "7"], ["0.251"]),
            ({"type": "integer", "enum": [10**17, 1]}, [str(10**17), "1"], ["2"]),
            ({"type": "integer", "const": 10**17}, [str(10**17)], ["1"]),
            ({"const": {"type": "integer", "n": 10**17}}, ['{"type":"integer","n":100000000000000000}'], ["1"]),
            (
                {
                    "type": "object",
                    "properties": {"type": {"type": "integer"}},
                    "required": ["type"],
                    "additionalProperties": False,
                },
                ['{"type":7}'],
                ['{"type":100000000000000000}', '{"type": 7}', "{}"],
            ),
            (
                {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
                ["[]", "[[],[[]]]"],
                ["[1]", "[[], []]"],
            ),
            ({"type": "string", "maxLength": 3}, ['"日本語"', '"\\n\\"a"'], ['"abcd"', '"a\nb"']),
            ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, ["[1]"], ["[9999999999999999]"]),
        ],
        ids=str,
    )  # fmt: skip
    def test_means_what_it_says(
        self, make: Any, tokenizer: Any, schema: Any, valid: list[str], invalid: list[str]
    ) -> None:
        made = make(schema_rule(schema))
        for text in [*valid, *invalid]:
            assert accepts(made, tokenizer, text) == (text in valid), text

    def test_a_schema_is_left_as_it_was(self) -> None:
        before = json.dumps(TICKET)
        schema_rule(TICKET)
        assert json.dumps(TICKET) == before

    @pytest.mark.parametrize(
        "schema",
        [
            None, [], "string", 5, True, {}, {"name": "a string", "age": 5}, {"type": "strin"},
            {"type": "object", "properties": 5}, {"$ref": "#/$defs/none"}, {"$ref": "http://example.org/schema"},
            {"type": "string", "pattern": "(?=a)b"}, {"type": "string", "pattern": "("},
            {"type": "string", "format": "nonsense"}, {"type": "array", "uniqueItems": True},
            {"type": "integer", "minimum": 5, "maximum": 3}, {"enum": []},
            {"type": "object", "not": {"type": "string"}}, {"type": "string", "not": {"const": "a"}},
            {"type": "string", "x-guidance": {"lenient": True}, "not": {"const": "a"}},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_used_is_said_in_a_line(self, schema: object) -> None:
        with pytest.raises(UsageError, match=r"^ticket\.json: ") as caught:
            schema_rule(schema, "ticket.json")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250

    def test_a_schema_cannot_change_how_json_is_written(self, make: Any, tokenizer: Any) -> None:
        schema = {
            "type": "array",
            "items": {"type": "integer"},
            "x-guidance": {"whitespace_flexible": True, "item_separator": ";"},
        }
        made = make(schema_rule(schema))
        assert accepts(made, tokenizer, "[1,2]")
        assert not accepts(made, tokenizer, "[1, 2]")
        assert not accepts(made, tokenizer, "[1;2]")


def accepts(made: Grammar, tokenizer: Any, text: str) -> bool:
    """Tell whether a text can be walked to, and may end there."""
    rule = made.constrain()
    for token_id in tokenizer.encode(text, add_special_tokens=False).ids:
        if not unpack(rule.allowed()[0], VOCABULARY)[token_id]:
            return False
        rule.accept(token_id)
    return bool(unpack(rule.allowed()[0], VOCABULARY)[STOP])


class TestTokens:
    def test_a_loaded_model_tells_how_many_it_scores(self, tiny_model: Path) -> None:
        assert load_model(tiny_model, "cpu", "fp32").vocabulary == VOCABULARY
        assert (
            LoadedModel(
                (TorchModel(make_transformers("bloom-alibi")),), 256, frozenset({STOP}), "fp32", Foundation()
            ).vocabulary
            == 300
        )

    @pytest.mark.parametrize("vocabulary", [259, 260, 288, 300, 1000])
    def test_rows_that_only_the_model_has_are_never_allowed(self, make: Any, vocabulary: int) -> None:
        rule = make(schema_rule({"type": "string"}), vocabulary).constrain()
        [mask] = rule.allowed()
        assert mask.shape == (-(-vocabulary // 32),)
        assert not unpack(mask, vocabulary)[VOCABULARY:].any()
        rule.accept(rule.forced()[0] if rule.forced() else int(np.flatnonzero(unpack(mask, vocabulary))[0]))
        assert not unpack(rule.allowed()[0], len(rule.allowed()[0]) * 32)[VOCABULARY:].any()

    def test_tokens_that_the_model_lacks_are_never_allowed(self, make: Any, tokenizer: Any) -> None:
        rule = make(choices_rule(["a", "b", "~", "é"]), 100).constrain()
        [mask] = rule.allowed()
        assert mask.shape == (4,)
        allowed = np.flatnonzero(unpack(mask, 128)).tolist()
        assert allowed == sorted(i for i in (tokenizer.token_to_id(char) for char in "ab~") if i < 100)

    def test_an_answer_that_no_token_spells_fails(self, make: Any) -> None:
        with pytest.raises(ValueError, match="no token"):
            make(choices_rule(["éa", "éb"]), 100).constrain().allowed()

    @pytest.mark.parametrize("stop_ids", [{0}, {2}, {0, 2}, {0, 1, 2, 9999}], ids=str)
    def test_all_that_stop_do_so_at_the_end_and_only_there(self, make: Any, stop_ids: set[int]) -> None:
        made = make(choices_rule(PREFIXES), stop_ids=frozenset(stop_ids))
        stops = frozenset(stop_ids - {9999})
        rule = made.constrain()
        seen = set()
        for token_id in (None, *rule_ids("none")):
            if token_id is not None:
                rule.accept(token_id)
            allowed = set(np.flatnonzero(unpack(rule.allowed()[0], VOCABULARY)).tolist())
            assert allowed & {0, 1, 2} in (set(), stops)
            seen.add(bool(allowed & stops))
        assert seen == {True, False}
        walk(made, 1, stop_ids=stops)

    def test_a_token_that_stops_is_no_part_of_an_answer(self, make: Any, tokenizer: Any) -> None:
        stop = tokenizer.token_to_id("b")  # as with models that stop at a newline
        rule = make(choices_rule(["a", "b", "abc"]), stop_ids=frozenset({stop})).constrain()
        assert np.flatnonzero(unpack(rule.allowed()[0], VOCABULARY)).tolist() == [tokenizer.token_to_id("a")]
        rule.accept(tokenizer.token_to_id("a"))
        assert np.flatnonzero(unpack(rule.allowed()[0], VOCABULARY)).tolist() == [stop]
        assert rule.forced() == []

    def test_control_tokens_may_be_named(self, tiny_model: Path, tokenizer: Any) -> None:
        name = tokenizer.token_to_id("c")
        made = Grammar(tiny_model, VOCABULARY, {STOP}, choices_rule(["a", "c", "d"]), {name})
        assert name not in np.flatnonzero(unpack(made.constrain().allowed()[0], VOCABULARY)).tolist()

    @pytest.mark.parametrize("stop_ids", [set(), {9999}], ids=str)
    def test_a_model_must_be_able_to_stop(self, tiny_model: Path, stop_ids: set[int]) -> None:
        with pytest.raises(ModelUnavailable, match="no token that ends"):
            Grammar(tiny_model, VOCABULARY, stop_ids, choices_rule(["a"]))

    def test_a_damaged_tokenizer_is_the_models_fault(self, tmp_path: Path) -> None:
        for content in ("", "{}", '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'):
            (tmp_path / "tokenizer.json").write_text(content)
            with pytest.raises(ModelUnavailable, match="tokenizer") as caught:
                Grammar(tmp_path, 300, {0}, choices_rule(["a"]))
            assert "\n" not in str(caught.value)

    def test_pieces_with_spaces_and_bytes_of_their_own(self, tmp_path: Path) -> None:
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

        words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        words += [*"▁abcdefghijklmnopqrstuvwxyz", "▁a", "no", "▁no", "ne"]
        merges = [("▁", "a"), ("n", "o"), ("▁", "no"), ("n", "e")]
        made = Tokenizer(
            models.BPE(
                {w: i for i, w in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
            )
        )
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        made.add_special_tokens([AddedToken(word, special=True) for word in words[:3]])
        made.save(str(tmp_path / "tokenizer.json"))
        choices = ["no", "none", "a no", "is no a", "né", "A-1"]
        grammar = Grammar(tmp_path, len(words), {2}, choices_rule(choices))
        assert {made.decode(walk(grammar, seed, len(words))) for seed in range(200)} == set(choices)


def rule_ids(text: str) -> list[int]:
    """Return the tiny tokenizer's ids of printable ASCII: a token for each character, in an order of its own."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [len(CONTROL) + alphabet.index(char) for char in text]


class TestConstraint:
    def test_looking_ahead_is_as_going_there_and_leaves_no_trace(self, make: Any, tokenizer: Any) -> None:
        made = make(schema_rule(TICKET))
        for seed in range(30):
            ids = walk(made, seed)
            looking, going = made.constrain(), made.constrain()
            draw = random.Random(seed)
            done = 0
            while done < len(ids):
                count = draw.randrange(1, 8)
                ahead = ids[done : done + count]
                masks = looking.allowed(ahead)
                assert len(masks) == len(ahead) + 1
                for token_id, mask in zip(ahead, masks, strict=False):
                    assert np.array_equal(mask, going.allowed()[0])
                    going.accept(token_id)
                assert np.array_equal(masks[-1], going.allowed()[0])
                assert np.array_equal(looking.allowed()[0], masks[0])
                taken = draw.randrange(len(ahead) + 1)
                for token_id in ahead[:taken]:
                    looking.accept(token_id)
                going = made.constrain()
                done += taken
                for token_id in ids[:done]:
                    going.accept(token_id)
                assert looking.forced() == going.forced()
                assert looking.is_complete == going.is_complete

    def test_looking_ahead_ends_at_what_may_not_come(self, make: Any) -> None:
        rule = make(choices_rule(PREFIXES)).constrain()
        assert len(rule.allowed(rule_ids("nox"))) == 3
        assert len(rule.allowed([*rule_ids("no"), STOP])) == 3
        assert len(rule.allowed(rule_ids("nothing"))) == 8
        assert len(rule.allowed([*rule_ids("nothing"), 5])) == 8

    def test_what_may_not_come_fails_it_and_no_later_one(self, make: Any, tokenizer: Any) -> None:
        made = make(choices_rule(PREFIXES))
        rule = made.constrain()
        with pytest.raises(ValueError, match="cannot go on") as caught:
            rule.accept(rule_ids("z")[0])
        assert "\n" not in str(caught.value)
        for call in (rule.allowed, rule.forced, lambda: rule.is_complete):
            with pytest.raises(ValueError, match="cannot go on"):
                call()
        assert decoded(tokenizer, walk(made, 0)) in PREFIXES

    def test_beginning_again_changes_nothing(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = make(schema_rule(TICKET))
        shared = [walk(made, seed) for seed in range(20)]
        monkeypatch.setattr(grammar_module, "_MOST_SHARED", 2)
        made = make(schema_rule(TICKET))
        assert [walk(made, seed) for seed in range(20)] == shared

    def test_threads_share_a_grammar(self, make: Any) -> None:
        made = make(schema_rule(TICKET))
        alone = [walk(made, seed) for seed in range(80)]
        found: dict[int, list[int]] = {}
        barrier = threading.Barrier(8)

        def work(first: int) -> None:
            barrier.wait()
            for seed in range(first, 80, 8):
                found[seed] = walk(made, seed)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[seed] for seed in range(80)] == alone

    def test_one_made_in_a_thread_may_end_in_another(self, make: Any) -> None:
        made = make(choices_rule(PREFIXES))
        rules: list[Any] = []
        thread = threading.Thread(target=lambda: rules.append(made.constrain()))
        thread.start()
        thread.join()
        assert rules[0].allowed()[0].any()
        rules.clear()


@pytest.mark.parametrize("rule", [choices_rule(PREFIXES), schema_rule(TICKET)], ids=["choices", "schema"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(
    "params", [SamplingParams(200), SamplingParams(200, temperature=1.2, seed=3)], ids=["greedy", "drawn"]
)
def test_engines_answer_validly_and_the_same_whatever_n_and_batch(
    tiny_model: Path, make: Any, tokenizer: Any, rule: str, precision: Any, params: SamplingParams
) -> None:
    loaded = load_model(tiny_model, "cpu", precision)
    model, made = loaded.models[0], make(rule, loaded.vocabulary)
    texts = [f"message {index} of {index * 7 % 5}" for index in range(24)]
    prompts = [[BEGIN, *tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]
    answers = []
    for workers, batch in ((1, 1), (1, 24), (2, 7), (4, 3)):
        found: dict[int, Any] = {}
        with build_engine([model], 1024, frozenset({STOP}), workers, batch, prompts[0][:9]) as engine:
            for index, prompt in enumerate(prompts):
                engine.submit(Request(index, prompt, params, constraint=made.constrain))
            while len(found) < len(prompts):
                completion = engine.collect(timeout=60)
                assert completion is not None, "the engine hangs"
                assert (completion.error, completion.finish_reason) == (None, "stop")
                found[completion.id] = decoded(tokenizer, list(completion.output_ids))
        answers.append([found[index] for index in range(len(prompts))])
    for text in answers[0]:
        if text not in PREFIXES:
            assert_valid(text)
    assert all(one == other for one, other in pairwise(answers))
    if params.temperature:
        assert len(set(answers[0])) > 3
