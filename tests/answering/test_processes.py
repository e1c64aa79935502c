"""Several processes as one backend: nothing is lost and nothing is answered twice, whatever becomes of them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack.launch import committed
from support.fakes import fake_answer
from support.parts import Told, ask, fake_part, is_gone, opened, replies, wait_until
from support.places import ROOT

from llmpar.answering.backend import Query
from llmpar.answering.processes import Processes
from llmpar.errors import EngineFailed, KeptDamaged, UsageError, told_in_shell
from llmpar.tasks.question import Prompt, Sampling

TEXTS = [f"text {number}" for number in range(60)]


def answer(text: str) -> str:
    return bytes(fake_answer(text.encode())).decode()


def check(backend: Processes, texts: list[str]) -> None:
    found = replies(backend, len(texts))
    assert [found[number].text for number in range(len(texts))] == [answer(text) for text in texts]


class TestAnswers:
    def test_all_share_the_work_and_each_reply_comes_once(self) -> None:
        told = Told()
        backend = opened(fake_part(delay=0.002), fake_part(slots=3, context=400, kind="warning"), watcher=told)
        assert (backend.num_slots, backend.context_length, backend.failure) == (5, 400, None)
        assert backend.collect(0) is None
        ask(backend, TEXTS)
        found = replies(backend, len(TEXTS))
        assert [found[number].text for number in range(len(TEXTS))] == list(map(answer, TEXTS))
        assert {reply.worker for reply in found.values()} == {0, 1}
        assert told.remarks == ["opened with 2 slots", "opened with 3 slots"] or told.remarks == [
            "opened with 3 slots",
            "opened with 2 slots",
        ]
        assert told.warnings == ["process 1 on fake:1: something was made again"]
        wait_until(lambda: backend.drain() == [] and sum(status.num_done for status in backend.statuses) == len(TEXTS))
        backend.close()
        assert backend.drain() == []
        assert all(map(is_gone, backend.process_ids))
        with pytest.raises(EngineFailed, match="closed"):
            ask(backend, ["more"])

    def test_a_process_holds_no_more_than_its_window(self) -> None:
        backend = opened(fake_part(delay=0.01), fake_part(delay=0.01))
        ask(backend, TEXTS)
        backend._hand_out()
        assert [len(server.held) for server in backend._servers] == [8, 8]
        assert len(backend._waiting) == len(TEXTS) - 16
        costs = [server.cost for server in backend._servers]
        assert max(costs) - min(costs) <= 110, "none has all the long ones"
        check(backend, TEXTS)
        assert [(len(server.held), server.cost) for server in backend._servers] == [(0, 0), (0, 0)]
        backend.close()

    def test_each_is_encoded_once_and_here(self) -> None:
        encoded: list[str] = []
        backend = opened(fake_part(), encodes=encoded)
        counted, other = Prompt((("user", "one"),), "one"), Prompt((("user", "two"),), "two")
        assert backend.count_tokens(counted) == 3
        backend.submit(Query(0, counted, Sampling(), 100))
        assert encoded == ["one"], "what was counted is not encoded again"
        backend.submit(Query(1, other, Sampling(), 100))
        found = replies(backend, 2)
        assert [found[0].text, found[1].text] == [answer("one"), answer("two")]
        assert encoded == ["one", "two"], "in the process nothing is: its engine would wait for that"
        backend.close()

    def test_what_cannot_be_taken_in_fails_alone(self) -> None:
        backend = opened(fake_part())
        backend.submit(Query(0, Prompt((), ""), Sampling(), 100))
        backend.submit(Query(1, Prompt((), "x" * 450), Sampling(), 100))
        backend.submit(Query(2, Prompt((), "x"), Sampling(), 100))
        backend.submit(Query(3, Prompt((), "\ud800"), Sampling(), 100))  # its encoder raises what nobody foresaw
        found = replies(backend, 4)
        assert (found[3].error or "").startswith("UnicodeEncodeError: ")
        assert found[0].error == "the prompt is empty"
        assert "do not fit the context of 500" in (found[1].error or "")
        assert found[2].text == answer("x")
        backend.close()


class TestLosses:
    def test_one_after_the_other_is_killed(self) -> None:
        told = Told()
        backend = opened(*[fake_part(delay=0.02)] * 3, watcher=told)
        ask(backend, TEXTS)
        found = replies(backend, 10)
        os.kill(backend.process_ids[1], signal.SIGKILL)
        found |= replies(backend, len(TEXTS) - 10)
        assert [found[number].text for number in range(len(TEXTS))] == list(map(answer, TEXTS))
        (warning,) = told.warnings
        assert warning == "process 1 on fake:1 was ended by signal 9; its 8 pieces go to the others"
        assert backend.statuses[1].phase == "ended"

        ask(backend, TEXTS)
        found = replies(backend, 3)
        for process_id in backend.process_ids[::2]:
            os.kill(process_id, signal.SIGKILL)
        found |= replies(backend, len(TEXTS) - 3)
        with pytest.raises(EngineFailed, match=r"process 1 .*; process \d .* signal 9; process \d .* signal 9"):
            backend.collect(20)
        assert found.keys() == set(range(len(TEXTS))), "every query has its reply"
        good = {number: reply.text for number, reply in found.items() if reply.error is None}
        assert len(good) >= 3
        assert all(text == answer(TEXTS[number]) for number, text in good.items())
        assert {reply.error for reply in found.values()} == {None, backend.failure}
        with pytest.raises(EngineFailed, match="signal 9"):
            ask(backend, ["more"])
        backend.close()

    def test_what_was_given_to_one_that_had_ended_is_no_reason_for_it(self) -> None:
        """That it has ended is known a moment later; what was lost with another, too, must not fail for that."""
        told = Told()
        backend = opened(*[fake_part(slots=4, delay=0.02)] * 3, watcher=told)
        os.kill(backend.process_ids[1], signal.SIGKILL)
        ask(backend, TEXTS)
        found = replies(backend, 36)
        os.kill(backend.process_ids[0], signal.SIGKILL)
        found |= replies(backend, len(TEXTS) - 36)
        assert [found[number].text for number in range(len(TEXTS))] == list(map(answer, TEXTS))
        assert [line.partition(";")[0] for line in told.warnings] == [
            f"process {number} on fake:{number} was ended by signal 9" for number in (1, 0)
        ]
        assert "pieces go to the others" in told.warnings[0], "it was given some"
        backend.close()

    def test_a_query_that_ends_two_processes_is_given_to_no_other(self) -> None:
        told = Told()
        backend = opened(*[fake_part(kind="deadly")] * 3, watcher=told)
        ask(backend, ["die", *TEXTS[1:]])
        found = replies(backend, len(TEXTS))
        assert found[0].deadly
        assert (found[0].error or "").startswith("2 processes were lost over it, at last: process ")
        # What a process had begun beside it may have gone the same way; nothing else has.
        failed = [number for number, reply in found.items() if reply.error]
        assert len(failed) <= 2
        assert all(found[n].text == answer(TEXTS[n]) for n in range(1, len(TEXTS)) if n not in failed)
        assert len(told.warnings) == 2
        assert backend.failure is None
        backend.close()

    def test_one_whose_engine_fails_leaves_its_queries_to_the_others(self) -> None:
        told = Told()
        backend = opened(fake_part(fail_at=6), fake_part(delay=0.01), watcher=told)
        ask(backend, TEXTS)
        check(backend, TEXTS)
        (warning,) = told.warnings
        assert warning.startswith(
            "process 0 on fake:0 failed: worker 0 died: RuntimeError: the device is on fire; its "
        )
        backend.close()

    def test_one_that_gives_no_sign_of_life_is_killed(self) -> None:
        told = Told()
        backend = opened(fake_part(delay=0.01), fake_part(delay=0.01), watcher=told, stall_limit=2.0)
        ask(backend, TEXTS)
        os.kill(backend.process_ids[0], signal.SIGSTOP)
        check(backend, TEXTS)
        (warning,) = told.warnings
        assert warning.startswith("process 0 on fake:0 has given no sign of life for 2 s; its ")
        wait_until(lambda: is_gone(backend.process_ids[0]))
        backend.close()

    def test_time_in_which_nobody_looked_is_no_silence(self) -> None:
        backend = opened(fake_part(delay=0.01), fake_part(), stall_limit=5.0)
        backend._looked -= 3600
        ask(backend, TEXTS)
        check(backend, TEXTS)
        assert backend.failure is None
        assert len(backend._left) == 2
        backend.close()


class TestOpening:
    def test_those_that_cannot_start_are_left_out(self) -> None:
        told = Told()
        backend = opened(
            *(fake_part(kind="full"), fake_part(), fake_part(kind="killed"), fake_part(kind="unforeseen")),
            fake_part(kind="unavailable"),
            watcher=told,
        )
        assert sorted(told.warnings) == [
            "process 2 on fake:2 was ended by signal 9; the others go on",
            "process 3 on fake:3 failed: RuntimeError: a library; the others go on",
            "process 4 on fake:4 is left out: it cannot be put there; take a smaller one",
            "there is no room on it, and is left out",
        ]
        assert backend.num_slots == 2
        ask(backend, TEXTS)
        check(backend, TEXTS)
        backend.close()

    def test_they_name_settings_as_their_user_does(self) -> None:
        with told_in_shell(), pytest.raises(EngineFailed, match="--batch-size"):
            opened(fake_part(kind="full"))

    @pytest.mark.parametrize(
        ("kinds", "error", "said"),
        [
            (("full", "killed"), EngineFailed, "there is no room on it; free some"),
            (("usage", "usage"), UsageError, "the memory limit is too little"),
            (("killed",), EngineFailed, "process 0 on fake:0 was ended by signal 9"),
        ],
    )
    def test_without_any_there_is_a_reason(self, kinds: tuple[str, ...], error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            opened(*[fake_part(kind=kind) for kind in kinds])


class TestDamage:
    def test_it_is_told_before_any_reply_is_taken(self) -> None:
        backend = opened(fake_part(kind="damaged"), fake_part(delay=5.0))
        ask(backend, TEXTS)
        with pytest.raises(KeptDamaged, match="were altered"):
            backend.collect(20)
        with pytest.raises(KeptDamaged, match="were altered"):
            backend.confirm()
        assert not backend.is_confirmed()
        backend.close()


class TestEnds:
    def test_what_is_finished_comes_and_the_rest_is_an_error(self) -> None:
        backend = opened(fake_part(), fake_part(delay=60.0))
        ask(backend, TEXTS[:16])
        wait_until(lambda: sum(status.num_done for status in backend._servers[0].statuses) == 8 or backend._attend(0))
        begun = time.monotonic()
        backend.close(timeout=0)
        assert time.monotonic() - begun < 30
        found = backend.drain()
        good = [reply for reply in found if reply.error is None]
        assert len(good) >= 8
        assert all(reply.text == answer(TEXTS[reply.id]) for reply in good)
        assert sorted(reply.id for reply in found) == list(range(16))
        assert {reply.error for reply in found} == {None, "the backend was closed"}
        assert all(map(is_gone, backend.process_ids))

    def test_nobody_is_left_where_nobody_closes(self) -> None:
        backend = opened(fake_part())
        (process_id,) = backend.process_ids
        del backend
        gc.collect()
        wait_until(lambda: is_gone(process_id), "an orphan is left")

    def test_an_interrupt_of_the_terminal_is_not_theirs(self) -> None:
        backend = opened(fake_part())
        (process_id,) = backend.process_ids
        assert os.getsid(process_id) == process_id
        os.kill(process_id, signal.SIGINT)
        ask(backend, ["one"])
        check(backend, ["one"])
        backend.close()


PROGRAM = """
import os, sys
from support.parts import fake_part, opened
from llmpar.answering.echo import Echo
from llmpar.cli.main import main

