"""Servers as a model: what becomes of texts when servers answer, fail, cut, turn away, refuse or are gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import MODEL, Body, Misbehaving, Response, Server, echo, failed, said, serving, text_of

import llmpar
from llmpar.answering.backend import Query
from llmpar.answering.endpoint.address import Address
from llmpar.answering.endpoint.backend import EndpointBackend
from llmpar.answering.endpoint.budget import Budget
from llmpar.answering.endpoint.client import Client
from llmpar.answering.endpoint.messages import Manners
from llmpar.answering.endpoint.pace import Pace
from llmpar.answering.endpoint.server import Server as Asked
from llmpar.documents.document import Result
from llmpar.errors import EngineFailed, LlmparError, ModelUnavailable, TokensSpent
from llmpar.tasks.question import Prompt, Sampling

TEXTS = [f"text {number}" for number in range(40)]


def run(*servers: Server | str, texts: list[str] = TEXTS, store: bool | Path = False, **given: Any) -> list[Result]:
    """Ask servers about texts, with options of a model's choice and of a policy."""
    urls = tuple(server if isinstance(server, str) else server.url for server in servers)
    policy = {name: given.pop(name) for name in ("retries", "timeout", "overflow", "retry_failed") if name in given}
    asked = {name: given.pop(name) for name in ("choices", "sampling", "task", "schema") if name in given}
    prompt = None if "task" in asked else "Say this:\n{text}"
    choice = llmpar.ModelChoice(endpoints=urls, **given)
    return list(llmpar.run(texts, prompt, model=choice, policy=llmpar.Policy(**policy), store=store, **asked))


def answers(results: list[Result]) -> list[str]:
    assert [result.error for result in results] == [None] * len(results)
    return [result.answer for result in results]


def after(number: int, then: Callable[[Body], Response], first: Callable[[Body], Response] = echo) -> Any:
    """Return what answers so many requests in one way, and the others in another."""
    count = iter(range(10**9))
    return lambda body: (first if next(count) < number else then)(body)


