"""The target `loading` in a process of its own, of limited memory: it may crash, hang or fill the machine.

Run as `python -m fuzz.worker`, it reads keys from stdin and answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.execution import Finding, execute

TESTS = Path(__file__).parents[1]
MEMORY = 6 << 30
_PATIENCE = 300.0  # seconds; a machine may be busy, and before the first execution torch is imported
_SECONDS = 60.0  # of computing for an execution: a chat template alone may take a few, several times
_NUM_EXECUTIONS = 500  # of one process: torch and transformers keep some memory of each model


class Worker:
    """Executes the target elsewhere. A process that dies or hangs is a finding, and is followed by another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def execute(self, key: str) -> Finding | None:
        """Execute the target once, by its key; return what was found."""
        if self._process is None or self._count >= _NUM_EXECUTIONS:
            self.close()
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self._count += 1
        process.stdin.write(f"{key}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
        line = process.stdout.readline() if ready else b""
        if line:
            answer = json.loads(line)
            return Finding(key, answer["what"], answer["trace"], {}) if answer else None
        if not ready:
            process.kill()
        self._process = None
        code = process.wait()
        what = f"hangs: no answer in {_PATIENCE:g} s" if not ready else f"died with {code}"
        return Finding(key, what, f"the worker's process {what}; replay it with --replay {key}", {})

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
            "LLMPAR_CACHE": str(Path(tempfile.gettempdir()) / "llmpar-fuzz-compiled"),  # for the next process, too
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._count = 0


def _serve() -> None:
    import resource

    from fuzz.loading import loading, prepare

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The answers' own stream: whatever a library prints must not be taken for one.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare()
    for line in sys.stdin:
        finding = execute(loading, line.strip(), _SECONDS)
        with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
            print(json.dumps({"what": finding.what, "trace": finding.trace} if finding else None), file=out, flush=True)


if __name__ == "__main__":
    _serve()