def open_both(model, examples):
    backend = opened(fake_part(delay=0.1), fake_part(delay=0.1))
    print(*backend.process_ids, file=sys.stderr, flush=True)
    return backend

Echo.open = open_both
main()
"""


class TestTheProgram:
    """A command whose backend are two processes, until something ends it."""

    @pytest.fixture
    def running(self, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
        command = ["run", "--engine", "echo", "--unit", "line", "--store", "answers", "--retries", "0", "-o", "out"]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command, "{text}", "in"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        try:
            (tmp_path / "in").write_text("".join(f"{text}\n" for text in TEXTS))
            children = [int(word) for word in process.stderr.readline().split()]
            assert len(children) == 2
            yield process, children
        finally:
            process.kill()
            process.communicate()

    def test_they_end_with_one_that_is_killed(self, running: tuple[subprocess.Popen[str], list[int]]) -> None:
        process, children = running
        assert not any(map(is_gone, children))
        process.kill()
        wait_until(lambda: all(map(is_gone, children)), "an orphan is left")

    def test_an_interrupt_keeps_what_is_finished_and_leaves_nobody(
        self, running: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
    ) -> None:
        process, children = running
        wait_until(lambda: bool(committed(tmp_path / "answers")))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert "interrupted by SIGINT" in said
        assert "Traceback" not in said
        assert 0 < len(committed(tmp_path / "answers")) < len(TEXTS)
        assert not (tmp_path / "out").exists()
        assert all(map(is_gone, children))