class Refusals:
    """Fails as often as it is told for each text, and answers then."""

    def __init__(self, response: Response, times: int = 1) -> None:
        self.seen: Counter[str] = Counter()
        self._response, self._times = response, times

    def __call__(self, body: Body) -> Response:
        self.seen[text_of(body)] += 1
        return self._response if self.seen[text_of(body)] <= self._times else echo(body)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take next to no time."""
    monkeypatch.setattr("llmpar.answering.endpoint.server._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("llmpar.answering.endpoint.server._LONGEST_PAUSE", 0.02)


def test_every_text_is_asked_one_time_and_answered_in_its_place() -> None:
    with serving(seconds=0.01) as server:
        results = run(server)
        assert answers(results) == [text.upper() for text in TEXTS]
        assert sorted(map(text_of, server.asked)) == sorted(TEXTS)
        assert server.num_greetings == 1
        assert all("authorization" not in headers for headers in server.headers)
    assert (results[0].num_prompt_tokens, results[0].num_output_tokens) == (7, 3), "as the server counts them"
    assert results[0].worker == 0


@pytest.mark.parametrize("number", [1, 5])
def test_a_server_has_as_many_requests_as_the_user_says(number: int) -> None:
    with serving(seconds=0.2) as server:
        run(server, texts=TEXTS[:10], threads=number)
        assert server.most_running == number


def test_a_server_that_misbehaves_at_a_third_of_the_requests_answers_all(quick: None) -> None:
    behaviour = Misbehaving(0.3)
    texts = [f"text {number}" for number in range(150)]
    with serving(behaviour, seconds=0.005) as server:
        assert answers(run(server, texts=texts, threads=16, retries=9, timeout=3)) == [t.upper() for t in texts]
        # Each failure leads to one more request, and nothing else does.
        assert len(server.asked) == len(texts) + sum(behaviour.counts.values()) - behaviour.counts["good"]
        assert all(behaviour.counts[name] for name, _ in Misbehaving.WAYS)


def test_without_retries_what_failed_is_named_and_the_others_are_not_touched(quick: None) -> None:
    behaviour = Misbehaving(0.3)
    texts = [f"text {number}" for number in range(150)]
    with serving(behaviour, seconds=0.005) as server:
        results = run(server, texts=texts, threads=16, retries=0, timeout=3)
        # To be turned away is no attempt.
        away = sum(count for name, count in behaviour.counts.items() if name[:3] in ("429", "503"))
        assert len(server.asked) == len(texts) + away
        wrong = [result for result in results if result.error]
        assert len(wrong) == len(texts) - behaviour.counts["good"]
        assert all(server.url in str(result.error) for result in wrong)
        assert [r.answer for r in results if not r.error] == [r.text.upper() for r in results if not r.error]


@pytest.mark.parametrize(
    "response",
    [response for name, response in Misbehaving.WAYS if "429" not in name and "503" not in name],
    ids=[name for name, _ in Misbehaving.WAYS if "429" not in name and "503" not in name],
)
def test_a_failure_takes_one_attempt(response: Response, quick: None) -> None:
    timeout = 1 if response.spoil == "silence" else 60
    with serving(Refusals(response, 2)) as server:
        assert answers(run(server, texts=TEXTS[:3], retries=2, timeout=timeout)) == ["TEXT 0", "TEXT 1", "TEXT 2"]
        assert len(server.asked) == 9
    with serving(Refusals(response, 3)) as server:
        assert all(result.error for result in run(server, texts=TEXTS[:3], retries=2, timeout=timeout))
        assert len(server.asked) == 9


def test_a_server_that_asks_to_wait_is_left_alone_for_so_long() -> None:
    answer = after(4, echo, after(3, lambda _: failed(429, "slow", {"Retry-After": "0.4"})))
    with serving(answer) as server:
        assert answers(run(server, threads=1, texts=TEXTS[:8])) == [text.upper() for text in TEXTS[:8]]
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
        assert max(gaps) == gaps[3] >= 0.4


def test_the_level_falls_to_what_a_server_takes() -> None:
    with serving(seconds=0.02) as server:
        server.answer = lambda body: failed(429, "busy", {"Retry-After": "0"}) if server.running > 6 else echo(body)
        texts = [f"text {number}" for number in range(200)]
        assert answers(run(server, texts=texts)) == [text.upper() for text in texts]
        assert server.most_running <= 9
        assert len(server.asked) < 230, "it is asked in vain where more is tried, and not again and again"


@pytest.mark.parametrize(
    "response",
    [failed(401, "Incorrect key"), failed(403), failed(404, "no model"), failed(429, code="insufficient_quota")],
)
def test_what_nobody_will_answer_ends_the_run_at_once(response: Response) -> None:
    with serving(after(10, lambda _: response)) as server, pytest.raises(EngineFailed) as ended:
        run(server, threads=2)
    assert server.url in str(ended.value)
    assert len(server.asked) < 14


def test_a_key_that_is_refused_ends_it_before_anything_is_asked() -> None:
    with serving() as server:
        server.pages["/v1/models"] = failed(401, "no key")
        with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
            run(server)
        assert server.asked == []


def test_a_model_that_is_not_there_ends_it_before_anything_is_asked() -> None:
    with serving(lambda _: failed(404, "The model `x` does not exist")) as server:
        with pytest.raises(ModelUnavailable, match=f"does not know the model x; it has {MODEL}"):
            run(server, endpoint_model="x")
        assert server.asked == []


def test_of_several_models_one_must_be_named() -> None:
    with serving(models=[{"id": "a"}, {"id": MODEL}]) as server:
        with pytest.raises(ModelUnavailable, match=r"2 models; name one .*: a, tiny"):
            run(server)
        assert len(run(server, endpoint_model=MODEL)) == len(TEXTS)
        assert {body["model"] for body in server.asked} == {MODEL}


def test_a_gateway_without_a_list_of_models() -> None:
    with serving() as server:
        server.pages["/v1/models"] = failed(404, "no such page")
        with pytest.raises(ModelUnavailable):
            run(server)
        assert len(run(server, endpoint_model=MODEL)) == len(TEXTS)


def test_a_server_that_still_loads_its_model_is_waited_for() -> None:
    with serving() as server:
        server.pages["/v1/models"] = failed(503, "Loading model", {"Retry-After": "0.2"})
        asyncio.run_coroutine_threadsafe(_later(0.5, lambda: server.pages.clear()), server._loop)
        assert len(run(server)) == len(TEXTS)


def test_a_greeting_that_fails_is_repeated_as_the_store_needs_the_fingerprint(quick: None, tmp_path: Path) -> None:
    good = said("Hi", system_fingerprint="one")
    with serving() as server:
        for greeting in (failed(429, "slow", {"Retry-After": "0.3"}), failed(500), Response(body="nonsense")):
            server.greeting = greeting
            asyncio.run_coroutine_threadsafe(_later(0.1, lambda: setattr(server, "greeting", good)), server._loop)
            with contextlib.suppress(ModelUnavailable):
                run(server, store=tmp_path / "store")
            server.greeting = good
            run(server, store=tmp_path / "store")
        assert len(server.asked) == 40, "under no other key than this fingerprint's"


async def _later(seconds: float, action: Callable[[], None]) -> None:
    await asyncio.sleep(seconds)
    action()


def test_where_there_is_no_server() -> None:
    with pytest.raises(ModelUnavailable, match="is it running"):
        run("http://127.0.0.1:9/v1")


def too_long(most: int, message: str = "maximum context length is 64 tokens") -> Callable[[Body], Response]:
    return lambda body: failed(400, message, code="x") if len(text_of(body)) > most else echo(body)


LONG = "One sentence here. Another one there. A third is the last."


def test_what_is_too_long_is_split_as_by_a_local_model() -> None:
    with serving(too_long(30)) as server:
        assert answers(run(server, texts=[LONG])) == [LONG.upper()]
        assert [len(text_of(body)) > 30 for body in server.asked].count(False) >= 2


def test_what_is_too_long_fails_where_it_is_not_to_be_split() -> None:
    with serving(too_long(30)) as server:
        (result,) = run(server, texts=[LONG], overflow="error")
        assert "maximum context length" in str(result.error)
        assert len(server.asked) == 1


def test_an_answer_gets_the_room_that_is_left() -> None:
    message = "maximum context length is 300 tokens. However, you requested 999 tokens (100 in the messages, 899 in the"

    def answer(body: Body) -> Response:
        return failed(400, message) if body["max_tokens"] > 200 else echo(body)

    with serving(answer) as server:
        assert answers(run(server, texts=TEXTS[:1])) == ["TEXT 0"]
        assert [body["max_tokens"] for body in server.asked][1:] == [200]


def test_a_server_that_reads_the_beginning_of_a_text_alone_is_found_out() -> None:
    text = "word " * 2000

    def answer(body: Body) -> Response:
        num_words = len(text_of(body).split())
        return said(text_of(body).upper(), prompt_tokens=min(num_words + 10, 1500))

    with serving(answer) as server:
        assert answers(run(server, texts=[text])) == [text.upper().strip()]
        assert len(server.asked) == 3


def test_the_context_that_a_server_tells_counts() -> None:
    with serving(models=[{"id": MODEL, "max_model_len": 300}]) as server:
        assert answers(run(server, texts=[LONG * 40]))[0].startswith("ONE SENTENCE")
        assert len(server.asked) > 2
    with serving() as server:
        assert answers(run(server, texts=[LONG * 40], context_length=300))
        assert len(server.asked) > 2


def test_an_answer_that_was_cut_is_asked_for_with_more_room() -> None:
    with serving(lambda body: said("long", "length" if body["max_tokens"] < 400 else "stop")) as server:
        assert answers(run(server, texts=TEXTS[:1])) == ["long"]
        first, second = (body["max_tokens"] for body in server.asked)
        assert second == 2 * first


def test_an_answer_that_the_user_cuts_is_cut() -> None:
    with serving(lambda _: said("long", "length", tokens=5)) as server:
        (result,) = run(server, texts=TEXTS[:1], sampling=Sampling(max_new_tokens=5))
        assert (result.answer, result.cut) == ("long", True)
        assert [body["max_tokens"] for body in server.asked] == [5]


def test_choices_are_looked_at_here_and_asked_for_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serving(Refusals(said("perhaps"))) as server:
        results = run(server, texts=TEXTS[:1], choices=["TEXT 0", "no"], store=store)
        assert answers(results) == ["TEXT 0"]
        assert [body["temperature"] for body in server.asked] == [0.0, 0.7]
        server.answer = lambda _: said("perhaps")
        for expected in (2, 0):
            server.asked.clear()
            (result,) = run(server, texts=["other"], choices=["TEXT 0", "no"], store=store)
            assert result.error == "the answer is none of the choices"
            assert len(server.asked) == expected, "a failure is remembered, too"


def test_a_server_that_knows_no_schema_is_asked_without() -> None:
    def answer(body: Body) -> Response:
        return failed(400, "response_format is not supported") if "response_format" in body else said("no")

    with serving(answer) as server:
        with pytest.warns(RuntimeWarning, match="without response_format"):
            results = run(server, texts=TEXTS[:4], choices=["yes", "no"], threads=1)
        assert answers(results) == ["no"] * 4
        assert len(server.asked) == 5


def test_a_server_with_a_newer_name_for_the_limit() -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported with this model."

    def answer(body: Body) -> Response:
        return failed(400, message, param="max_tokens") if "max_tokens" in body else echo(body)

    with serving(answer) as server, pytest.warns(RuntimeWarning, match="max_completion_tokens"):
        assert answers(run(server, texts=TEXTS[:1])) == ["TEXT 0"]


def test_a_request_that_is_refused_fails_alone_and_one_time() -> None:
    with serving(lambda body: failed(422, "bad text") if text_of(body) == "text 1" else echo(body)) as server:
        results = run(server, texts=TEXTS[:3], retries=5)
        assert ["bad text" in str(result.error) for result in results] == [False, True, False]
        assert len(server.asked) == 3


# The store.


def test_a_second_run_asks_nothing_and_another_model_everything(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serving() as server, serving() as other:
        for expected in (40, 0):
            server.asked.clear()
            assert len(answers(run(server, store=store))) == 40
            assert len(server.asked) == expected
        run(other, store=store)
        assert len(other.asked) == 40, "two servers are two models"
        server.models[0]["meta"] = {"n_params": 5}
        run(server, store=store)
        assert len(server.asked) == 40, "so is another file under the same name"
        server.asked.clear()
        server.models[0]["created"] = 99
        run(server, store=store)
        assert server.asked == [], "but not one that was started again"
        run(server, store=store, endpoint_model="alias")
        assert len(server.asked) == 40


def test_a_server_that_tells_another_fingerprint_is_another_model(tmp_path: Path) -> None:
    with serving() as server:
        numbers = []
        for fingerprint in ("one", "one", "two"):
            server.asked.clear()
            server.greeting = said("Hi", system_fingerprint=fingerprint)
            run(server, store=tmp_path / "store")
            numbers.append(len(server.asked))
        assert numbers == [40, 0, 40]


# Several servers.


def test_servers_answer_by_how_fast_they_are() -> None:
    texts = [f"text {number}" for number in range(120)]
    with serving(seconds=0.01) as fast, serving(seconds=0.1) as slow:
        assert answers(run(fast, slow, texts=texts, threads=2)) == [text.upper() for text in texts]
        assert len(fast.asked) > 3 * len(slow.asked) > 0
        assert max(fast.most_running, slow.most_running) == 2


def test_a_server_that_is_not_there_is_left_out_and_tried_again(quick: None) -> None:
    with serving() as other:
        port = other.port
    texts = [f"text {number}" for number in range(100)]
    back: list[Server] = []

    def answer(body: Body) -> Response:
        if len(server.asked) == 20:
            back.append(Server(echo, seconds=0.03, port=port))
        return echo(body)

    with serving(answer, seconds=0.03) as server:
        with pytest.warns(RuntimeWarning, match="tried again|there again"):
            results = run(server, f"http://127.0.0.1:{port}/v1", texts=texts, threads=2)
        assert answers(results) == [text.upper() for text in texts]
        assert back[0].asked
        back[0].close()


def test_what_a_server_had_that_is_lost_the_others_answer(quick: None) -> None:
    texts = [f"text {number}" for number in range(60)]
    with serving(seconds=0.02) as server:
        dying = Server(echo, seconds=0.02)
        dying.answer = after(10, lambda _: Response(spoil="reset"))
        asyncio.run_coroutine_threadsafe(_later(0.3, lambda: None), server._loop)
        results = run(server, dying, texts=texts, threads=3, retries=5)
        dying.close()
        assert answers(results) == [text.upper() for text in texts]


def test_one_that_fails_again_and_again_is_asked_for_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.answering.endpoint.server._FIRST_PAUSE", 0.0)
    server = Asked(0, Client(Address("http://127.0.0.1:9/v1"), None), MODEL, Manners(), Pace(8))
    server.num_running = 1
    for now in range(1, 5):
        assert server.takes(now)
        server.stumbled(now, None)
    assert not server.takes(5)
    assert server.is_doubtful
    server.answered(1)
    assert server.takes(6)


def test_servers_with_different_models_are_not_one() -> None:
    others = serving(models=[{"id": "other"}])
    with serving() as one, others as other, pytest.raises(ModelUnavailable, match="two models"):
        run(one, other)


def test_one_more_server_computes_nothing_again(tmp_path: Path) -> None:
    with serving() as one, serving() as other:
        run(one, store=tmp_path / "store")
        run(one, other, store=tmp_path / "store")
        assert (len(one.asked), other.asked) == (40, [])


# The end.


def asked_of(server: Server, patience: float = 600.0, total: int | None = None) -> EndpointBackend:
    made = lambda: [Asked(0, Client(Address(server.url), None), MODEL, Manners(), Pace(2))]  # noqa: E731
    return EndpointBackend(made, 10_000, Budget(total), _Silence(), patience)


class _Silence:
    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def watch(self, statuses: object) -> None: ...


def ask(backend: EndpointBackend, number: int) -> None:
    for index in range(number):
        prompt = Prompt((("user", f"text {index}"),), f"text {index}")
        backend.submit(Query(index, prompt, Sampling(), 10))


def replies(backend: EndpointBackend) -> Iterator[str]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if reply := backend.collect(0.1):
            yield reply.text


def test_a_server_that_is_gone_for_good_ends_the_run_with_what_came_before(quick: None) -> None:
    server = Server()
    backend = asked_of(server, patience=0.2)
    ask(backend, 3)
    found = replies(backend)
    first = [next(found) for _ in range(3)]
    server.close()
    ask(backend, 3)
    with pytest.raises(EngineFailed, match="cannot be reached"):
        next(found)
    assert sorted(first) == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert backend.failure
    backend.close()


def test_a_server_that_wants_to_be_left_alone_for_a_day_ends_the_run() -> None:
    with serving(lambda _: failed(429, "daily limit", {"Retry-After": "86400"})) as server:
        backend = asked_of(server)
        ask(backend, 3)
        with pytest.raises(EngineFailed, match=r"asks to wait 86,400 s"):
            next(replies(backend))
        backend.close()


def test_tokens_are_not_taken_beyond_what_the_user_gave(tmp_path: Path) -> None:
    store = tmp_path / "store"
    numbers: list[int] = []
    with serving(lambda body: said(text_of(body).upper(), prompt_tokens=20, tokens=10), seconds=0.01) as server:
        while sum(numbers) < len(TEXTS):
            with contextlib.suppress(TokensSpent):
                results = run(server, store=store, max_tokens_total=600, threads=8)
            numbers.append(len(server.asked))
            server.asked.clear()
        assert answers(results) == [text.upper() for text in TEXTS]
    assert all(number * 30 <= 600 for number in numbers)
    assert sum(numbers) == len(TEXTS), "what is finished is kept"
    assert len(numbers) > 2


def test_a_request_that_broke_off_may_have_taken_all_that_it_could(quick: None) -> None:
    with serving(lambda _: Response(spoil="reset")) as server, pytest.raises(TokensSpent):
        run(server, max_tokens_total=1000, retries=100)
    assert 1 <= len(server.asked) <= 3


def test_what_is_given_up_is_not_waited_for() -> None:
    with serving(lambda _: Response(spoil="silence")) as server:
        backend = asked_of(server)
        ask(backend, 5)
        assert backend.collect(0.2) is None
        began = time.monotonic()
        backend.close(timeout=5)
        assert time.monotonic() - began < 3
        assert backend.drain() == []


def test_it_works_where_an_event_loop_runs_already() -> None:
    async def main() -> list[str]:
        return answers(run(server))

    with serving() as server:
        assert asyncio.run(main()) == [text.upper() for text in TEXTS]


def test_no_thread_is_left() -> None:
    import threading

    with serving() as server:
        run(server)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("llmpar-endpoint")]


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with serving() as server, pytest.raises(LlmparError, match=r"pip install 'llmpar\[endpoint\]'"):
        run(server)


def test_texts_are_not_sent_on_to_where_a_server_points() -> None:
    with serving() as other, serving() as server:
        server.answer = lambda _: Response(307, "", {"location": f"{other.url}/chat/completions"})
        with pytest.raises(EngineFailed, match="sends us on to"):
            run(server)
        assert other.headers == []
