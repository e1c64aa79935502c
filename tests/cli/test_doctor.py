"""What `llmpar doctor` finds, for people and for programs, and what it says of what does not work."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.places import ROOT
from support.platforms_table import tables
from support.program import Outcome
from support.servers import serving
from support.stations import FakeCluster

from llmpar import __main__
from llmpar.engine.resources import usable_cores
from llmpar.health import platforms
from llmpar.store import filesystems

Llmpar = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def examined(llmpar: Llmpar, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return what was found, by its name."""
    outcome = llmpar("doctor", "--json", "--offline", *arguments)
    assert outcome.code == code, outcome.out + outcome.err.encode()
    told = json.loads(outcome.out)
    assert told["is_well"] is (code == 0)
    return {finding["name"]: finding for finding in told["findings"]}


def test_it_tells_what_there_is(llmpar: Llmpar) -> None:
    found = examined(llmpar)
    assert found["cores"]["value"].startswith(f"{usable_cores()} of {os.cpu_count()} ")
    assert found["torch"]["value"] == importlib.metadata.version("torch")
    assert {"platform", "instructions", "memory", "cache", "store", "hub", "openai"} <= found.keys()
    assert found["store"]["value"].endswith("none yet")
    assert "offline" in found["hub"]["value"]
    assert found["smollm2-135m"]["remedy"] == "llmpar models pull smollm2-135m"
    assert not list(Path(os.environ["LLMPAR_STATE"]).iterdir()), "nothing is made by looking"


def test_people_get_lines(llmpar: Llmpar) -> None:
    outcome = llmpar("doctor", "--offline")
    lines = outcome.out.decode().splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert [line for line in lines if line.endswith(":")] == ["machine:", "software:", "files:", "network:", "model:"]
    assert lines[-1] == "everything that is needed is there"


def test_what_would_be_chosen_for_a_model(llmpar: Llmpar, tiny_model: Path) -> None:
    found = examined(llmpar, "-m", str(tiny_model), "--device", "cpu")
    assert found[str(tiny_model)]["value"] == str(tiny_model.resolve())
    assert found["device"]["value"] == "cpu: as was asked for"
    assert found["precision"]["value"].startswith(("fp32", "bf16"))
    assert found["threads"]["value"].startswith(f"{usable_cores()}: one for each core")


def test_a_model_that_is_named_and_not_there_is_a_fault(llmpar: Llmpar) -> None:
    found = examined(llmpar, "-m", "owner/nothing", code=69)
    assert found["owner/nothing"]["value"] == "not on this machine"
    assert found["owner/nothing"]["remedy"] == "llmpar models pull owner/nothing"
    found = examined(llmpar, "-m", "smollm2-360m", code=69)
    assert "did you mean 'smollm2-135m'?" in found["smollm2-360m"]["value"]
    assert found["smollm2-360m"]["remedy"].startswith("give a name from `llmpar models list`"), "it cannot be fetched"


def test_nothing_is_laid_to_offline_that_was_not_given(llmpar: Llmpar) -> None:
    assert "--offline" not in llmpar("models", "path", "owner/nothing").err
    assert "--offline" not in llmpar("models", "path", "smollm2-135m").err
    told = llmpar("run", "x", "--offline", "-m", "owner/nothing", stdin=b"One.\n").err
    assert "is not on this machine; `llmpar models pull owner/nothing` fetches it" in told
    assert "--offline" in told, "which it was"


