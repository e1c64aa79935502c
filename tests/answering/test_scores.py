"""How sure a model was: shares of choices, means, what is told of tokens, and the check that looks at it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.questions import question

from llmpar.answering.begun import Begun
from llmpar.answering.judging import fault_of, lacks_confidence
from llmpar.answering.scores import content_of, mean_and_least, shares_of
from llmpar.answering.wire import Ended
from llmpar.documents.confidence import confidence_of
from llmpar.engine.request import Completion
from llmpar.engine.scores import NOT_SCORED, Others
from llmpar.errors import UsageError
from llmpar.store.answer import StoredAnswer, answer_said, said_by, text_said
from llmpar.store.store import Store
from llmpar.tasks.checks import DEFAULT_CHECKS, least_confidence, parse_checks
from llmpar.tasks.question import Question, Sampling

CHOICES = ("yes", "yes, but", "no", "never", "neutral")
STOP = ""
TOKENS = [STOP, *sorted({choice[a:b] for choice in CHOICES for a in range(9) for b in range(a + 1, 9) if choice[a:b]})]


def decode(outputs: Sequence[Sequence[int]]) -> list[str]:
    return ["".join(TOKENS[token] for token in output) for output in outputs]


def left(text: str) -> list[int]:
    """Return the tokens that the form leaves after a text."""
    found = [
        number
        for number, token in enumerate(TOKENS)
        if token and any(choice.startswith(text + token) for choice in CHOICES)
    ]
    return found + ([0] if text in CHOICES else [])


def weights(text: str, seed: int) -> dict[int, float]:
    """Return what a model of our own thinks of the tokens after a text."""
    draw = random.Random(f"{seed}:{text}")
    return {token: draw.gauss(-3, 2) for token in left(text)}


def exact(text: str, seed: int) -> dict[str, float]:
    """Return how often each choice comes of all draws, by going every way."""
    known = weights(text, seed)
    total = sum(map(math.exp, known.values()))
    found = dict.fromkeys(CHOICES, 0.0)
    for token, logprob in known.items():
        share = math.exp(logprob) / total
        if token == 0:
            found[text] += share
            continue
        for choice, rest in exact(text + TOKENS[token], seed).items():
            found[choice] += share * rest
    return found


def greedy(seed: int) -> tuple[list[int], list[Others]]:
    """Return the tokens of the likeliest way, and what was left at each place of it."""
    ids: list[int] = []
    others: list[Others] = []
    while True:
        text = decode([ids])[0]
        known = weights(text, seed)
        if set(known) == {0}:
            return ids, others
        others.append(tuple(sorted(known.items(), key=lambda pair: -pair[1])))
        best = others[-1][0][0]
        if best == 0:
            return ids, others
        ids.append(best)


@pytest.mark.parametrize("seed", range(40))
def test_shares_are_those_of_all_draws_where_the_way_tells_them(seed: int) -> None:
    ids, others = greedy(seed)
    answer = decode([ids])[0]
    found, expected = dict(shares_of(CHOICES, answer, ids, others, decode)), exact("", seed)
    assert list(found) == list(CHOICES)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    # The answer's own share lacks what other tokens would have come to, and no more than is divided.
    along = [decode([ids[:place]])[0] for place in range(len(others))]
    divided = 0.0
    mass = 1.0
    for place, (text, tokens) in enumerate(zip(along, others, strict=True)):
        total = sum(math.exp(logprob) for _, logprob in tokens)
        taken = ids[place] if place < len(ids) else 0
        for token, logprob in tokens:
            several = sum(choice.startswith(text + TOKENS[token]) for choice in CHOICES) > 1
            if token not in (taken, 0) and several:
                divided += mass * math.exp(logprob) / total
        mass *= math.exp(dict(tokens)[taken]) / total
    for choice in CHOICES:
        assert abs(found[choice] - expected[choice]) <= divided + 1e-5


def test_choices_that_begin_otherwise_are_told_exactly() -> None:
    others: list[Others] = [((5, -0.1), (6, -2.5), (7, -4.0))]
    texts = {5: "a", 6: "b", 7: "c"}

    def plain(outputs: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(texts[token] for token in output) for output in outputs]

    found = shares_of(("c", "b", "a"), "a", [5], others, plain)
    total = sum(map(math.exp, (-0.1, -2.5, -4.0)))
    assert [choice for choice, _ in found] == ["c", "b", "a"]
    assert [share for _, share in found] == pytest.approx([math.exp(x) / total for x in (-4, -2.5, -0.1)], abs=1e-6)
    assert shares_of(("c", "b", "a"), "d", [5], others, plain) == ()
    assert shares_of(("c", "b", "a"), "a", [5], [], plain) == ()


def test_forced_tokens_do_not_count() -> None:
    assert mean_and_least([-1.0, NOT_SCORED, -3.0]) == (-2.0, -3.0)
    assert mean_and_least([NOT_SCORED]) == mean_and_least([]) == (None, None)


def test_confidence_is_that_of_the_choice_or_of_the_tokens() -> None:
    assert confidence_of("b", -3.0, (("a", 0.25), ("b", 0.75))) == 0.75
    assert confidence_of("x", math.log(0.5)) == pytest.approx(0.5)
    assert confidence_of("x", None) is None


def test_what_is_told_of_tokens() -> None:
    words = {1: "Hé", 2: " you", 3: "!", 4: " me"}

    def spelt(outputs: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(words[token] for token in output) for output in outputs]

    others: list[Others] = [((1, -0.5), (4, -2.0)), ((4, -0.1), (2, -1.5)), ()]
    told = json.loads(content_of([1, 2, 3], [-0.5, -1.5, NOT_SCORED], others, 2, spelt))
    assert [entry["token"] for entry in told] == ["Hé", " you", "!"]
    assert [entry["logprob"] for entry in told] == [-0.5, -1.5, 0.0]
    assert bytes(told[0]["bytes"]).decode() == "Hé"
    assert [[other["token"] for other in entry["top_logprobs"]] for entry in told] == [
        ["Hé", " me"],
        [" me", " you"],
        [],
    ]


def test_an_answer_that_is_cut_goes_on_with_its_scores() -> None:
    begun = Begun().followed_by(Completion(0, [5, 6], "length", logprobs=[-0.5, NOT_SCORED], others=[((5, -0.5),), ()]))
    again = Begun.unpacked(begun.packed())
    assert list(again.ids) == [5, 6]
    assert again.logprobs[0] == -0.5
    assert math.isnan(again.logprobs[1])
    assert list(again.others) == [((5, -0.5),), ()]
    assert list(Begun.unpacked(b"").ids) == []
    unscored = again.followed_by(Completion(0, [7], "stop"))
    assert list(unscored.ids) == [5, 6, 7]
    assert math.isnan(unscored.logprobs[2])


def test_scores_go_from_process_to_process() -> None:
    sent = [
        Completion(3, [1, 2], "stop", logprobs=[-0.25, NOT_SCORED], others=[((1, -0.25),), ()]),
        Completion(4, [], "error", "no"),
        Completion(5, [9], "stop", logprobs=[-2.0]),
    ]
    found = list(Ended.of(sent).completions())
    assert repr([list(one.logprobs) for one in found]) == repr([list(one.logprobs) for one in sent])
    assert [list(one.others) for one in found] == [list(one.others) for one in sent]


SCORED = StoredAnswer(
    0, "good", "stop", 3, 4, 0.5, mean_logprob=-0.25, min_logprob=-1.5, probabilities=(("good", 0.9), ("bäd", 0.1))
)


@pytest.mark.parametrize("answer", [SCORED, replace(SCORED, thoughts="hm", num_thinking_tokens=2, tokens="[]")])
def test_the_store_keeps_scores(tmp_path: Path, answer: StoredAnswer) -> None:
    store = Store(tmp_path / "store.sqlite")
    job = store.job({"task": "x"})
    plain = StoredAnswer(0, "plain", "stop", 3, 4, 0.5)
    for text, one in (("a", answer), ("b", plain)):
        job.add(job.key(text), text, one)
    job.commit()
    assert job.find(job.key("a")) == [answer]
    assert job.find(job.key("b")) == [plain]
    assert store.verify() == []
    assert sorted(said for *_, said in store.texts()) == ["good", "plain"]
    store.close()


def test_versions_without_scores_read_past_them() -> None:
    """A row is made so that a version from before there were any takes the text, the thoughts and the counts."""
    text, *thoughts = said_by(SCORED).split(b"\xff")
    assert (text, thoughts[0], thoughts[1]) == (b"good", b"", b"0 0")
    assert text_said(said_by(SCORED)) == "good"
    old = replace(SCORED, mean_logprob=None, min_logprob=None, probabilities=())
    assert said_by(old) == b"good"
    counts = (old.finish_reason, old.num_prompt_tokens, old.num_output_tokens, old.seconds)
    assert answer_said(b"good", old.attempt, *counts) == old
    told = replace(old, tokens="[]")  # of a form that leaves no choice, nothing else is known
    assert answer_said(said_by(told), told.attempt, *counts) == told


def judged(answer: StoredAnswer, checks: str) -> str | None:
    one = question("Is it good?")
    task = replace(one.task, checks=parse_checks(checks, DEFAULT_CHECKS))
    return fault_of(Question(one.segment, task), answer, Sampling())


def test_the_check_of_confidence() -> None:
    answer = StoredAnswer(0, "good", "stop", 3, 4, mean_logprob=math.log(0.7), min_logprob=-2.0)
    assert judged(answer, "confidence:0.69") is None
    assert judged(answer, "confidence:0.8") == "the answer has a confidence of 0.700, below 0.8"
    assert judged(SCORED, "confidence:0.9") is None
    assert judged(SCORED, "confidence:0.95") == "the answer has a confidence of 0.900, below 0.95"
    unknown = replace(answer, mean_logprob=None)
    assert judged(unknown, "") is None
    assert judged(unknown, "confidence:0.1") == "the answer's confidence is not known, and has to be 0.1 or more"
    one = question("Is it good?")
    assert not lacks_confidence(one, unknown)
    checked = Question(one.segment, replace(one.task, checks=frozenset({"confidence:0.5"})))
    assert lacks_confidence(checked, unknown)
    assert not lacks_confidence(checked, answer)
    assert not lacks_confidence(checked, replace(unknown, finish_reason="kept"))


@pytest.mark.parametrize("name", ["confidence", "confidence:", "confidence:0", "confidence:1.5", "confidence:nan"])
def test_a_confidence_is_a_number_above_0_up_to_1(name: str) -> None:
    with pytest.raises(UsageError, match="needs a number above 0, up to 1"):
        parse_checks(name, DEFAULT_CHECKS)


def test_a_confidence_is_given_one_time() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_checks("confidence:0.5,confidence:0.6", DEFAULT_CHECKS)
    assert least_confidence(parse_checks("none, confidence:0.5", DEFAULT_CHECKS)) == 0.5
    assert least_confidence(DEFAULT_CHECKS) is None
