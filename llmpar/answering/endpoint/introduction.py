"""What a server tells of itself before it is asked anything: its model, how much that reads, and what it knows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from llmpar.answering.backend import Query
from llmpar.answering.endpoint.address import Address
from llmpar.answering.endpoint.client import NO_JSON, Client
from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed
from llmpar.answering.endpoint.logprobs import Software
from llmpar.answering.endpoint.messages import CHAT, Manners, answer_in, body_of
from llmpar.answering.endpoint.server import backoff
from llmpar.errors import ModelUnavailable, setting
from llmpar.tasks.question import Prompt, Sampling
from llmpar.visible import one_line

PATIENCE = 600.0  # seconds for which a server may say that it is not ready yet, as it loads a model
_GREETING = Query(0, Prompt((("user", "Hi"),), "Hi"), Sampling(), 1)
_GREETED_WITHIN = 120.0  # seconds; a server may load its model for that
_MOST_FAILURES = 3  # of one request, that are no "not yet"
_MOST_TRIES = 6  # at a greeting, each without a parameter more
_NAMED = 8  # models that a message names
_SOFTWARE: Mapping[object, Software] = {"llamacpp": "llama.cpp", "vllm": "vllm"}
# What stays as it is while the model does: times and limits are the server's.
_LASTING = ("root", "parent", "n_vocab", "n_embd", "n_params", "size", "ftype", "vocab_type", "digest")
_NEW_CHOICES = (0, 11)  # the version of vLLM that has a new name for choices


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a server tells of itself.

    Args:
        address: where it is.
        model: what it calls the model.
        fingerprint: what it tells of the model and of itself that would be another for another model; "" for nothing.
        context_length: tokens that there is room for; None if it does not tell.
        manners: what it knows.
    """

    address: Address
    model: str
    fingerprint: str
    context_length: int | None
    manners: Manners


async def introduce(client: Client, doing: Callable[[str], None], patience: float = PATIENCE) -> Introduction:
    """Return what a server tells of itself.

    Args:
        client: talks to it.
        doing: is told what is waited for.
        patience: seconds for which it may not be ready yet.

    Raises:
        RequestFailed: it is not there, or not for us.
        ModelUnavailable: it has not the model that the user wants, or several of which the user names none.
    """
    address = client.address
    try:
        listed = await _patiently(lambda: client.look("/models"), address, doing, patience)
    except RequestFailed as failed:
        # A gateway may have no list. Whether it knows the model, the greeting shows.
        if address.model is None or "answered 404" not in failed.failure.message:
            raise
        listed = {}
    entries = _entries(listed)
    entry = _chosen(entries, address)
    software = _SOFTWARE.get(str(entry.get("owned_by")), "")
    manners = Manners(software, software == "vllm" and await _is_old(client))
    model = address.model or str(entry["id"])

    async def greet(manners: Manners) -> object:
        return await _patiently(
            lambda: client.ask(CHAT, body_of(_GREETING, model, manners, 1), _GREETED_WITHIN), address, doing, patience
        )

    fingerprint, manners = await _greeted(greet, address, model, manners, _names(entries))
    told = {name: value for name, value in {**entry, **_part(entry, "meta")}.items() if name in _LASTING and value}
    told |= {"system_fingerprint": fingerprint} if fingerprint else {}
    length = entry.get("max_model_len") or _part(entry, "meta").get("n_ctx") or entry.get("context_length")
    known = length if isinstance(length, int) and length > 0 else None
    return Introduction(address, model, json.dumps(told, sort_keys=True) if told else "", known, manners)


async def _patiently(
    ask: Callable[[], Awaitable[object]], address: Address, doing: Callable[[str], None], patience: float
) -> object:
    """Ask something until there is an answer: a server may not be ready yet, and may fail a few times."""
    waited, number = 0.0, 0
    while True:
        try:
            return await ask()
        except RequestFailed as failed:
            number += 1
            failure = failed.failure
            pause = backoff(number) if failure.wait is None else failure.wait
            may_pass = failure.kind is Kind.AWAY or (failure.kind is Kind.BROKEN and number <= _MOST_FAILURES)
            if not may_pass or waited + pause > patience:
                raise
            doing(f"waiting for {address.url}")
            waited += pause
            await asyncio.sleep(pause)


