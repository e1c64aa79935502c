"""Which devices there are, and which of them a name means.

CUDA's driver tells in milliseconds what torch, which would ask it, takes seconds to import for.
"""

from __future__ import annotations

import ctypes
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from llmpar.errors import ModelUnavailable

_SUCCESS, _NO_DEVICE = 0, 100  # CUresult
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: the two parts of the compute capability
_NAME = re.compile(r"cuda(?::\d+)?")
_AMPERE = (8, 0)  # the compute capability from which GPUs have bf16
_ADA = (8, 9)  # and floats of 8 bits


def find_devices(name: str) -> tuple[str, ...]:
    """Return the torch devices called `name`: "cpu", "mps", "cuda:N", or "cuda" for every one that torch sees.

    "auto" is the fastest kind there is.

    Raises:
        ModelUnavailable: it is not on this machine.
    """
    # torch takes a second to import, and a machine without a driver need not be asked by it.
    if name == "cpu" or (name == "auto" and not _may_have_accelerator()):
        return ("cpu",)
    if (found := compute_capabilities()) and (name == "auto" or _NAME.fullmatch(name)):
        return _cuda_devices("cuda" if name == "auto" else name, len(found))
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        return _cuda_devices(name, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailable("device mps: not on this machine")
    return (name,)


def has_bf16() -> bool:
    """Tell whether the first GPU computes in bf16; one that does so natively need not be asked through torch."""
    if (found := compute_capabilities()) and found[0] >= _AMPERE:
        return True
    import torch

    return bool(torch.cuda.is_bf16_supported())


def has_fp8(devices: tuple[str, ...]) -> bool:
    """Tell whether all of some devices are GPUs that multiply floats of 8 bits."""
    return all(found is not None and found >= _ADA for found in capabilities_of(devices))


@cache
def memory_sizes() -> tuple[int, ...] | None:
    """Return how many bytes of memory each GPU has, in torch's order; None where nobody tells."""
    if (found := compute_capabilities()) is None:
        import torch

        if not torch.cuda.is_available():
            return None
        return tuple(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))
    try:
        driver, size = ctypes.CDLL("libcuda.so.1"), ctypes.c_size_t()
        sizes = []
        for index in range(len(found)):
            if driver.cuDeviceTotalMem_v2(ctypes.byref(size), _number(driver.cuDeviceGet, index)) != _SUCCESS:
                return None
            sizes.append(size.value)
    except (OSError, AttributeError, _Refused):
        return None
    return tuple(sizes)


def kind_of(device: str) -> str:
    """Return "cpu", "mps", "cuda", or "rocm" for what torch calls cuda on a machine with AMD's driver."""
    kind = device.partition(":")[0]
    return "rocm" if kind == "cuda" and _version_of("hip") is not None else kind


def capabilities_of(devices: tuple[str, ...]) -> tuple[tuple[int, int] | None, ...]:
    """Return the compute capability of each device, as `find_devices` returns them; None for those that have none."""
    found = compute_capabilities()
    if found is None and any(kind_of(device) == "cuda" for device in devices):
        import torch

        found = tuple(torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count()))
    indices = [int(device.partition(":")[2] or 0) if kind_of(device) == "cuda" else None for device in devices]
    return tuple(None if index is None or not found else found[index] for index in indices)


def bind_device(name: str) -> None:
    """Let what the calling thread computes without naming a device be on this one: another's memory is not touched.

    "cuda" is all of them, which divide a model: each rank binds itself.
    """
    if name.startswith("cuda:"):
        import torch

        torch.cuda.set_device(name)


@cache
def compute_capabilities() -> tuple[tuple[int, int], ...] | None:
    """Return the compute capability of each GPU that torch would see, in its order; None where only torch can tell.

    No context is made on any of them. CUDA_VISIBLE_DEVICES is honoured, by the driver itself.
    """
    built = None if sys.modules.get("torch") else _version_of("cuda")
    if built is None:
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        code = driver.cuInit(0)
        if code == _NO_DEVICE:
            return ()
        if code != _SUCCESS or _number(driver.cuDriverGetVersion) // 1000 < built:
            return None
        return tuple(_capability(driver, index) for index in range(_number(driver.cuDeviceGetCount)))
    except (OSError, AttributeError, _Refused):  # there is no driver, or one of another kind
        return None


def _cuda_devices(name: str, count: int) -> tuple[str, ...]:
    """Return the devices called "cuda" or "cuda:N", of so many."""
    index = name.partition(":")[2]
    if int(index or 0) >= count:
        raise ModelUnavailable(f"device {name}: not on this machine (torch sees {count} CUDA)")
    return (name,) if index else tuple(f"cuda:{number}" for number in range(count))


def _may_have_accelerator() -> bool:
    """Tell whether there is a Mac, or a driver of NVIDIA (also under WSL) or AMD."""
    return sys.platform == "darwin" or any(Path(f"/dev/{name}").exists() for name in ("nvidiactl", "dxg", "kfd"))


class _Refused(Exception):
    """The driver does not answer."""


def _version_of(toolkit: str) -> int | None:
    """Return the major version of "cuda" or "hip" that torch is built for, without importing it; None for none."""
    spec = find_spec("torch")  # which does not import it
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(rf"^{toolkit}\b[^=]*= *'(\d+)\.", text, re.MULTILINE)
    return int(found[1]) if found else None


def _capability(driver: ctypes.CDLL, index: int) -> tuple[int, int]:
    device = _number(driver.cuDeviceGet, index)
    return (
        _number(driver.cuDeviceGetAttribute, _MAJOR, device),
        _number(driver.cuDeviceGetAttribute, _MINOR, device),
    )


def _number(function: ctypes._NamedFuncPointer, *arguments: int) -> int:
    """Return the number that a function of the driver puts where its first argument points."""
    found = ctypes.c_int()
    if function(ctypes.byref(found), *arguments) != _SUCCESS:
        raise _Refused
    return found.value
