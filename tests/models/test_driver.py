"""GPUs as CUDA's driver tells of them, with functions in its place that have its signatures: there need be no GPU."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from llmpar.errors import ModelUnavailable
from llmpar.models import devices
from llmpar.models.devices import compute_capabilities, find_devices, has_bf16

OK, NO_DEVICE, REFUSED = 0, 100, 3  # CUresult
HOPPER, TURING = (9, 0), (7, 5)
Number = ctypes.POINTER(ctypes.c_int)
FIRST_DEVICE = 40  # a CUdevice is a handle, and no index


def driver(gpus: Sequence[tuple[int, int]], version: int = 13000, init: int = OK, refuses: str = "") -> SimpleNamespace:
    """Return a driver that has these GPUs, and one function that may refuse."""

    def code(name: str) -> int:
        return REFUSED if name == refuses else OK

    def get_version(found: ctypes.Array[ctypes.c_int]) -> int:
        found[0] = version  # type: ignore[call-overload]
        return code("cuDriverGetVersion")

    def get_count(found: ctypes.Array[ctypes.c_int]) -> int:
        found[0] = len(gpus)  # type: ignore[call-overload]
        return code("cuDeviceGetCount")

    def get_device(found: ctypes.Array[ctypes.c_int], index: int) -> int:
        found[0] = FIRST_DEVICE + index  # type: ignore[call-overload]
        return code("cuDeviceGet")

    def get_attribute(found: ctypes.Array[ctypes.c_int], attribute: int, device: int) -> int:
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, as cuda.h numbers them
        found[0] = gpus[device - FIRST_DEVICE][{75: 0, 76: 1}[attribute]]  # type: ignore[call-overload]
        return code("cuDeviceGetAttribute")

    number = ctypes.c_int
    return SimpleNamespace(
        cuInit=ctypes.CFUNCTYPE(number, ctypes.c_uint)(lambda _: init),
        cuDriverGetVersion=ctypes.CFUNCTYPE(number, Number)(get_version),
        cuDeviceGetCount=ctypes.CFUNCTYPE(number, Number)(get_count),
        cuDeviceGet=ctypes.CFUNCTYPE(number, Number, number)(get_device),
        cuDeviceGetAttribute=ctypes.CFUNCTYPE(number, Number, number, number)(get_attribute),
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A machine whose torch nobody has imported; call it with a driver, if it has one, and what torch is built for."""

    def set_up(its: SimpleNamespace | None, built: str = "cuda: Optional[str] = '13.0'") -> None:
        def load(name: str) -> SimpleNamespace:
            assert name == "libcuda.so.1"
            if its is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return its

        (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\ndebug = False\n{built}\nhip = None\n")
        spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(devices, "find_spec", lambda name: spec if name == "torch" else None)
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setitem(sys.modules, "torch", None)  # with which importing it fails
        compute_capabilities.cache_clear()

    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: True)
    yield set_up
    compute_capabilities.cache_clear()


def test_it_tells_how_many_there_are_and_torch_is_not_asked(machine: Callable[..., None]) -> None:
    machine(driver([HOPPER, TURING, HOPPER]))
    assert compute_capabilities() == (HOPPER, TURING, HOPPER)
    for name in ("auto", "cuda"):
        assert find_devices(name) == ("cuda:0", "cuda:1", "cuda:2")
    assert find_devices("cuda:1") == ("cuda:1",)
    with pytest.raises(ModelUnavailable, match=r"device cuda:3: not on this machine \(torch sees 3 CUDA\)"):
        find_devices("cuda:3")
    assert has_bf16()


def test_what_it_is_not_sure_of_is_left_to_torch(machine: Callable[..., None]) -> None:
    machine(driver([TURING, HOPPER]))  # torch may compute bf16 on it otherwise
    with pytest.raises(ImportError):
        has_bf16()
    machine(driver([]))
    assert compute_capabilities() == ()
    with pytest.raises(ImportError):
        find_devices("cuda")
    machine(driver([HOPPER]))
    for name in ("mps", "xpu", "cuda:one"):
        with pytest.raises(ImportError):
            find_devices(name)


@pytest.mark.parametrize(
    ("its", "built"),
    [
        (None, "cuda: Optional[str] = '13.0'"),
        (SimpleNamespace(), "cuda: Optional[str] = '13.0'"),  # a library of that name that is another
        (driver([HOPPER], init=REFUSED), "cuda: Optional[str] = '13.0'"),
        *[
            (driver([HOPPER], refuses=name), "cuda = '13.0'")
            for name in ("cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetAttribute")
        ],
        (driver([HOPPER], version=12080), "cuda: Optional[str] = '13.0'"),  # too old for torch, which sees none then
        (driver([HOPPER]), "cuda: Optional[str] = None"),  # a torch for the CPU, on a machine with a GPU
        (driver([HOPPER]), ""),
    ],
)
def test_nothing_is_said_of_gpus_that_torch_may_not_see(
    machine: Callable[..., None], its: SimpleNamespace | None, built: str
) -> None:
    machine(its, built)
    assert compute_capabilities() is None


def test_a_driver_without_a_gpu_has_none(machine: Callable[..., None]) -> None:
    machine(driver([], init=NO_DEVICE), "cuda = '12.8'")
    assert compute_capabilities() == ()


@pytest.mark.parametrize("version", [12080, 13000])
def test_a_driver_of_torchs_version_or_a_later_one_will_do(machine: Callable[..., None], version: int) -> None:
    machine(driver([HOPPER], version), "cuda = '12.8'")
    assert compute_capabilities() == (HOPPER,)


def test_one_who_has_torch_asks_it(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(driver([HOPPER]))
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert compute_capabilities() is None


@pytest.mark.device
def test_it_tells_of_this_machine_what_torch_tells() -> None:
    script = (
        "from llmpar.models.devices import compute_capabilities\nfound = compute_capabilities()\n"
        "import torch\nprint(found == tuple(map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