def _entries(listed: object) -> list[Mapping[str, object]]:
    data = listed.get("data") if isinstance(listed, dict) else listed
    found = data if isinstance(data, list) else []
    return [entry for entry in found if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _chosen(entries: list[Mapping[str, object]], address: Address) -> Mapping[str, object]:
    """Return what a server tells of the model that the user wants; nothing, if it does not tell."""
    if address.model is not None:
        return next((entry for entry in entries if address.model in _names([entry])), {})
    if len(entries) == 1:
        return entries[0]
    wanted = setting("endpoint_model", "NAME")
    if not entries:
        raise ModelUnavailable(f"{address.url} tells no model that it has; name one ({wanted})")
    raise ModelUnavailable(f"{address.url} has {len(entries):,} models; name one ({wanted}): {_shown(_names(entries))}")


def _names(entries: list[Mapping[str, object]]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        aliases = entry.get("aliases")
        found += [str(entry["id"]), *(map(str, aliases) if isinstance(aliases, list) else ())]
    return list(dict.fromkeys(found))


def _shown(names: list[str]) -> str:
    shown = ", ".join(map(one_line, names[:_NAMED]))
    return shown + (f" and {len(names) - _NAMED:,} others" if len(names) > _NAMED else "")


def _part(entry: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = entry.get(name)
    return part if isinstance(part, dict) else {}


async def _is_old(client: Client) -> bool:
    """Tell whether a vLLM has the older name for choices; a new one, if it does not tell."""
    try:
        told = await client.look(f"{client.address.root}/version")
    except RequestFailed:
        return False
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", str(told.get("version") if isinstance(told, dict) else ""))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < _NEW_CHOICES


async def _greeted(
    greet: Callable[[Manners], Awaitable[object]], address: Address, model: str, manners: Manners, names: list[str]
) -> tuple[str, Manners]:
    """Ask for one token, and return the server's fingerprint, "" if it tells none, and what it turned out to know.

    Args:
        greet: asks for it.
        address: where the server is.
        model: what it calls the model.
        manners: what it seems to know.
        names: those of the models that it tells.

    Raises:
        RequestFailed: it does not let us ask, or does not know the model.
        ModelUnavailable: it does not know the model, and tells which it has.
    """
    for _ in range(_MOST_TRIES):
        try:
            return answer_in(await greet(manners), _GREETING).fingerprint, manners
        except RequestFailed as failed:
            failure = failed.failure
            if failure.kind is Kind.FATAL and names and model not in names:
                told = f"{address.url} does not know the model {one_line(model)}; it has {_shown(names)}"
                raise ModelUnavailable(told) from failed
            if failure.kind in (Kind.FATAL, Kind.UNREACHABLE, Kind.AWAY, Kind.BROKEN):
                raise  # without an answer, nobody knows whose answers the store would hold
            fewer = manners.without(failure.parameter) if failure.kind is Kind.PARAMETER else None
            if fewer is None:  # what is wrong with this greeting need not be wrong with anything else
                break
            manners = fewer
    return "", manners


def refused(address: Address, failure: Failure) -> str:
    """Return why a server cannot be used, with what to do about it."""
    told = f"{address.url} {failure.message}"
    if "answered 401" in told or "answered 403" in told:
        return f"{told}; give it a key: in {address.key_variable}, or in a file ({setting('api_key_file', 'FILE')})"
    if failure.kind is Kind.UNREACHABLE:
        return f"{told}; is it running?"
    if "answered 404" in told:
        return f"{told}; look at its URL, which mostly ends in /v1, and at the model's name"
    if failure.message == NO_JSON:
        return f"{told}: no server of OpenAI's protocol, or one's page; look at its URL, which mostly ends in /v1"
    return told
