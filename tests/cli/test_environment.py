"""What surrounds the program, its variables, limits and libraries: it works, or one line says what to change."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome

from llmpar import unforeseen
from llmpar.answering.echo import Echo

Call = Callable[..., Outcome]
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
ECHO = ("run", "--engine", "echo", "-u", "line", "x")


class PanicException(BaseException):
    """As pyo3 makes of a panic in Rust."""


PanicException.__module__ = "pyo3_runtime"


def imported(place: Path, line: str) -> None:
    """Import a library that fails."""
    (place / "brittle.py").write_text(f"import os\n{line}\n")
    sys.path.insert(0, str(place))
    try:
        import brittle  # type: ignore[import-not-found]  # noqa: F401
    finally:
        sys.path.remove(str(place))
        sys.modules.pop("brittle", None)


class TestUnforeseen:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("int('abc')", "ValueError: invalid literal"),
            ("import no_such_module", "No module named"),
            ("{}['x']", "KeyError"),
            ("raise SystemError('initialization failed')", "initialization failed"),
            ("raise ImportError('libx.so: cannot open shared object file')", "libx.so"),
            ("open('/nonesuch/settings')", "No such file"),
            ("raise MemoryError", "ulimit -v"),
            ("raise ImportError('x.so: failed to map segment from shared object')", "ulimit -v"),
            ("raise OSError(24, 'Too many open files')", "ulimit -n"),
            ('raise RuntimeError("can\'t start new thread")', "ulimit -u"),
            ("try:\n    raise MemoryError\nexcept MemoryError as e:\n    raise ValueError('x') from e", "ulimit -v"),
        ],
    )
    def test_a_library_that_fails_to_load(
        self, llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
    ) -> None:
        monkeypatch.setattr(Echo, "open", lambda *_: imported(tmp_path, line))
        monkeypatch.setenv("HF_HUB_SOMETHING", "abc")
        outcome = llmpar(*ECHO, stdin=b"Text.")
        assert (outcome.code, outcome.out) == (69, b"")
        assert len(outcome.err.splitlines()) == 1
        assert said in outcome.err
        assert ("ulimit" in said) or "HF_HUB_SOMETHING" in outcome.err

    @pytest.mark.parametrize("error", [PanicException("a thread"), MemoryError(), OSError(errno.EMFILE, "Too many")])
    def test_what_a_library_raises(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        def failing(*_: object) -> None:
            raise error

        monkeypatch.setattr(Echo, "open", failing)
        outcome = llmpar(*ECHO, stdin=b"Text.")
        assert (outcome.code, len(outcome.err.splitlines())) == (69, 1)

    def test_a_fault_of_our_own_says_so_and_where(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmpar.cli.job.DocumentMerger", None)
        outcome = llmpar(*ECHO, stdin=b"Text.")
        assert outcome.code == 1
        (line,) = outcome.err.splitlines()
        assert line.startswith("llmpar: this is a fault of llmpar itself: TypeError: 'NoneType' object is not callable")
        assert "(job.py:" in line
        monkeypatch.setenv("LLMPAR_DEBUG", "1")
        outcome = llmpar(*ECHO, stdin=b"Text.")
        assert "Traceback" in outcome.err
        assert outcome.err.splitlines()[-1] == line

    def test_is_told_before_anything_else_is_there(self, tmp_path: Path) -> None:
        script = "import sys; sys.modules['typer'] = None; from llmpar.__main__ import main; main()"
        outcome = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
        assert outcome.returncode == 69
        assert outcome.stderr.decode().startswith("llmpar: a library cannot be used: ")
        assert len(outcome.stderr.splitlines()) == 1

    def test_needs_hardly_a_module(self) -> None:
        before = "import re; before = set(sys.modules)"  # as pip's script does
        script = f"import sys; {before}; import llmpar.__main__, llmpar.unforeseen; print(*(set(sys.modules) - before))"
        outcome = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
        loaded = set(outcome.stdout.decode().split())
        own = {"llmpar", "llmpar.__main__", "llmpar.unforeseen"}
        assert loaded <= own | {"__future__", "_signal", "errno", "gc", "signal"}


class TestVariables:
    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("THREADS", "abc", 2), ("TEMPERATURE", "500", 2), ("TEMPERATURE", "abc", 2), ("NO_STORE", "maybe", 2),
            ("ON_ERROR", "zz", 2), ("MAX_TIME", "soon", 2), ("CHECK", "zz", 2), ("RETRIES", "-4", 2),
            ("LANGUAGE", "klingon", 2), ("LOG", "/nonesuch/log", 73), ("STORE", "/nonesuch/store", 74),
        ],
    )  # fmt: skip
    def test_of_ours_are_named(
        self, llmpar: Call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: int
    ) -> None:
        monkeypatch.setenv(f"LLMPAR_{name}", value)
        outcome = llmpar(*ECHO, stdin=b"Text.")
        assert outcome.code == code
        assert f"(set by LLMPAR_{name})" in outcome.err
        assert len(outcome.err.splitlines()) == 1

    def test_that_an_option_overrules_are_not_named(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_TEMPERATURE", "1")
        outcome = llmpar(*ECHO, "--temperature", "500", stdin=b"Text.")
        assert outcome.code == 2
        assert "LLMPAR_" not in outcome.err

    def test_that_others_read(self, shell: Shell) -> None:
        nonsense = {
            "COLUMNS": "abc", "LINES": "-1", "TERM": "zz", "LC_ALL": "xx", "LANG": "C", "TMPDIR": "/nonesuch",
            "SQLITE_TMPDIR": "/nonesuch", "NLTK_DATA": "/nonesuch", "SSL_CERT_FILE": "/nonesuch",
            "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1", "TERMINAL_WIDTH": "0", "FORCE_COLOR": "zz",
            "OMP_NUM_THREADS": "abc", "NUMBA_DISABLE_JIT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "abc",
        }  # fmt: skip
        outcome = shell(*ECHO, "--no-store", input="Grüße, 世界.\n".encode(), env=nonsense)
        assert (outcome.returncode, outcome.stdout) == (0, "Grüße, 世界.\n".encode())
        assert len(outcome.stderr.splitlines()) == 1

    def test_that_numba_reads_and_no_kernel_could_live_with(self) -> None:
        nonsense = {
            "NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": "0", "NUMBA_CPU_FEATURES": "nonsense", "NUMBA_OPT": "abc",
            "NUMBA_BOUNDSCHECK": "1", "NUMBA_CUDA_DEFAULT_PTX_CC": "x", "NUMBA_ENABLE_CUDASIM": "1",
            "NUMBA_CACHE_DIR": "",
        }  # fmt: skip
        script = (
            "from llmpar.engine.cpu.compiled import config, kernel\n"
            "print(config.DISABLE_JIT, int(config.OPT), config.BOUNDSCHECK, kernel(lambda x: x + 1)(41))"
        )
        environment = {**os.environ, **nonsense, "LLMPAR_CACHE": "/proc/nonesuch"}
        outcome = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=False, timeout=120
        )
        assert outcome.stdout == b"0 3 None 42\n"
        assert outcome.stderr == b""

    def test_by_which_a_program_of_which_we_are_part_forbids_to_compile(self) -> None:
        script = (
            "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'; import numba\n"
            "from llmpar.errors import ModelUnavailable\n"
            "try:\n    import llmpar.engine.cpu.compiled\nexcept ModelUnavailable as error:\n    print(error)"
        )
        outcome = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
        assert b"NUMBA_DISABLE_JIT" in outcome.stdout


class TestLimits:
    @staticmethod
    def run(kind: int, limit: int) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "llmpar", *ECHO], cwd=ROOT, input=b"Text.", capture_output=True, check=False,
            preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)), timeout=60,
        )  # fmt: skip

    @pytest.mark.parametrize("limit", [5, 6, 8, 16])
    def test_of_files(self, limit: int) -> None:
        self.check(self.run(resource.RLIMIT_NOFILE, limit), "ulimit -n")

    @pytest.mark.parametrize("megabytes", [45, 60, 90, 200])
    def test_of_memory(self, megabytes: int) -> None:
        # At one limit in some hundred the interpreter, or a library in Rust, gets no memory for its own last words.
        for limit in range(megabytes << 20, (megabytes << 20) + (240 << 10), 80 << 10):
            outcome = self.run(resource.RLIMIT_AS, limit)
            if outcome.returncode >= 0 and b"lost sys.stderr" not in outcome.stderr:
                break
        self.check(outcome, "ulimit -v")

    @pytest.mark.parametrize(
        "words", ["error return without exception set", "<x> returned NULL without setting an exception"]
    )
    def test_of_memory_that_the_interpreter_has_no_memory_to_name(self, words: str) -> None:
        script = (
            "import llmpar.unforeseen as unforeseen, resource, sys\n"
            "print(unforeseen.exhausted(SystemError(sys.argv[1])))\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
            "print(unforeseen.exhausted(SystemError(sys.argv[1])))\n"
            "print(unforeseen.exhausted(SystemError('another')))"
        )
        outcome = subprocess.run([sys.executable, "-c", script, words], cwd=ROOT, capture_output=True, check=True)
        before, limited, another = outcome.stdout.splitlines()
        assert (before, another) == (b"None", b"None")
        assert b"ulimit -v" in limited

    @staticmethod
    def check(outcome: subprocess.CompletedProcess[bytes], remedy: str) -> None:
        said = outcome.stderr.decode()
        assert len(said.splitlines()) == 1, said
        if outcome.returncode:
            assert outcome.returncode == 69
            assert remedy in said
        else:
            assert outcome.stdout == b"Text."


class TestSignals:
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_come_at_any_moment_from_the_first(self, signum: signal.Signals, tmp_path: Path) -> None:
        # What Python does before it gets to the program is its own; the script says when that ends.
        script = (
            "import os, sys\nclass Finder:\n    def find_spec(self, name, *_):\n"
            "        name == 'llmpar.unforeseen' and os.write(2, b'!')\n"
            "sys.meta_path.insert(0, Finder())\nfrom llmpar.__main__ import main\nmain()"
        )
        for wait in (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3):
            process = subprocess.Popen(
                [sys.executable, "-c", script, *ECHO], cwd=ROOT, stdin=-1, stdout=-1, stderr=-1,
                preexec_fn=partial(signal.signal, signum, signal.SIG_DFL),  # who runs the tests may ignore it
            )  # fmt: skip
            with process:
                assert process.stderr is not None
                process.stderr.read(1)
                time.sleep(wait)
                process.send_signal(signum)
                said = process.stderr.read()
                assert process.wait(10) in (-signum, 128 + signum)
            assert b"Traceback" not in said, (wait, said)


def test_a_line_is_said_whatever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    unforeseen.say("nobody hears it")
    with Path(os.devnull).open("w") as closed:
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    unforeseen.say("nor this")
