"""Which platforms llmpar was tested on: the one table for `llmpar doctor` and for the page about platforms."""

from __future__ import annotations

from dataclasses import dataclass

TESTED, UNTESTED, REFUSED = "supported and tested", "untested", "refused"
_WSL = "run it in WSL 2 (`wsl --install`), where it is a program for Linux"


@dataclass(frozen=True, slots=True)
class Platform:
    """A kind of machine or of GPU.

    Args:
        name: for people.
        state: TESTED, UNTESTED or REFUSED.
        remark: what is special about it, or what to do; "" for nothing.
    """

    name: str
    state: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is to be said of it, in one line."""
        return f"{self.state}; {self.remark}" if self.remark else self.state


SYSTEMS = {
    "linux-x86_64": Platform("Linux, x86-64", TESTED, "fastest with AVX-512 or AMX; AVX2 is enough"),
    "linux-aarch64": Platform("Linux, ARM (aarch64)", UNTESTED, "only the kernels were tested, under an emulator"),
    "wsl": Platform("Windows, in WSL 2", UNTESTED, "keep files and the store inside of WSL, not below /mnt/c"),
    "darwin-arm64": Platform("macOS, Apple silicon", UNTESTED),
    "darwin-x86_64": Platform("macOS, Intel", UNTESTED, "pip finds no PyTorch for it that is new enough (2.6)"),
    "windows": Platform("Windows, without WSL", REFUSED, _WSL),
    "other": Platform("any other system", UNTESTED),
}
"""Operating systems and processors, by the names that `find_system` returns."""

GPUS = {
    "blackwell": Platform("CUDA 10.0 and later (Blackwell: B200, RTX 50)", UNTESTED),
    "hopper": Platform("CUDA 9.0 (Hopper: H100, H200)", TESTED),
    "ampere": Platform("CUDA 8.0 to 8.9 (Ampere, Ada: A100, RTX 30, RTX 40, L4)", UNTESTED),
    "turing": Platform("CUDA 7.0 to 7.5 (Volta, Turing: V100, T4, RTX 20)", UNTESTED, "no bf16, so fp32 is taken"),
    "older": Platform("CUDA below 7.0 (Pascal and before)", UNTESTED, "no bf16; if torch fails, take `--device cpu`"),
    "rocm": Platform("ROCm (AMD)", UNTESTED, "torch shows it as cuda; if it fails, take `--device cpu`"),
    "mps": Platform("MPS (Apple)", UNTESTED, "computed through torch; if it fails, take `--device cpu`"),
}
"""GPUs, by the names that `find_gpu` returns."""


def find_system(system: str, processor: str, release: str) -> Platform:
    """Return what is known of a system.

    Args:
        system: as `platform.system` calls it.
        processor: as `platform.machine` calls it.
        release: as `platform.release` calls it, by which WSL is known.
    """
    if system == "Linux" and "microsoft" in release.lower():
        return SYSTEMS["wsl"]
    if system == "Windows":
        return SYSTEMS["windows"]
    return SYSTEMS.get(f"{system.lower()}-{processor}", SYSTEMS["other"])


def find_gpu(kind: str, capability: tuple[int, int] | None) -> Platform:
    """Return what is known of a GPU.

    Args:
        kind: "cuda", "rocm" or "mps".
        capability: the two parts of CUDA's compute capability; None where there is none.
    """
    if kind != "cuda" or capability is None:
        return GPUS["mps" if kind == "mps" else "rocm"]
    for least, name in (((10, 0), "blackwell"), ((9, 0), "hopper"), ((8, 0), "ampere"), ((7, 0), "turing")):
        if capability >= least:
            return GPUS[name]
    return GPUS["older"]
