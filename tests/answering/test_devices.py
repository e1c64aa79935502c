"""A model on several devices, each with a process of its own: its answers are those of one. A CPU stands in for each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz.tiny import gguf_bytes
from support.parts import Told
from support.program import Outcome

from llmpar.answering.backend import Backend, Query, Reply
from llmpar.answering.choice import ModelChoice
from llmpar.answering.local import LocalBackend
from llmpar.answering.model import LocalModel
from llmpar.answering.processes import Processes
from llmpar.errors import UsageError
from llmpar.models import load, registry
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

SAMPLED = Sampling(temperature=0.8, top_p=0.9, seed=3)
FORM = Form(schema='{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}')


def prompt(number: int) -> Prompt:
    text = f"Sentence {number} of {number % 5}." + " And more." * (number % 4)
    return Prompt((("system", "Be brief."), ("user", text)), text)


PROMPTS = [prompt(number) for number in range(40)]


def open_on(devices: Sequence[str], path: Path, told: Told, **choice: object) -> Backend:
    """Open a model on devices, of which there may be more than the machine has."""
    chosen = replace(ModelChoice(str(path), precision="fp32", threads=1, batch_size=4), **choice)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "find_devices", lambda _: tuple(devices))
        return LocalModel(chosen, told).open(PROMPTS[:2])


def answers(backend: Backend, queries: Sequence[Query], middle: Callable[[], None] = lambda: None) -> list[Reply]:
    """Return the replies in order; `middle` is called when a quarter of them has come."""
    for query in queries:
        backend.count_tokens(query.prompt)
        backend.submit(query)
    found: dict[int, Reply] = {}
    while len(found) < len(queries):
        if len(found) == len(queries) // 4:
            middle()
        reply = backend.collect(60)
        assert reply is not None, "nothing comes"
        backend.confirm()
        found[reply.id] = reply
    return [replace(found[query.id], worker=None, seconds=0.0) for query in queries]


@pytest.fixture(scope="module")
def one(tiny_model: Path) -> Iterator[Backend]:
    backend = open_on(["cpu"], tiny_model, Told())
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def three(tiny_model: Path, told: Told) -> Iterator[Processes]:
    backend = open_on(["cpu"] * 3, tiny_model, told)
    assert isinstance(backend, Processes)
    yield backend
    backend.close()


def test_what_was_chosen_is_told(one: Backend, three: Processes, told: Told) -> None:
    assert isinstance(one, LocalBackend)
    assert three.num_slots == 3 * one.num_slots
    assert three.context_length <= one.context_length
    assert len([line for line in told.remarks if "4 slots" in line and "on cpu" in line]) == 3
    assert len(three.statuses) in (0, 3)
    assert three.measure("some words") == one.measure("some words")
    assert three.count_tokens(PROMPTS[0]) == one.count_tokens(PROMPTS[0])
    assert three.exceeds(Prompt((("user", "x " * 9000),), ""), 100)


def test_forms_and_strings_that_end_an_answer(one: Backend, three: Processes) -> None:
    letter = max("aeinort ", key=lambda char: sum(char in reply.text for reply in answers(one, queries(Sampling()))))
    asked = [
        Query(0, PROMPTS[0], Sampling(), 40, FORM),
        Query(1, PROMPTS[1], SAMPLED, 40, Form(choices=("yes", "no", "perhaps"))),
        *[Query(number, PROMPTS[number], Sampling(stop=(letter,)), 24) for number in range(2, 12)],
    ]
    three.check_form(FORM)
    with pytest.raises(UsageError):
        three.check_form(Form(schema='{"type": 7}'))
    expected = answers(one, asked)
    assert answers(three, asked) == expected
    assert expected[0].text.replace(" ", "") in ('{"a":"x"}', '{"a":"y"}')
    assert expected[1].text in ("yes", "no", "perhaps")
    assert any(reply.finish_reason == "stop" and letter not in reply.text for reply in expected[2:])


def test_an_answer_that_was_cut_goes_on(one: Backend, three: Processes) -> None:
    cut = answers(three, [Query(0, PROMPTS[0], SAMPLED, 6)])[0]
    assert cut.finish_reason == "length"
    more = [Query(1, PROMPTS[0], SAMPLED, 6, continues=cut.continuation)]
    whole = answers(three, more)
    assert whole == answers(one, more)
    assert whole[0].num_output_tokens == 12


def test_one_that_takes_too_long_fails_alone(three: Processes) -> None:
    late, other = answers(
        three, [Query(0, PROMPTS[0], Sampling(max_repeats=0), 500, timeout=1e-9), *queries(SAMPLED)[1:2]]
    )
    assert "took longer than" in (late.error or "")
    assert other.error is None


def test_any_number_of_processes_gives_the_same_answers(one: Backend, three: Processes, told: Told) -> None:
    """The last test of these three: at its end one is left."""
    for sampling in (Sampling(), SAMPLED):
        expected = answers(one, queries(sampling))
        assert len({reply.text for reply in expected}) > 10
        assert answers(three, queries(sampling)) == expected
    for number in (1, 0):
        process_id = three.process_ids[number]
        assert answers(three, queries(SAMPLED), lambda: os.kill(process_id, signal.SIGKILL)) == expected  # noqa: B023
    assert [line.partition(";")[0] for line in told.warnings] == [
        f"process {number} on cpu was ended by signal 9" for number in (1, 0)
    ]


def queries(sampling: Sampling) -> list[Query]:
    return [Query(number, given, sampling, 16 + number % 8) for number, given in enumerate(PROMPTS)]


def test_they_share_the_memory(tiny_model: Path) -> None:
    """Through torch, whose kept keys and values are counted; each process has a half."""
    told = Told()
    backend = open_on(["cpu:0", "cpu:0"], tiny_model, told, max_memory=4_000_000)
    assert len([line for line in told.remarks if "up to 2 MB for keys and values" in line]) == 2
    backend.close()
    with pytest.raises(UsageError, match=r"limit of 0.1MB .* at least \d+MB with 2 workers"):
        open_on(["cpu:0", "cpu:0"], tiny_model, told, max_memory=100_000)


def test_damaged_weights_are_made_again_before_an_answer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llmpar: Callable[..., Outcome]
) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes())
    os.utime(tmp_path / "tiny.gguf", (1e9, 1e9))
    arguments = (
        *("run", "-m", str(tmp_path / "tiny.gguf"), "--no-store", "--precision", "fp32", "-j", "1"),
        *("--max-new-tokens", "6", "--check", "none", "Say {text}"),
    )
    text = b"One.\n\nTwo.\n\nThree.\n"
    right = llmpar(*arguments, "--device", "cpu", stdin=text)
    assert right.code == 0, right.err
    file = registry.resolve(str(tmp_path / "tiny.gguf")).path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-20] ^= 0x40
    file.write_bytes(content)
    monkeypatch.setattr(load, "find_devices", lambda _: ("cpu", "cpu"))
    outcome = llmpar(*arguments, stdin=text)
    assert outcome.code == 0, outcome.err
    assert outcome.out == right.out
    assert outcome.err.count("was altered since it was written; nothing that was computed from it is kept") == 1
