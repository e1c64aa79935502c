"""Speed by how weights, keys and values are kept, and by whether cuBLAS may divide sums: settings that alternate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from harness.table import markdown_table

from device.contender import Spec
from device.shapes import make_config
from device.trial import Trial, run_trial

HEADER = ["shape", "setting", "processes", "requests", "useful tokens/s", "range", "loaded s", "memory GB", "chosen"]
_JOBS = 3
_WITH_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TORCH_CUBLASLT_UNIFIED_WORKSPACE": "1"}
_FEW = 64


@dataclass(frozen=True)
class Setting:
    """A way to run a shape."""

    name: str
    precision: str = "bf16"
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    requests: int = 0  # other than the rest


ORDER = (Setting("in one order"), Setting("cuBLAS with its workspace", environment=_WITH_WORKSPACE))
SHORT = (
    Setting("bf16"),
    Setting("fp8", "fp8"),
    Setting("bf16, keys and values in fp8", options={"kv_cache": "fp8"}),
    Setting("int4, 8 GB of memory", "int4", {"held": 8_000_000_000}, requests=_FEW * 4),
    Setting("int4, 8 GB, keys and values in fp8", "int4", {"held": 8_000_000_000, "kv_cache": "fp8"}, {}, _FEW * 4),
)


@dataclass(frozen=True)
class Found:
    """A setting's trials on a shape, those that came to their ends."""

    shape: str
    setting: str
    trials: list[Trial]

    def row(self) -> list[str]:
        # The first job is the warm-up.
        rates = [job.rate for trial in self.trials for job in trial.jobs[1:]]
        last = self.trials[-1]
        return [
            self.shape,
            self.setting,
            str(len(self.trials)),
            f"{last.jobs[-1].requests:,}",
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f}–{max(rates):,.0f}",
            f"{last.load_seconds or 0:.1f}",
            f"{last.memory / 1e9:.1f}",
            last.settings,
        ]


def run_settings(
    settings: tuple[Setting, ...],
    directories: dict[str, str],
    device: str,
    requests: int,
    rounds: int,
    time_limit: float,
    tell: Callable[[str], None],
) -> list[Found]:
    """Try each setting on each shape (name → directory), one after the other and again; what fails is told."""
    found = []
    for shape, directory in directories.items():
        vocabulary = make_config(shape).vocab_size
        trials: dict[str, list[Trial]] = {setting.name: [] for setting in settings}
        for _ in range(rounds):
            for setting in settings:
                jobs = [setting.requests or requests] * (1 + _JOBS)
                spec = Spec("llmpar", directory, device, setting.precision, vocabulary, jobs, setting.options)
                environment = {"CUDA_VISIBLE_DEVICES": "0", **setting.environment}
                trial = run_trial(spec, time_limit, environment if device != "cpu" else setting.environment)
                if trial.error:
                    tell(f"{shape}, {setting.name}: FAILED: {trial.error}")
                    continue
                trials[setting.name].append(trial)
                tell("  ".join(Found(shape, setting.name, [trial]).row()))
        found += [Found(shape, name, some) for name, some in trials.items() if some]
    return found


def report_settings(found: list[Found]) -> str:
    """Return the table."""
    return markdown_table(HEADER, [one.row() for one in found])
