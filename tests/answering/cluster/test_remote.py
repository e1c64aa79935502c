"""Processes on other machines as one backend: nothing is lost, nothing comes twice, and little is on its way."""

from __future__ import annotations

import os
import signal

import pytest
from support.fakes import fake_answer
from support.parts import Told, ask, fake_part, is_gone, replies, wait_until
from support.stations import opened

from llmpar.answering.processes import Processes
from llmpar.answering.wire import End, Handed, Opening
from llmpar.errors import EngineFailed, ModelUnavailable

TEXTS = [f"text {number}" for number in range(60)]


def answer(text: str) -> str:
    return bytes(fake_answer(text.encode())).decode()


def check(backend: Processes, texts: list[str]) -> None:
    found = replies(backend, len(texts))
    assert [found[number].text for number in range(len(texts))] == list(map(answer, texts))


def test_all_share_the_work_and_tell_where_they_are() -> None:
    backend, posts = opened([fake_part(delay=0.002), fake_part(slots=3)])
    ask(backend, TEXTS)
    check(backend, TEXTS)
    wait_until(lambda: backend.drain() == [] and sum(status.num_done for status in backend.statuses) == len(TEXTS))
    assert [status.place for status in backend.statuses] == ["host0", "host1"]
    assert all(isinstance(post.frames[0][0], Opening) for post in posts), "what is to be opened is said first"
    backend.close()
    assert all(isinstance(post.frames[-1][-1], End) for post in posts), "and the end last"
    assert all(map(is_gone, backend.process_ids))


def test_one_frame_is_on_its_way_and_the_rest_waits_for_it() -> None:
    backend, (post,) = opened([fake_part(slots=2, delay=0.001)])
    before = len(post.frames)
    post.gate.clear()
    for first in (0, 2, 4):
        ask(backend, TEXTS[first : first + 2], first)
        backend.collect(0)
    wait_until(lambda: post.num_on_way == 1)
    assert len(post.frames) == before
    assert sum(len(server.held) for server in backend._servers) == 6, "never more than its window"
    post.gate.set()
    check(backend, TEXTS[:6])
    first, *more = [message for frame in post.frames[before:] for message in frame if isinstance(message, Handed)]
    assert [number for handed in (first, *more) for number in handed.numbers] == list(range(6))
    assert len(post.frames) - before <= 2, "what came meanwhile went together"
    backend.close()


def test_no_station_is_sent_more_than_it_may_hold() -> None:
    backend, _ = opened([fake_part(delay=0.01), fake_part(delay=0.01)])
    ask(backend, TEXTS)
    backend._hand_out()
    assert [len(server.held) for server in backend._servers] == [8, 8]
    check(backend, TEXTS)
    backend.close()


def test_what_one_held_that_is_lost_the_others_answer() -> None:
    told = Told()
    backend, posts = opened([fake_part(delay=0.02)] * 3, told)
    ask(backend, TEXTS)
    found = replies(backend, 10)
    posts[1].lose("was lost with its node")
    found |= replies(backend, len(TEXTS) - 10)
    assert [found[number].text for number in range(len(TEXTS))] == list(map(answer, TEXTS))
    (warning,) = told.warnings
    assert warning == "Ray worker 1 was lost with its node; its 8 pieces go to the others"
    assert backend.statuses[1].phase == "ended"
    backend.close()


def test_a_process_that_is_killed_beside_its_station_is_told_as_what_it_is() -> None:
    told = Told()
    backend, _ = opened([fake_part(delay=0.02)] * 2, told)
    ask(backend, TEXTS)
    found = replies(backend, 5)
    os.kill(backend.process_ids[0], signal.SIGKILL)
    found |= replies(backend, len(TEXTS) - 5)
    assert [found[number].text for number in range(len(TEXTS))] == list(map(answer, TEXTS))
    assert told.warnings == ["Ray worker 0 was ended by signal 9; its 8 pieces go to the others"]
    backend.close()


def test_when_all_are_lost_every_query_has_its_reply() -> None:
    backend, posts = opened([fake_part(delay=0.02)] * 2)
    ask(backend, TEXTS)
    found = replies(backend, 3)
    for post in posts:
        post.lose("was lost: its actor ended")
    found |= replies(backend, len(TEXTS) - 3)
    with pytest.raises(EngineFailed, match=r"Ray worker \d was lost: its actor ended; Ray worker \d was lost"):
        backend.collect(20)
    assert found.keys() == set(range(len(TEXTS)))
    assert all(reply.error or reply.text == answer(TEXTS[number]) for number, reply in found.items())
    backend.close()


def test_what_is_given_up_ends_and_what_was_finished_may_be_collected() -> None:
    backend, _ = opened([fake_part(delay=0.02)] * 2)
    ask(backend, TEXTS)
    found = replies(backend, 4)
    backend.close(1.0)
    rest = {reply.id: reply for reply in backend.drain()}
    assert found.keys() | rest.keys() == set(range(len(TEXTS)))
    assert not found.keys() & rest.keys()
    assert all(reply.error or reply.text == answer(TEXTS[number]) for number, reply in rest.items())
    assert any(reply.error for reply in rest.values())
    assert all(map(is_gone, backend.process_ids))


@pytest.mark.parametrize("other", ["fp32", "bf16 through torch"])
def test_one_that_computes_otherwise_than_the_first_is_left_out(other: str) -> None:
    told = Told()
    parts = [fake_part(arithmetic=arithmetic) for arithmetic in ("bf16", other, "bf16")]
    backend, posts = opened(parts, told)
    assert told.warnings == [f"Ray worker 1 is left out: it computes in {other}, and Ray worker 0 in bf16"]
    assert backend.num_slots == 4
    ask(backend, TEXTS)
    check(backend, TEXTS)
    assert not any(isinstance(message, Handed) for frame in posts[1].frames for message in frame)
    backend.close()
    assert all(map(is_gone, backend.process_ids))


def test_one_that_cannot_open_its_part_is_left_out() -> None:
    told = Told()
    backend, _ = opened([fake_part(kind="unavailable"), fake_part()], told)
    assert told.warnings == ["Ray worker 0 is left out: it cannot be put there; take a smaller one"]
    ask(backend, TEXTS)
    check(backend, TEXTS)
    backend.close()
    with pytest.raises(ModelUnavailable, match="it cannot be put there"):
        opened([fake_part(kind="unavailable")])
