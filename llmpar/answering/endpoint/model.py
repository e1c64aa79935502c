"""Servers as a model: what they tell of it, before anything is asked, and the backend over them."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import wait
from functools import cached_property
from typing import Any, TypeVar

from llmpar.answering.backend import Backend, Identity, Watcher
from llmpar.answering.choice import ANSWERS_VERSION, ModelChoice, max_held
from llmpar.answering.endpoint.address import Address, find_addresses
from llmpar.answering.endpoint.backend import EndpointBackend
from llmpar.answering.endpoint.budget import Budget
from llmpar.answering.endpoint.client import Client, require_client
from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed
from llmpar.answering.endpoint.introduction import Introduction, introduce, refused
from llmpar.answering.endpoint.keys import Key, find_key, read_key
from llmpar.answering.endpoint.loop import Loop
from llmpar.answering.endpoint.messages import Manners
from llmpar.answering.endpoint.pace import Pace
from llmpar.answering.endpoint.server import Server
from llmpar.answering.endpoint.tokens import estimate, estimate_prompt, surely_exceeds
from llmpar.errors import ModelUnavailable, UsageError, setting
from llmpar.tasks.question import Prompt
from llmpar.visible import one_line

_T = TypeVar("_T")
_LOOK = 0.1  # seconds between looks at what is told


class Endpoints:
    """A model that one or several servers have. What they tell is asked for when it is needed, one time.

    Args:
        choice: the user's.
        watcher: is told what takes time.

    Raises:
        UsageError: a server's URL is none, or not on this machine though the run is to be offline.
        InputError: a list of servers, or a key, is malformed.
        InputUnreadable: a file cannot be read.
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        self._choice = choice
        self._watcher = watcher
        self._lock = threading.Lock()  # the thread that reads may be the first that needs to know
        self.addresses = find_addresses(choice.endpoints, choice.endpoint_model)
        """Where the servers are, in the user's order."""
        elsewhere = next((address for address in self.addresses if not address.is_here), None)
        if choice.offline and elsewhere:
            raise UsageError(f"{setting('offline')}: {elsewhere.url} is not on this machine")
        key = read_key(choice.api_key_file) if choice.api_key_file else None
        self._keys = {address: key or find_key(address.key_variable) for address in self.addresses}
        for address in self.addresses:
            if address.is_open_to_others:
                also = " and the key" if self._keys[address] else ""
                watcher.warn(f"{address.url}: texts{also} go to another machine unencrypted; https:// would hide them")

    @property
    def name(self) -> str:
        """What the first server calls the model."""
        return self.addresses[0].model or self._introductions[0].model

    @property
    def families(self) -> tuple[str, ...]:
        """The names by which a task may know the model.

        Raises:
            ModelUnavailable: no server is there, or not for us.
        """
        return (self.name, self.name.rpartition("/")[2])

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and answer together, that all servers have room for; without end if they tell none.

        What does not fit then is found by their errors.
        """
        if self._choice.context_length is not None:
            return self._choice.context_length
        known = [one.context_length for one in self._introductions if one.context_length is not None]
        return min(known, default=sys.maxsize)

    @property
    def counts_tokens(self) -> bool:
        """They are estimates until the servers have answered."""
        return False

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        return max_held(self._choice.max_memory)

    @property
    def thinks(self) -> bool:
        """Whether answers may come after thoughts, which only the server knows; so a limit of them decides answers."""
        return True

    def spell(self, prompt: Prompt) -> str:
        """Return a prompt for people, by who says what; the server's template makes of it what the model reads."""
        return "\n".join(f"⟦{role}⟧{text}" for role, text in prompt.messages)

    def measure(self, text: str) -> int:
        """Return how many tokens a text has, about."""
        return estimate(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure."""
        return surely_exceeds(prompt, most)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt, about."""
        return estimate_prompt(prompt)

    def identify(self) -> Identity:
        """Return what of the servers decides an answer: the first one's name, and what all tell of their model.

        Further servers are the user's word that they have the same model: with one more or fewer, answers stay valid.

        Raises:
            ModelUnavailable: no server is there, or not for us, or they have different models.
        """
        fingerprints = sorted({one.fingerprint for one in self._introductions})
        return Identity(
            (
                ("version", ANSWERS_VERSION),
                ("engine", "endpoint"),
                ("server", self.addresses[0].url),
                ("model", self.name),
                ("fingerprint", "\n".join(fingerprints)),
            )
        )

    def prepare(self) -> None:
        """Look whether the servers are there.

        Raises:
            ModelUnavailable: no server is there, or not for us.
        """
        _ = self._introductions

    def open(self, examples: Sequence[Prompt]) -> Backend:  # noqa: ARG002 (servers keep what prompts begin with)
        """Make ready to ask.

        Raises:
            ModelUnavailable: no server is there, or not for us.
        """
        known = {one.address: one for one in self._introductions}
        stranger = self._introductions[0]  # a server that is not there yet is taken for one like the others

        def servers() -> list[Server]:
            found = []
            for index, address in enumerate(self.addresses):
                told = known.get(address)
                model = told.model if told else address.model or stranger.model
                manners = told.manners if told else Manners()
                pace = Pace(self._choice.threads)
                server = Server(index, Client(address, self._keys[address]), model, manners, pace)
                server.is_away = told is None
                found.append(server)
            return found

        return EndpointBackend(servers, self.context_length, Budget(self._choice.max_tokens_total), self._watcher)

    @property
    def _introductions(self) -> tuple[Introduction, ...]:
        with self._lock:
            return self._introduced

    @cached_property
    def _introduced(self) -> tuple[Introduction, ...]:
        """What the servers tell that are there, in the user's order; at least one is."""
        require_client()
        self._watcher.doing(f"asking {self.addresses[0].url} for its model")
        told = _run(lambda doing: _all(self.addresses, self._keys, doing), self._watcher.doing)
        found = [one for one in told if isinstance(one, Introduction)]
        failures = [
            (address, one) for address, one in zip(self.addresses, told, strict=True) if isinstance(one, Failure)
        ]
        for address, failure in failures:
            if failure.kind is Kind.FATAL or not found:
                raise ModelUnavailable("; ".join(refused(one, why) for one, why in failures))
            self._watcher.warn(f"{address.url} {failure.message}; it is tried again while the others answer")
        _check_same(found)
        return tuple(found)


def _check_same(found: list[Introduction]) -> None:
    """Raise ModelUnavailable if servers have models of different names, and the user did not say that they are one."""
    first = found[0]
    for other in found[1:]:
        if other.model != first.model and not (first.address.model and other.address.model):
            raise ModelUnavailable(
                f"{first.address.url} has {one_line(first.model)}, and {other.address.url} has "
                f"{one_line(other.model)}: these are two models; run them apart, or name each in a list of servers "
                "(model=NAME)"
            )


async def _all(
    addresses: Sequence[Address], keys: dict[Address, Key | None], doing: Callable[[str], None]
) -> list[Introduction | Failure]:
    async def one(address: Address) -> Introduction | Failure:
        client = Client(address, keys[address])
        try:
            return await introduce(client, doing)
        except RequestFailed as failed:
            return failed.failure
        finally:
            await client.close()

    return await asyncio.gather(*map(one, addresses))


def _run(work: Callable[[Callable[[str], None]], Coroutine[Any, Any, _T]], doing: Callable[[str], None]) -> _T:
    """Return what comes of some work, on a thread of its own: the caller's may have an event loop that runs.

    Args:
        work: the work; it tells what it does.
        doing: is told that, on the caller's thread.
    """
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    loop = Loop()
    thread = threading.Thread(target=loop.run_until_stopped, name="llmpar-introduction", daemon=True)
    thread.start()
    ended = asyncio.run_coroutine_threadsafe(work(told.put), loop)
    try:
        while not wait([ended], timeout=_LOOK).done:
            while not told.empty():
                doing(told.get())
        return ended.result()
    finally:
        ended.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1.0)
