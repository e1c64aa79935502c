"""A directory of safetensors as mapped files: tensors that are read when they are used, and given back after it."""

from __future__ import annotations

import json
import math
import mmap
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import nn

# As safetensors writes them: https://huggingface.co/docs/safetensors/index#format
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CODES = {"BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"} | {
    name: name.replace("I", "int").replace("U", "uint")
    for name in ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
}
_RAW = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8", "float8_e8m0fnu": "uint8"}
"""What numpy has for types of the same length that it has not."""
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it


class OtherFiles(Exception):
    """The files do not hold plainly what the model has, in one type; whoever can load it otherwise says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies: bytes `start` to `end` of a file."""

    file: int
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class MappedWeights:
    """The tensors of some files of safetensors. The mapping is read-only, so that nothing in it can be lost.

    Args:
        files: all of them.
        with_codes: tensors may also be of integers and of floats of 8 bits, which quantised weights are made of.

    Raises:
        OtherFiles: one cannot be read, is damaged, or has tensors of other types.
    """

    def __init__(self, files: list[Path], *, with_codes: bool = False) -> None:
        self._maps: list[mmap.mmap] = []
        self._places: dict[str, _Place] = {}
        self.metadata: dict[str, str] = {}
        """What the files say beside their tensors."""
        types = _FLOATS | _CODES if with_codes else _FLOATS
        for file in files:
            try:
                with file.open("rb") as source:
                    self._maps.append(mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ))
                header, start = _read_header(self._maps[-1])
                self.metadata |= header.pop("__metadata__", None) or {}
                self._places |= dict(_places(header, types, start, len(self._maps[-1]), len(self._maps) - 1))
            except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
                raise OtherFiles(f"{file.name} is damaged, empty, or no safetensors") from error
        self._addresses: list[tuple[int, mmap.mmap]] = []

    @property
    def names(self) -> set[str]:
        """The tensors' names."""
        return set(self._places)

    @property
    def dtypes(self) -> set[str]:
        """The tensors' types, by torch's names."""
        return {place.dtype for place in self._places.values()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors' shapes, by their names."""
        return {name: place.shape for name, place in self._places.items()}

    def dtype(self, name: str) -> str:
        """Return a tensor's type, by torch's name."""
        return self._places[name].dtype

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor of any shape, which is read from the file when it is used.

        Floats that numpy does not have are their bits: those of bfloat16 as uint16, of 8 bits as uint8.
        """
        place = self._places[name]
        count, dtype = math.prod(place.shape), _array_type(place.dtype)
        return np.frombuffer(self._maps[place.file], dtype, count, place.start).reshape(place.shape)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor of any shape, the file's; what it holds is read from the file when it is used."""
        import torch

        place = self._places[name]
        mapped = self._maps[place.file]
        count = math.prod(place.shape)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")  # and nobody writes to it
            flat = torch.frombuffer(mapped, dtype=getattr(torch, place.dtype), count=count, offset=place.start)
        address = flat.data_ptr() - place.start
        if (address, mapped) not in self._addresses:
            self._addresses.append((address, mapped))
        return flat.view(place.shape)

    def give_back(self, tensor: torch.Tensor) -> None:
        """Let go of the memory that a tensor's pages take; they are read again if they are used again.

        A tensor of any shape, that need not be one of these: then nothing happens.
        """
        for address, mapped in self._addresses:
            start = tensor.data_ptr() - address
            if 0 <= start < len(mapped):
                _give_back(mapped, start, start + tensor.nbytes)

    def give_back_array(self, name: str) -> None:
        """Let go of the memory that the pages of the tensor of this name take; see `give_back`."""
        place = self._places[name]
        _give_back(self._maps[place.file], place.start, place.end)


def _give_back(mapped: mmap.mmap, start: int, end: int) -> None:
    if not hasattr(mmap, "MADV_DONTNEED"):
        return  # not on this system, which then gives pages back when it needs them
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _read_header(mapped: mmap.mmap) -> tuple[dict[str, Any], int]:
    """Return what a file says of its tensors, and where these begin."""
    (length,) = _LENGTH.unpack_from(mapped)
    if length > min(_LARGEST_HEADER, len(mapped)):
        raise ValueError("its header is longer than the file")
    start = _LENGTH.size + length
    header = json.loads(mapped[_LENGTH.size : start])
    if not isinstance(header, dict):
        raise TypeError("its header is no object")
    return header, start


def _places(
    header: dict[str, Any], types: dict[str, str], start: int, length: int, file: int
) -> Iterator[tuple[str, _Place]]:
    for name, told in header.items():
        if told["dtype"] not in types:
            raise OtherFiles(f"{name} is of the type {told['dtype']}, which is not read here")
        dtype, shape = types[told["dtype"]], tuple(told["shape"])
        first, last = (start + offset for offset in told["data_offsets"])
        if not all(type(number) is int for number in (*shape, first, last)) or min(shape, default=1) < 1:
            raise ValueError(f"{name} has no length, or lies nowhere")
        size = math.prod(shape) * _array_type(dtype).itemsize
        if not (start <= first <= last <= length and last - first == size):
            raise ValueError(f"{name} lies outside of the file")
        yield name, _Place(file, dtype, shape, first, last)


def _array_type(dtype: str) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(_RAW.get(dtype, dtype)).newbyteorder("<")
    return found


def open_directory(path: Path) -> tuple[Any, MappedWeights]:
    """Return a directory's causal language model, and its weights, which are its mapped files.

    Raises:
        OtherFiles: the directory holds something else, or something more; see `open_model`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        text = config.get_text_config()
    except Exception as error:  # whatever transformers makes of a damaged configuration
        raise OtherFiles(f"{path} cannot be opened so: {error}") from error
    if config.is_encoder_decoder or text is not config:
        raise OtherFiles("it is not a model for text alone")
    weights = MappedWeights(sorted(path.glob("*.safetensors")))
    return open_model(AutoModelForCausalLM, config, weights), weights


def open_model(kind: Any, config: Any, weights: MappedWeights) -> Any:
    """Return a model of transformers whose parameters are the mapped files themselves: none takes memory before use.

    Args:
        kind: one of transformers' classes that make a model of a configuration.
        config: the model's.
        weights: its weights, by the names of its parameters.

    Raises:
        OtherFiles: they have other names, shapes, or more than one type.
    """
    import torch
    from torch import nn

    if len(weights.dtypes) != 1:
        raise OtherFiles("the weights are of several types")
    (dtype,) = weights.dtypes
    with _without_memory():
        try:
            model = kind.from_config(config, dtype=getattr(torch, dtype))
        except Exception as error:  # whatever a model's own code makes of a damaged configuration
            raise OtherFiles(f"no model can be made of its configuration: {error}") from error
    wanted = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(wanted)
    if weights.names - tied != set(wanted):
        raise OtherFiles("the weights have other names than the model's")
    for name, parameter in wanted.items():
        tensor = weights.tensor(name)
        if tensor.shape != parameter.shape:
            raise OtherFiles(f"{name} has another shape")
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, nn.Parameter(tensor, requires_grad=False))
    model.tie_weights()
    if any(parameter.is_meta for parameter in model.parameters()):
        raise OtherFiles("a part of the model has no weights")
    return model.eval()


@contextmanager
def _without_memory() -> Iterator[None]:
    """Let parameters that are made meanwhile have a shape and no memory. Buffers, which are computed, have some."""
    from torch import nn

    register = nn.Module.register_parameter

    def register_shape(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # one that is, is another's, to which this one is tied
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_shape  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def giving_back(model: nn.Module, weights: MappedWeights) -> Iterator[None]:
    """Give the pages of each part of a model back when it has computed, so that one part's are held at a time."""

    def give_back(module: nn.Module, *_: object) -> None:
        for parameter in module.parameters(recurse=False):
            weights.give_back(parameter)

    hooks = [module.register_forward_hook(give_back) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
