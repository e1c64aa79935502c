"""What a decoder launches is noted once a kind, and nothing runs meanwhile; what else launches does so."""

from __future__ import annotations

import inspect
import threading
from copy import deepcopy
from typing import Any

import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from support.tiny_models import make_shallow  # noqa: E402

from llmpar.engine.cuda import ahead, kernels  # noqa: E402
from llmpar.engine.cuda.from_transformers import build_decoder  # noqa: E402


class Kernel:
    """Looks like one of Triton's."""

    def __init__(self, plain: Any) -> None:
        self.fn = plain.fn
        self.arg_names = list(inspect.signature(plain.fn).parameters)
        self.do_not_specialize = ["num_tokens"] if "num_tokens" in self.arg_names else []
        self.launched: list[Any] = []
        self.warmed: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **options: self.launched.append((grid, arguments, options))

    def warmup(self, *arguments: Any, grid: Any, **options: Any) -> None:
        self.warmed.append((arguments, options))


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kernel]:
    names = ("add_norm", "place", "attend", "attend_prefix", "activate", "choose")
    found = {name: Kernel(getattr(kernels, name)) for name in names}
    for name, kernel in found.items():
        monkeypatch.setattr(kernels, name, kernel)
    return found


def test_all_that_is_launched_is_compiled_and_nothing_runs(
    faked: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = untried_decoder(monkeypatch)
    monkeypatch.setattr(ahead, "usable_cores", lambda: 3)
    monkeypatch.setattr(ahead.torch.cuda, "device", lambda _: threading.Lock())
    ahead.compile_ahead(decoder)
    assert not any(kernel.launched for kernel in faked.values())
    assert all(kernels.__dict__[name] is kernel for name, kernel in faked.items())
    count = {name: len(kernel.warmed) for name, kernel in faked.items()}
    # With an update and without; of prompts and of steps, each with a beginning that is read for all and without.
    assert count == {"add_norm": 2, "place": 1, "attend": 4, "attend_prefix": 2, "activate": 1, "choose": 1}
    assert {options["HAS_PREFIX"] for _, options in faked["attend"].warmed} == {False, True}
    [(arguments, _)] = faked["choose"].warmed
    assert arguments[:3] == (torch.float32, 300, torch.int32)


def untried_decoder(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("llmpar.engine.cuda.from_transformers._tried", lambda decoder, parts: decoder)
    return build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))


def test_what_fails_to_compile_is_told(faked: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PTX of a later version")

    decoder = untried_decoder(monkeypatch)
    monkeypatch.setattr(faked["attend"], "warmup", fail)
    monkeypatch.setattr(ahead, "usable_cores", lambda: 2)
    monkeypatch.setattr(ahead.torch.cuda, "device", lambda _: threading.Lock())
    with pytest.raises(RuntimeError, match="PTX of a later version"):
        ahead.compile_ahead(decoder)


def test_other_threads_launch_meanwhile(faked: dict[str, Kernel]) -> None:
    with ahead.noted_launches() as launches:
        kernels.activate[(1,)](7)
        other = threading.Thread(target=lambda: kernels.activate[(2,)](8, BLOCK=1))
        other.start()
        other.join()
    assert faked["activate"].launched == [((2,), (8,), {"BLOCK": 1})]
    assert len(launches) == 1
