"""Before a model is fetched: what it costs, in words, and a question to the person who sits there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from llmpar.cli.words import size
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.reporting.progress import say
from llmpar.reporting.report import counted
from llmpar.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmpar.models.facts import ModelFacts

_MOST_FILES = 3  # that are named of those to be fetched
_SHRINKS = {"fp32": 4, "bf16": 2}  # how many times as long as in int8 weights are
_PIECE = 500  # tokens of a usual piece, its prompt and its answer


def ask_to_fetch(name: str, *, yes: bool, offline: bool = False) -> None:
    """Say how large a model is that must be fetched first, and ask whoever sits at the terminal; a job is not asked.

    Args:
        name: see `registry.resolve`.
        yes: the user has said so beforehand.
        offline: nothing may be fetched.

    Raises:
        UsageError: the answer is no.
        ModelUnavailable: it has no weights that are read, so that nothing of it is fetched.
    """
    from llmpar.models.downloads import pending_download
    from llmpar.models.fetch import NoWeights

    if offline:
        return
    try:
        download = pending_download(name)
    except NoWeights:  # nothing of it is worth fetching
        raise
    except ModelUnavailable:  # whoever fetches it says why it is not to be had
        return
    if download is None:
        return
    much = "an unknown size" if download.size is None else size(download.size)
    say(f"llmpar: {one_line(name)} is not on this machine yet: {much} to fetch from {download.source}")
    if not yes and not agrees("fetch it?", unattended=True):
        raise UsageError(f"{one_line(name)} was not fetched; --yes fetches without a question")


def agrees(question: str, *, unattended: bool) -> bool:
    """Ask whoever sits at the terminal, and return the answer; `unattended` is that of nobody."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return unattended
    sys.stderr.write(f"llmpar: {question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def told(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    """Yield what is known of a model, in words."""
    from llmpar.models.costs import PROGRAM

    yield "model", facts.name
    yield "licence", facts.licence or "its files do not tell"
    yield "languages", ", ".join(facts.languages) or "its files do not tell"
    if facts.download is not None:
        much = "an unknown size" if facts.download.size is None else size(facts.download.size)
        yield "download", f"{much} from {facts.download.source}"
        for name, num_bytes in facts.download.files[:_MOST_FILES]:
            yield "", f"{name}, {size(num_bytes)}"
        if more := facts.download.files[_MOST_FILES:]:
            yield "", f"and {counted(len(more), 'smaller file')}, {size(sum(num_bytes for _, num_bytes in more))}"
    else:
        yield "download", "none; it is on this machine"
    if facts.disk is not None:
        unknown = facts.place is None and facts.pack is None
        yield "disk", f"{size(facts.disk)}, and what is made of it" if unknown else size(facts.disk)
    if facts.pack is not None:
        yield "", f"about {size(facts.pack)} more from the first run on, which keeps the weights as this CPU takes them"
    if facts.context_length is not None:
        yield "context", f"{facts.context_length:,} tokens, prompt and answer together"
    if facts.weights is not None:
        yield "memory", f"about {size(facts.weights)} for the weights in {facts.precision}"
        if shrinks := _SHRINKS.get(facts.precision or ""):
            yield "", f"about {size(facts.weights // shrinks)} for them with --precision int8"
        yield "", f"about {size(PROGRAM)} for the program, and more where torch computes"
    if facts.each_token is not None:
        yield "", f"{size(_PIECE * facts.each_token)} for each piece of {_PIECE} tokens that is at work"
        yield "", "as many at a time as --batch-size allows, and as fit into half of what is free, or --max-memory"
    if facts.place is None and facts.weights is None:
        yield "memory", "told when it is here"
    elif facts.place is not None:
        yield "place", str(facts.place)
