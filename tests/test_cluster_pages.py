"""The scripts in the pages about clusters: shells and YAML take them, and the one for Slurm does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.places import ROOT

HELP = ROOT / "llmpar" / "help"
FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
BLOCKS = [
    (kind, block)
    for page in ("cluster.md", "shards.md")
    for kind, block in FENCED.findall((HELP / page).read_text("utf-8"))
]
SCRIPTS = [block for kind, block in BLOCKS if kind == "sh"]
DOCUMENTS = [block for kind, block in BLOCKS if kind == "yaml"]
LINES = "".join(f"line {number % 30}\n" for number in range(60))


def name_of(block: str) -> str:
    return block.split("\n")[0][:40]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_shell_takes_it(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_it_is_yaml(document: str) -> None:
    assert isinstance(yaml.safe_load(document), dict)


def test_there_are_scripts_of_each_kind() -> None:
    assert sum("SBATCH" in script for script in SCRIPTS) == 1
    assert sum("parallel" in script for script in SCRIPTS) == 1
    kinds = {str(yaml.safe_load(document).get("kind", "cluster")) for document in DOCUMENTS}
    assert kinds == {"Job", "cluster"}


def test_the_cluster_file_is_one_of_ray() -> None:
    (found,) = [yaml.safe_load(document) for document in DOCUMENTS if "cluster_name" in document]
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert any("ray start" in command for command in found[name])
        for command in found[name]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


class TestRun:
    """The scripts are run with the echo engine, and make the document that one run makes."""

    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A directory with the document, and programs on the path as the scripts expect them."""
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        for name, program in (("llmpar", f'exec "{sys.executable}" -m llmpar "$@"'), ("srun", 'exec "$@"')):
            (bin_ / name).write_text(f"#!/bin/sh\n{program}\n")
            (bin_ / name).chmod(0o755)
        (tmp_path / "mails.txt").write_text(LINES)
        (tmp_path / "stores").mkdir()
        monkeypatch.chdir(tmp_path)
        variables = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LLMPAR_ENGINE": "echo",
            "LLMPAR_CHECK": "none",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return tmp_path

    def run(self, script: str, **variables: str) -> None:
        done = subprocess.run(["bash", "-c", script], env={**os.environ, **variables}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def fewer(self, script: str) -> str:
        """Return a script for two parts instead of eight, which take a second each."""
        assert '/8"' in script or "store merge" in script
        return script.replace('/8"', '/2"')

    def test_the_array_of_slurm(self, place: Path) -> None:
        (array,) = [script for script in SCRIPTS if "SBATCH" in script]
        (last,) = [script for script in SCRIPTS if "store merge stores/" in script]
        assert "--array=1-8" in array
        array, last = (self.fewer(script).replace("/tmp/", f"{place}/") for script in (array, last))
        for task in (1, 2):
            self.run(array, SLURM_ARRAY_TASK_ID=str(task), SLURM_JOB_ID=f"7{task}")
        assert len(list((place / "stores").iterdir())) == 2
        self.run(last, SLURM_JOB_ID="80")
        assert (place / "polite.txt").read_text() == LINES

    def test_the_job_of_kubernetes(self, place: Path) -> None:
        (found,) = [yaml.safe_load(document) for document in DOCUMENTS if "kind: Job" in document]
        spec: dict[str, Any] = found["spec"]
        assert spec["completionMode"] == "Indexed"
        (container,) = spec["template"]["spec"]["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {volume["name"] for volume in spec["template"]["spec"]["volumes"]} == {"store", "data"}
        (script,) = container["args"]
        for directory in ("store", "data"):
            (place / directory).mkdir()
        (place / "data" / "stores").mkdir()
        (place / "data" / "mails.txt").write_text(LINES)
        for mount in mounted:
            script = script.replace(f"{mount}/", f"{place}{mount}/")
        assert spec["completions"] == 8
        for index in (0, 1):
            for file in (place / "store").iterdir():
                file.unlink()  # each has a disk of its own
            self.run(self.fewer(script), JOB_COMPLETION_INDEX=str(index))
        stores = sorted(map(str, (place / "data" / "stores").iterdir()))
        assert len(stores) == 2
        merge = (
            "llmpar store merge \"$@\" --store all.sqlite && llmpar run 'Rewrite politely: {text}' -u line mails.txt"
        )
        subprocess.run(
            ["bash", "-c", f"{merge} --store all.sqlite -o polite.txt", "merge", *stores],
            check=True,
            capture_output=True,
        )
        assert (place / "polite.txt").read_text() == LINES

    @pytest.mark.skipif(not shutil.which("parallel"), reason="GNU parallel is not installed")
    def test_the_line_for_gnu_parallel(self, place: Path) -> None:
        (script,) = [script for script in SCRIPTS if "parallel" in script]
        self.run(script.replace("/tmp/", f"{place}/"))
        assert (place / "polite.txt").read_text() == LINES
