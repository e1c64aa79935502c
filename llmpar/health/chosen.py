"""What llmpar would choose for a model on this machine, and why. No weights are loaded, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator

from llmpar.answering.choice import ModelChoice
from llmpar.engine.resources import available_memory, more_than_cores, usable_cores
from llmpar.errors import LlmparError, setting
from llmpar.health.finding import Finding, size
from llmpar.models.configuration import chat_template, configuration
from llmpar.models.fetch import NotFetched
from llmpar.models.precision import find_arithmetic
from llmpar.models.registry import resolve
from llmpar.visible import one_line

_TOPIC = "model"


def describe(name: str) -> Iterator[Finding]:
    """Yield what a model is made of that is on this machine, by its own files.

    Args:
        name: as the user names it.

    Raises:
        ModelUnavailable: it is not there, or damaged.
    """
    files = resolve(name, offline=True)
    config = configuration(files.path)
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else config
    yield Finding(_TOPIC, "type", one_line(config.get("model_type") or "unknown"))
    for key, words in (("num_hidden_layers", "layers"), ("hidden_size", "width"), ("vocab_size", "vocabulary")):
        if isinstance(inner.get(key), int):
            yield Finding(_TOPIC, words, f"{inner[key]:,}")
    yield Finding(_TOPIC, "chat template", "yes" if chat_template(files.path) else "none: it takes no conversations")


def look(choice: ModelChoice, *, is_named: bool) -> Iterator[Finding]:
    """Yield what would be chosen.

    Args:
        choice: the user's.
        is_named: whether the user named the model; else it need not be there.
    """
    name = one_line(choice.name)
    try:
        files = resolve(choice.name, offline=True)
    except LlmparError as error:
        if isinstance(error, NotFetched):
            yield Finding(_TOPIC, name, "not on this machine", is_fault=is_named, remedy=f"llmpar models pull {name}")
        else:
            told, _, remedy = str(error).partition("\n")
            yield Finding(_TOPIC, name, told, is_fault=is_named, remedy=remedy)
        return
    yield Finding(_TOPIC, name, str(files.path))
    try:
        path = files.path if choice.tensor_parallel == 1 else None
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits, path)
    except LlmparError as error:
        yield Finding(_TOPIC, "device", str(error), is_fault=True)
        return
    wanted = "as was asked for" if choice.device != "auto" else "the fastest that there is"
    yield Finding(_TOPIC, "device", f"{', '.join(devices)}: {wanted}")
    bits = "of unknown length" if files.source_bits is None else f"of {files.source_bits} bits"
    why = "as was asked for" if choice.precision != "auto" else f"no less than the file's weights {bits}"
    yield Finding(_TOPIC, "precision", f"{precision}: {why}")
    yield Finding(_TOPIC, "threads", _threads(choice, devices))
    memory = size(available_memory() // 2 if choice.max_memory is None else choice.max_memory)
    yield Finding(_TOPIC, "for texts and keys", f"{memory} at most: half of what is free, or {setting('max_memory')}")


def _threads(choice: ModelChoice, devices: tuple[str, ...]) -> str:
    if choice.threads is not None:
        many = more_than_cores(choice.threads) if devices == ("cpu",) else ""
        return f"{choice.threads}: as was asked for{f'; {many}' if many else ''}"
    if devices == ("cpu",):
        return f"{usable_cores()}: one for each core that may be used (a few, where torch computes)"
    return f"{len(devices)}: one for each device"