def test_more_threads_than_cores_are_told(llmpar: Llmpar, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.engine.resources.usable_cores", lambda: 2)
    model = ("-m", str(tiny_model), "--device", "cpu")
    assert "only 2 cores may be used here" in examined(llmpar, *model, "-j", "3")["threads"]["value"]
    assert examined(llmpar, *model, "-j", "2")["threads"]["value"] == "2: as was asked for"
    job = ("run", "x", *model, "--max-new-tokens", "2", "-q")
    assert "llmpar: -j 3: only 2 cores may be used here" in llmpar(*job, "-j", "3", stdin=b"One.\n").err
    assert "cores" not in llmpar(*job, "-j", "2", stdin=b"Two.\n").err


def test_what_a_model_is_like(llmpar: Llmpar, tiny_model: Path) -> None:
    outcome = llmpar("models", "info", str(tiny_model))
    told = dict(line.split(maxsplit=1) for line in outcome.out.decode().splitlines())
    assert (told["type"], told["layers"]) == ("llama", "2")
    assert told["context"] == "1,024 tokens, prompt and answer together"
    assert told["chat"].split() == ["template", "yes"]
    assert llmpar("models", "info", "owner/nothing").code == 69


def test_a_server_that_is_named(llmpar: Llmpar) -> None:
    with serving(models=[{"id": "m", "max_model_len": 4096}]) as server:
        found = examined(llmpar, "--endpoint", server.url)
        assert found["server"]["value"] == f"{server.url}: has m, 4,096 tokens of context"
        assert server.asked == []
    found = examined(llmpar, "--endpoint", "http://127.0.0.1:9", code=69)
    assert "is it running" in found["server"]["value"]


def test_a_store_that_cannot_be_used(llmpar: Llmpar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").write_text("no store")
    assert "no SQLite file" in examined(llmpar, "--store", str(tmp_path / "store"), code=69)["store"]["value"]
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 27 0:30 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    assert "llmpar store merge" in examined(llmpar, "--store", str(tmp_path / "store"), code=69)["store"]["value"]


def test_what_is_not_installed_comes_with_its_command(llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("openai", "numba"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr("llmpar.health.software.version", version)
    found = examined(llmpar, code=69)
    assert found["numba"]["remedy"] == "pip install numba"
    assert (found["openai"]["remedy"], found["openai"]["is_fault"]) == ("pip install 'llmpar[endpoint]'", False)


def test_the_page_about_platforms_has_the_table_of_doctor() -> None:
    page = (ROOT / "llmpar" / "help" / "platforms.md").read_text("utf-8")
    assert all(table in page for table in tables())


@pytest.mark.parametrize(
    ("system", "state"),
    [
        (("Linux", "x86_64", "6.8.0"), "supported and tested"),
        (("Linux", "x86_64", "5.15.0-microsoft-standard-WSL2"), "untested; keep files"),
        (("Linux", "riscv64", "6.8.0"), "untested"),
        (("Darwin", "arm64", "24.0"), "untested"),
        (("Windows", "AMD64", "11"), "refused; run it in WSL 2 (`wsl --install`)"),
    ],
)
def test_a_system_is_told_its_row(system: tuple[str, str, str], state: str) -> None:
    assert platforms.find_system(*system).told.startswith(state)


@pytest.mark.parametrize(
    ("kind", "capability", "told"),
    [
        ("cuda", (12, 0), "untested"),
        ("cuda", (9, 0), "supported and tested"),
        ("cuda", (8, 9), "untested"),
        ("cuda", (7, 5), "untested; no bf16, so fp32 is taken"),
        ("cuda", (6, 1), "untested; no bf16; if torch fails"),
        ("rocm", None, "untested; torch shows it as cuda"),
        ("mps", None, "untested; computed through torch"),
    ],
)
def test_a_gpu_is_told_its_row(kind: str, capability: tuple[int, int] | None, told: str) -> None:
    assert platforms.find_gpu(kind, capability).told.startswith(told)


def test_doctor_tells_of_the_gpus_that_it_finds(llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.health.machine.find_devices", lambda _: ("cuda:0", "cuda:1"))
    monkeypatch.setattr("llmpar.health.machine.capabilities_of", lambda _: ((9, 0), (7, 5)))
    monkeypatch.setattr("llmpar.health.machine.kind_of", lambda _: "cuda")
    told = llmpar("doctor", "--offline").out.decode()
    assert re.search(r"cuda:0, compute capability 9\.0, .*Hopper.*: supported and tested", told)
    assert re.search(r"cuda:1, compute capability 7\.5, .*Turing.*: untested; no bf16", told)


def test_on_windows_nothing_begins(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("signal.getsignal", lambda _: None)  # pytest's own handler stays
    with pytest.raises(SystemExit) as left:
        __main__.main()
    assert left.value.code == 69
    assert "run it in WSL 2" in capfd.readouterr().err


def test_a_cluster_that_is_named_is_looked_at(llmpar: Llmpar, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("llmpar.answering.cluster.connection.Cluster", lambda _: FakeCluster(8, 4))
        found = examined(llmpar, "--ray", "auto")["Ray cluster"]
        assert found["value"] == "auto: host0 with cpu=8,gpu=0, host1 with cpu=4,gpu=0: 2 workers, such as cpu=8"
        found = examined(llmpar, "--ray", "auto", "--ray-resources", "cpu=3,gpu=1", code=69)["Ray cluster"]
        assert "has no node with cpu=3,gpu=1" in found["value"]
    assert examined(llmpar, "--ray", "ray://head:10001", code=69)["Ray cluster"]["is_fault"]
