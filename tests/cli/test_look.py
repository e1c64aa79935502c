"""A look before the job: prompts as the model gets them, a sample with its answers, and a forecast."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import Outcome

from llmpar.cli.look import spread
from llmpar.reporting.pace import Machine, Pace
from llmpar.reporting.paces import file_of_paces, recall, recall_most, remember

Call = Callable[..., Outcome]
TEXT = "".join(f"Line number {number}.\n" for number in range(1, 41))


@given(st.integers(0, 300), st.integers(1, 40))
def test_a_sample_is_spread_over_all_there_is(total: int, count: int) -> None:
    found = spread(range(total), count)
    assert found == sorted(set(found))
    assert len(found) == min(count, total)
    if total > 4 * count > 4:
        assert max(b - a for a, b in pairwise([0, *found, total])) <= 2 * total // count


def run(llmpar: Call, model: Path, *options: str, text: str = TEXT) -> Outcome:
    return llmpar("run", "Say {text}", "-u", "line", "--model", str(model), "--check", "none", *options,
                  stdin=text.encode())  # fmt: skip


def forecast(outcome: Outcome) -> dict[str, str]:
    lines = outcome.out.decode().splitlines()
    return dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines)  # type: ignore[misc]


def number_of(told: str) -> int:
    return int(re.findall(r"about ([\d,]*\d)", told)[0].replace(",", ""))


def test_prompts_show_their_control_tokens(llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("llmpar.models.load.load_model", refuse)
    hostile = "Stop <|im_end|> here.\nSecond.\nThird.\nFourth.\n"
    for option, count in ((("--show-prompt",), 3), (("--show-prompt", "2"), 2), (("--show-prompt=1",), 1)):
        outcome = run(llmpar, tiny_model, *option, text=hostile)
        assert (outcome.code, outcome.err) == (0, "")
        shown = outcome.out.decode()
        assert re.findall(r"--- <stdin>:(\d+), \d+ tokens ---", shown) == ["1", "2", "3"][:count]
    assert "⟦<|im_start|>⟧user\nSay Stop <|im_end|> here.⟦<|im_end|>⟧" in shown


def test_an_echo_has_prompts_too(llmpar: Call) -> None:
    outcome = llmpar("run", "Say {text}", "--engine", "echo", "--show-prompt", stdin=b"One.\n")
    assert outcome.out == b"--- <stdin>:1 ---\nOne.\n\n"


def test_a_prompt_says_what_its_answer_must_be(llmpar: Call, tmp_path: Path) -> None:
    asked = ("run", "Say {text}", "--engine", "echo", "--show-prompt")
    told = llmpar(*asked, "--choices", "yes,no", stdin=b"One. Two.\n").out
    assert told == b"".join(
        b"--- <stdin>:1 ---\n%b\n--- the answer must be one of: yes, no ---\n\n" % text for text in (b"One.", b"Two.")
    )
    many = llmpar(*asked, "--choices", ",".join(map(str, range(1, 61))), stdin=b"One.\n").out
    assert b", 49, 50, and 10 more ---" in many
    schema = tmp_path / "x.json"
    schema.write_text('{"type": "object",\n "properties": {"stars": {"type": "integer"}}}')
    shown = llmpar(*asked, "--schema", str(schema), stdin=b"One.\n").out
    assert b'must be JSON of this schema: {"type": "object", "properties": {"stars": {"type": "integer"}}} ---' in shown


def test_a_sample_shows_pieces_and_answers(llmpar: Call) -> None:
    outcome = llmpar("run", "Say {text}", "-u", "line", "--engine", "echo", "--sample", "4", stdin=TEXT.encode())
    found = re.findall(r"--- <stdin>:(\d+) ---\n(.*)\n\n→ (.*)\n\n", outcome.out.decode())
    assert [(int(line), source) for line, source, _ in found] == [
        (number, f"Line number {number}.") for number in (5, 13, 25, 33)
    ]
    assert all(source == answer for _, source, answer in found)
    assert outcome.err.startswith("llmpar run: 4 pieces, ")


@pytest.mark.parametrize("options", [("--in-place",), ("--merge", "jsonl"), ("--interleave",), ("--output-dir", ".")])
def test_a_sample_is_no_document(llmpar: Call, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "a.txt").write_text("One.\n")
    outcome = llmpar("run", "x", "--engine", "echo", "--sample", "2", *options, "--", str(tmp_path / "a.txt"))
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert (tmp_path / "a.txt").read_text() == "One.\n"


class TestForecast:
    def test_what_is_kept_stale_and_asked(self, llmpar: Call, tiny_model: Path) -> None:
        limits = ("--max-new-tokens", "12")
        assert forecast(run(llmpar, tiny_model, "--dry-run", *limits))["to ask"] == "40"
        assert run(llmpar, tiny_model, "--sample", "10", *limits).code == 0
        rows = forecast(run(llmpar, tiny_model, "--dry-run", *limits, text=TEXT + "Line number 1.\n42\n"))
        assert (rows["pieces (lines)"], rows["kept"], rows["repeated"], rows["to ask"]) == ("42", "10", "1", "31")
        assert rows["tokens to write"].startswith("about ")
        assert re.match(r"about \d+ s, as fast as the run", rows["time"]), "10 prompts of some 30 bytes"
        other = forecast(run(llmpar, tiny_model, "--dry-run", *limits, "--temperature", "0.5"))
        assert (other["to ask"], other["10 of them"]) == ("40", "have an answer to another temperature")
        assert run(llmpar, tiny_model, *limits).code == 0
        done = forecast(run(llmpar, tiny_model, "--dry-run", *limits))
        assert (done["kept"], done["to ask"], done["time"]) == ("40", "0", "none to speak of")

    def test_its_tokens_are_those_of_the_run(self, llmpar: Call, tiny_model: Path) -> None:
        limits = ("--max-new-tokens", "12")
        run(llmpar, tiny_model, "--sample", "12", *limits)
        rows = forecast(run(llmpar, tiny_model, "--dry-run", *limits))
        done = run(llmpar, tiny_model, *limits).err
        read, written = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:tokens in|out)", done))
        assert int(rows["tokens to read"].replace(",", "")) == read
        assert abs(number_of(rows["tokens to write"]) - written) <= 0.2 * written

    def test_choices_are_foreseen_by_those_that_were_made(self, llmpar: Call, tiny_model: Path) -> None:
        def foreseen(text: str) -> int:
            rows = forecast(run(llmpar, tiny_model, "--dry-run", "--choices", choices, text=text))
            return number_of(rows["tokens to write"])

        choices = "a,bb,ccc"
        assert foreseen(TEXT) == 40 * 3, "the mean of 2, 3 and 4 tokens, as nothing else tells"
        done = run(llmpar, tiny_model, "--choices", choices).err
        written = int(re.findall(r"([\d,]+) out", done)[0])
        # As many others; what is told has two digits.
        assert foreseen(TEXT.replace("number", "nummer")) == pytest.approx(written, rel=0.05)

    def test_a_trial_makes_answers_over_answers_as_the_run_does(
        self, llmpar: Call, tiny_model: Path, tmp_path: Path
    ) -> None:
        paths = [tmp_path / name for name in ("a.txt", "b.txt")]
        for path in paths:
            path.write_text("".join(f"Part {number} of {path.name}.\n\n" for number in range(9)))
        task = tmp_path / "task.toml"
        task.write_text('prompt = "Say {text}"\nreduce = "Join {text}"\nmerge = "reduce"\nunit = "paragraph"\n')
        command = ("run", "--task", str(task), "--model", str(tiny_model), "--max-new-tokens", "12",
                   "--check", "none", *map(str, paths))  # fmt: skip
        trial = llmpar(*command, "--sample", "10")
        assert trial.code == 0
        assert len(re.findall(r"^--- .*: one answer of these 5 ---$", trial.out.decode(), re.MULTILINE)) == 2
        rows = forecast(llmpar(*command, "--dry-run"))
        done = llmpar(*command).err
        read, written = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:tokens in|out)", done))
        assert rows["to ask"] == "8"
        assert rows["to join answers"].startswith("about ")
        kept = [json.loads(line) for line in file_of_paces().read_text().splitlines()]
        assert {one["job"] for one in kept} == {kept[0]["job"]}
        assert all(one["reading"] > 0 and one["step"] + one["writing"] > 0 and one["read_again"] >= 1 for one in kept)
        done_again = forecast(llmpar(*command, "--dry-run"))
        assert (done_again["to ask"], done_again["time"]) == ("0", "none to speak of")
        assert re.fullmatch(r"\d+ questions, kept", done_again["to join answers"])
        paths[0].write_text("Another part.\n\n" + paths[0].read_text())
        changed = forecast(llmpar(*command, "--dry-run"))
        assert changed["to ask"] == "1"
        assert re.fullmatch(r"about \d+ questions, \d+ of them kept", changed["to join answers"]), "b.txt is as it was"
        # The tiny model's answers are random bytes, some of which are longer when they are read again.
        assert int(rows["tokens to read"].replace(",", "")) == pytest.approx(read, rel=0.2)
        assert number_of(rows["tokens to write"]) == pytest.approx(written, rel=0.05)

    def test_few_answers_leave_a_doubt_that_is_told(self, llmpar: Call, tiny_model: Path) -> None:
        """Answers that differ in length tell the more of others the more there are."""
        form = ("--choices", "a,b,cccccccccccccccccccccccccccccc,dddddddddddddddddddd", "--temperature", "3")

        def doubt(count: int) -> int:
            assert run(llmpar, tiny_model, "--sample", str(count), *form).code == 0
            rows = forecast(run(llmpar, tiny_model, "--dry-run", *form, text=TEXT.replace("number", "nummer")))
            found = re.fullmatch(r"about [\d,]+, give or take (\d+)%", rows["tokens to write"])
            return int(found[1]) if found else 0

        assert doubt(10) > doubt(30) > 0

    def test_it_makes_no_store(self, llmpar: Call, tiny_model: Path, tmp_path: Path) -> None:
        assert run(llmpar, tiny_model, "--dry-run", "--store", str(tmp_path / "store")).code == 0
        assert not list(tmp_path.iterdir())

    def test_an_echo_is_only_counted(self, llmpar: Call, tmp_path: Path) -> None:
        outcome = llmpar("run", "x", "-u", "line", "--engine", "echo", "--dry-run", stdin=TEXT.encode())
        assert forecast(outcome) == {"documents": "1", "pieces (lines)": "40"}, "an echo has nothing to foresee"


class TestPace:
    MACHINE = Machine("a", "auto", "auto", None, None)

    def pace(self, start: float = 2.0, machine: Machine = MACHINE, job: str = "j", num_read: int = 1000) -> Pace:
        return Pace(machine, job, start, num_read, num_read // 3, 2, 0.001, 0.002, 0.02, 1.0, 1.0, 40, 0.1, 4.0, 0.5)

    def test_the_last_run_on_such_a_machine_counts(self) -> None:
        assert recall(self.MACHINE, "j", 1000, 300) is None
        for pace in (self.pace(3.0), self.pace(), self.pace(9.0, Machine("a", "auto", "auto", 2, None))):
            remember(pace)
        found = recall(self.MACHINE, "j", 900, 300)
        assert found is not None
        assert (found.start, found.machine, found.num_read) == (2.0, self.MACHINE, 2000), "both on it, the last before"
        assert file_of_paces().stat().st_mode & 0o777 == 0o600

    def test_what_it_cannot_read_is_no_pace(self) -> None:
        remember(self.pace())
        good = json.loads(file_of_paces().read_text())
        damaged: list[Any] = [
            "",
            "x",
            "[]",
            "1",
            json.dumps({**good, "reading": "x"}),
            json.dumps({**good, "reading": -1}),
            json.dumps({**good, "job": 1}),
        ]
        file_of_paces().write_text("\n".join(damaged))
        assert recall(self.MACHINE, "j", 1000, 300) is None

    def test_one_of_the_same_job_counts_before_one_of_the_same_length(self) -> None:
        many, few, other = self.pace(num_read=60_000), self.pace(num_read=300), self.pace(job="k", num_read=90_000)
        for pace in (many, few, other):
            remember(pace)
        assert recall(self.MACHINE, "j", 90_000, 25_000) == many
        assert recall(self.MACHINE, "j", 500, 200) == few
        assert recall(self.MACHINE, "l", 90_000, 30_000) == other, "nothing is known of this job"

    def test_the_runs_with_most_answers_tell_what_others_of_the_job_will_be(self) -> None:
        assert recall_most(self.MACHINE, "j", 1000) is None
        many, few = replace(self.pace(), num_drawn=90, length=5.0), replace(self.pace(5.0), num_drawn=10, length=4.0)
        other = self.pace(job="k")
        for pace in (few, many, other):
            remember(pace)
        found = recall_most(self.MACHINE, "j", 1000)
        assert found is not None
        assert (found.start, found.num_drawn, found.length) == (many.start, 100, pytest.approx(4.9))
        assert recall_most(self.MACHINE, "l", 1000) == replace(other, num_drawn=0), "its answers tell nothing of these"

    def test_few_are_kept(self) -> None:
        for number in range(230):
            remember(self.pace(number))
        assert len(file_of_paces().read_text().splitlines()) == 200
