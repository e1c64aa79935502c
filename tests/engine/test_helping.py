"""When a worker that has nothing to do is let help the others."""

from __future__ import annotations

import threading

from llmpar.engine.request import Request, SamplingParams
from llmpar.engine.scheduler import Scheduler


def request(number: int) -> Request:
    return Request(number, [5, 6, 7], SamplingParams(4))


def always(_: Request) -> bool:
    return True


def test_a_worker_helps_while_another_has_something_and_takes_what_comes() -> None:
    scheduler, helped = Scheduler(2, 8), threading.Event()

    def help_others() -> bool:
        helped.set()
        return True

    scheduler.submit(request(0))
    assert scheduler.admit(0, 4, always)
    found: list[list[Request] | None] = []
    idle = threading.Thread(target=lambda: found.append(scheduler.admit(1, 4, always, help_others)))
    idle.start()
    assert helped.wait(20)
    for number in range(1, 9):  # too many for the one that has something
        scheduler.submit(request(number))
    idle.join(20)
    assert found[0]


def test_it_waits_where_nobody_has_anything_and_is_woken_when_somebody_has() -> None:
    scheduler, helped = Scheduler(2, 8), threading.Event()
    waits = threading.Event()

    class Told(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is idle:
                waits.set()
            return super().wait(timeout)

    scheduler._changed = Told()

    def help_others() -> bool:
        helped.set()
        return False

    idle = threading.Thread(target=lambda: scheduler.admit(1, 4, always, help_others))
    idle.start()
    assert waits.wait(20)
    assert not helped.is_set(), "there is nobody to help"
    with scheduler._changed:  # so that the idle one does not take it
        scheduler.submit(request(0))
        assert scheduler.admit(0, 4, always)
    assert helped.wait(20)
    scheduler.close()
    idle.join(20)
    assert not idle.is_alive()


def test_few_requests_are_left_to_the_one_that_has_some() -> None:
    scheduler, helped = Scheduler(2, 8), threading.Event()

    def help_others() -> bool:
        helped.set()
        return True

    scheduler.submit(request(0))
    assert scheduler.admit(0, 4, always, help_others)
    scheduler.submit(request(1))
    idle = threading.Thread(target=lambda: scheduler.admit(1, 4, always, help_others))
    idle.start()
    assert helped.wait(20)
    assert [one.id for one in scheduler.admit(0, 4, always, help_others) or []] == [1]
    assert scheduler.give_up(0) == (2, [])
    scheduler.close()
    idle.join(20)
    assert not idle.is_alive()


def test_without_help_each_worker_takes_its_share() -> None:
    scheduler = Scheduler(2, 8)
    for number in range(2):
        scheduler.submit(request(number))
    assert len(scheduler.admit(0, 4, always) or []) == 1
    assert len(scheduler.admit(1, 4, always) or []) == 1
