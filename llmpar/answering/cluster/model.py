"""A model that the nodes of a cluster open, each for itself, while documents, the store and texts stay here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count

from llmpar.answering.backend import Backend, Identity, Watcher
from llmpar.answering.choice import ModelChoice
from llmpar.answering.cluster.connection import Cluster, Placed, require_ray
from llmpar.answering.cluster.consultation import consult
from llmpar.answering.cluster.opening import Divisible, DivisibleEcho, DivisibleModel, Opener
from llmpar.answering.cluster.remote import RemoteChild
from llmpar.answering.cluster.shares import Share, divide
from llmpar.answering.cluster.station import code_digest, versions
from llmpar.answering.link import Events, Link
from llmpar.answering.processes import Processes
from llmpar.errors import ModelUnavailable
from llmpar.integrity.foundation import Foundation
from llmpar.reporting.report import counted
from llmpar.tasks.question import Prompt
from llmpar.visible import one_line

_LEAST_ABLE = ("fp32", "int8", "bf16")  # what `auto` is on a GPU: without bf16, without room for it, and with both


class OnCluster:
    """A model that a Ray cluster's nodes open. What can be told of it without weights is told here.

    Args:
        choice: the user's.
        watcher: is told what takes time.
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        assert choice.ray is not None
        self._choice = choice
        self._address = choice.ray
        self._watcher = watcher
        here = replace(choice, ray=None, ray_workers=None, ray_resources=())
        is_echo = choice.engine == "echo"
        self._divisible: Divisible = DivisibleEcho(here, watcher) if is_echo else DivisibleModel(here, watcher)
        self._model = self._divisible.model
        self._foundation = Foundation()
        self._doubts = False
        self._kept: Cluster | None = None
        self._begun: Sequence[Placed] = ()  # that are not yet told what to open

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._model.name

    @property
    def families(self) -> tuple[str, ...]:
        """The names by which a task may know it; see `backend.Model.families`."""
        return self._model.families

    @property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and answer together."""
        return self._model.context_length

    @property
    def counts_tokens(self) -> bool:
        """Whether its token counts are worth telling."""
        return self._model.counts_tokens

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        return self._model.max_held

    @property
    def thinks(self) -> bool:
        """Whether it is known to write thoughts before its answers."""
        return self._model.thinks

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self._model.measure(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `backend.Backend.exceeds`."""
        return self._model.exceeds(prompt, most)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt."""
        return self._model.count_tokens(prompt)

    def spell(self, prompt: Prompt) -> str:
        """Return a prompt as the model reads it, for people."""
        return self._model.spell(prompt)

    def identify(self) -> Identity:
        """Return what decides an answer: the model and what it is computed on, and not where that is.

        What GPUs compute in if nobody says it depends on which GPUs they are. Their workers begin, and are asked.

        Raises:
            ModelUnavailable: the model is not to be had, or there is no cluster to ask for GPUs, or no room on it.
        """
        return self._divisible.identify_on(self._kind, self._precision)

    def prepare(self) -> None:
        """Connect with the cluster.

        Raises:
            ModelUnavailable: there is none.
        """
        _ = self._cluster

    def open(self, examples: Sequence[Prompt]) -> Backend:
        """Let workers on the cluster open the model; once more, and with doubts, if one found its files damaged.

        Raises:
            ModelUnavailable: there is no cluster, no room, or no worker can open the model.
        """
        damage = self._foundation.damage
        if damage and self._doubts:
            raise damage
        self._foundation, self._doubts = Foundation(), damage is not None
        # What cannot be asked is said before a place is waited for.
        opener = self._divisible.opener(self._kind, self._precision, examples, doubts=self._doubts)
        placed, self._begun = self._begun or self._begin(), ()
        return self._opened(placed, opener)

    def _begin(self) -> Sequence[Placed]:
        """Return workers that have a place and are not yet told what to open."""
        shares = self._shares
        names = [f"Ray worker {index}" for index in range(len(shares))]
        placed = self._with_same_code(self._cluster.place(names, shares, self._watcher))
        self._kept = None  # from here on the workers hold the connection
        return placed

    def _opened(self, placed: Sequence[Placed], opener: Opener) -> Backend:
        hosts = [one.place.host for one in placed]
        num_hosts = len(set(hosts))
        self._watcher.remark(
            f"{counted(len(placed), 'Ray worker')} on {counted(num_hosts, 'machine')}, each with {placed[0].share}"
        )
        self._watcher.doing(f"loading {self.name} on {counted(num_hosts, 'machine')}")
        numbers = count()

        def start(name: str, events: Events, prepare: Callable[[], None] | None) -> Link:  # noqa: ARG001
            one = placed[next(numbers)]
            return RemoteChild(name, one.place.host, one.place.process_id, one.post, events)

        names = [f"Ray worker {index} on {one_line(host)}" for index, host in enumerate(hosts)]
        backend = Processes(names, self._watcher, self._foundation, start=start)
        try:
            backend.open(
                opener(self._choice.threads or one.share.num_threads, hosts.count(one.place.host)) for one in placed
            )
            backend.wait(self._divisible.codec)
        except BaseException:
            backend.close(0)
            raise
        self._watcher.watch(lambda: backend.statuses)
        return backend

    def _with_same_code(self, placed: Sequence[Placed]) -> Sequence[Placed]:
        """Return workers, all of which have this llmpar; warn of libraries that are others.

        Raises:
            ModelUnavailable: one has another.
        """
        ours = dict(versions())
        for one in placed:
            if one.place.code != code_digest():
                for other in placed:
                    other.post.kill()
                raise ModelUnavailable(
                    f"{one_line(one.place.host)} has another llmpar than this machine; install the same there, or let "
                    "llmpar connect with the cluster itself, which ships its own code"
                )
        told = {
            f"{one_line(one.place.host)} has {name} {version}, and this machine {ours[name]}: answers may differ"
            for one in placed
            for name, version in one.place.versions
            if version != ours[name]
        }
        for line in sorted(told):
            self._watcher.warn(line)
        return placed

    @property
    def _cluster(self) -> Cluster:
        if self._kept is None:
            require_ray()
            self._watcher.doing(f"connecting with the Ray cluster ({self._address})")
            self._kept = Cluster(self._address)
        return self._kept

    @cached_property
    def _shares(self) -> list[Share]:
        choice = self._choice
        device = "cpu" if choice.engine == "echo" else choice.device
        return divide(self._cluster.nodes, device, choice.ray_workers, choice.ray_resources)

    @cached_property
    def _precision(self) -> str | None:
        """What all workers compute in, if they have to be asked: what the least able of them takes.

        Raises:
            ModelUnavailable: no worker can tell.
        """
        find = self._divisible.finder(self._kind)
        if find is None:
            return None
        placed = self._begun or self._begin()
        self._watcher.doing(f"asking {counted(len(placed), 'Ray worker')} what they compute in")
        found, self._begun = consult(placed, find, self._watcher)
        return min(found, key=_LEAST_ABLE.index)

    @cached_property
    def _kind(self) -> str:
        """What answers are computed on, which the key of an answer has: the cluster is asked if nobody says it."""
        choice = self._choice
        if choice.engine == "echo" or choice.device == "cpu":
            return "cpu"
        return "cuda" if choice.device == "cuda" else self._shares[0].kind
