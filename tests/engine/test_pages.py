"""Pages that prompts share: by what they hold, for as long as there is room, and never one too many or too few."""

from __future__ import annotations

import random

import pytest
from support.engines import collected
from support.pinned_answers import made

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Pass
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.pages import PAGE, Pages, num_pages_of
from llmpar.engine.request import Request, SamplingParams, Sequence


def sequence(prompt: list[int], room: int = 10, number: int = 0) -> Sequence:
    return Sequence(Request(number, prompt, SamplingParams(room)), started=0.0)


def admitted(pages: Pages, one: Sequence) -> int:
    """Reserve and admit a sequence, and return how many of its tokens are read."""
    assert pages.reserve(one.request)
    return pages.admit(one)[0]


def table(pages: Pages, one: Sequence) -> list[int]:
    length = num_pages_of(len(one.request.prompt_ids) + one.request.params.max_new_tokens)
    return pages.tables[one.slot][:length].tolist()


def test_what_was_read_is_shared_up_to_the_last_whole_page() -> None:
    pages = Pages(4, 40, 200, (), most_kept=10)
    first = sequence(list(range(50)))
    assert admitted(pages, first) == 0
    pages.share([first])
    second = sequence([*range(40), 90, 91, 92, 93, 94, 95, 96, 97, 98, 99])
    assert admitted(pages, second) == 2 * PAGE
    assert table(pages, first)[:2] == table(pages, second)[:2]
    assert not set(table(pages, first)[2:]) & set(table(pages, second)[2:])


def test_at_least_one_token_is_read() -> None:
    pages = Pages(4, 40, 200, (), most_kept=10)
    first = sequence(list(range(48)))
    admitted(pages, first)
    pages.share([first])
    assert admitted(pages, sequence(list(range(48)))) == 32


def test_what_is_not_read_is_not_shared() -> None:
    pages = Pages(4, 40, 200, (), most_kept=10)
    first = sequence(list(range(64)))
    admitted(pages, first)
    assert admitted(pages, sequence(list(range(64)))) == 0
    pages.release(first)  # it failed
    assert admitted(pages, sequence(list(range(64)))) == 0


def test_a_prompt_waits_for_one_that_goes_on_alike_and_is_being_read() -> None:
    pages = Pages(4, 40, 200, (), most_kept=10)
    first, second = sequence(list(range(64))), sequence([*range(40), *range(100, 120)])
    other = sequence([*range(16), *range(100, 140)])
    assert not pages.waits(first.request)
    admitted(pages, first)
    assert pages.waits(second.request)
    assert not pages.waits(other.request), "one page is read sooner than waited for"
    pages.share([first])
    assert not pages.waits(second.request)


def test_what_ended_is_kept_until_its_room_is_needed() -> None:
    pages = Pages(4, 10, 160, (), most_kept=10)
    first = sequence(list(range(60)), 4)
    admitted(pages, first)
    pages.share([first])
    pages.release(first)
    again = sequence(list(range(60)), 4)
    assert admitted(pages, again) == 48
    pages.release(again)
    large = sequence(list(range(100, 250)), 10)
    assert admitted(pages, large) == 0, "all ten pages are its own"
    pages.release(large)
    assert admitted(pages, sequence(list(range(60)), 4)) == 0


def test_no_more_are_kept_than_may_be() -> None:
    pages = Pages(4, 100, 320, (), most_kept=3)
    first = sequence(list(range(200)))
    admitted(pages, first)
    pages.share([first])
    pages.release(first)
    assert admitted(pages, sequence(list(range(200)))) == 3 * PAGE, "the beginning stays longest"


def test_a_prompt_that_begins_with_a_part_of_the_prefix_shares_that() -> None:
    pages = Pages(4, 40, 200, tuple(range(40)))
    whole, some = sequence(list(range(60))), sequence([*range(20), *range(90, 120)])
    assert pages.reserve(whole.request)
    read, copied = pages.admit(whole)
    assert (read, copied) == (40, (2, table(pages, whole)[2]))
    assert admitted(pages, some) == PAGE


@pytest.mark.parametrize("most_kept", [0, 5, 100])
def test_pages_are_never_lost_nor_given_twice(most_kept: int) -> None:
    draw = random.Random(most_kept)
    prefix = tuple(range(20))
    pages = Pages(6, 40, 200, prefix, most_kept)
    live: list[Sequence] = []
    waiting: list[Sequence] = []
    for step in range(4000):
        match draw.randrange(5):
            case 0:
                stem = [draw.randrange(2)] * draw.choice([0, 16, 32, 48])
                prompt = [
                    *(prefix if draw.random() < 0.5 else ()),
                    *stem,
                    *draw.choices(range(2), k=draw.randrange(1, 20)),
                ]
                one = sequence(prompt, draw.randrange(1, 40), step)
                if len(live) + len(waiting) < 6 and pages.reserve(one.request):
                    waiting.append(one)
            case 1 if waiting:
                one = waiting.pop()
                pages.admit(one)
                live.append(one)
            case 2:
                pages.share(draw.sample(live, draw.randrange(len(live) + 1)))
            case 3 if live:
                pages.release(live.pop(draw.randrange(len(live))))
            case 4 if waiting and draw.random() < 0.3:
                pages.release(waiting.pop())
        own: list[int] = []
        for one in live:
            whole = len(one.request.prompt_ids) // PAGE
            own += table(pages, one)[whole:]
        assert len(set(own)) == len(own), "a page that is written to is somebody's alone"
    for one in live + waiting:
        pages.release(one)
    assert pages._num_unreserved == len(pages._free) + pages._tree.num_kept == 40 - num_pages_of(len(prefix))


def test_a_worker_reads_a_beginning_once_and_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    systems = [[draw.randrange(3, 500) for _ in range(70)] for _ in range(3)]
    asked = [draw.choice(systems) + [draw.randrange(3, 500) for _ in range(9)] for _ in range(30)]
    num_tokens: list[int] = []
    forward = Pass.forward
    monkeypatch.setattr(
        Pass, "forward", lambda self, tokens, *a: (num_tokens.append(len(tokens.ids)), forward(self, tokens, *a))[1]
    )

    def answers(most_kept: int) -> list[list[int]]:
        monkeypatch.setattr("llmpar.engine.cpu.runner._KEPT_PAGES", most_kept)
        num_tokens.clear()
        engine = build_engine([CpuModel(made("int8"))], 256, frozenset({2}), 1, 8, ())
        return collected(engine, asked, SamplingParams(2), patience=600)

    shared = answers(4)
    read = sum(num_tokens)
    with monkeypatch.context() as changed:
        changed.setattr(Pages, "share", lambda *_: None)
        changed.setattr(Pages, "waits", lambda *_: False)
        assert answers(0) == shared
    assert sum(num_tokens) - read >= 27 * 64
