"""Stores that others have put something into, or taken away: refused, and left as they are."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome
from support.stores import JOB, answer, filled, held

from llmpar import interrupts
from llmpar.errors import Interrupted, StoreUnusable
from llmpar.store.database import Database
from llmpar.store.job import JobStore
from llmpar.store.store import Store

Call = Callable[..., Outcome]
ENDLESS = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
PLANTED = {
    "a view": "CREATE VIEW seen AS SELECT 1",
    "an endless view": f"CREATE VIEW seen AS {ENDLESS} SELECT count(*) FROM c",
    "an endless view as a table": "ALTER TABLE answers RENAME TO hidden; "
    f"CREATE VIEW answers AS {ENDLESS} SELECT hidden.* FROM hidden, c",
    "a view that alters": "ALTER TABLE answers RENAME TO hidden; CREATE VIEW answers AS "
    "SELECT id, job, key, attempt, text, x'41' AS answer, finish_reason, num_prompt_tokens, num_output_tokens, "
    "seconds, used, checksum FROM hidden",
    "a trigger": "CREATE TRIGGER one AFTER INSERT ON answers BEGIN DELETE FROM jobs; END",
    "an endless trigger": f"CREATE TRIGGER one AFTER INSERT ON answers BEGIN DELETE FROM jobs WHERE id IN "
    f"({ENDLESS} SELECT n FROM c); END",
    "a virtual table": "CREATE VIRTUAL TABLE words USING fts5 (word)",
    "another table": "CREATE TABLE mine (id)",
    "a column": "ALTER TABLE answers ADD COLUMN more",
    "a generated column": "ALTER TABLE answers ADD COLUMN more AS (length(answer))",
    "an index": "CREATE INDEX one ON answers (used)",
    "an index over an expression": "CREATE INDEX one ON answers (lower(answer))",
    "statistics": "ANALYZE",
    "a missing table": "DROP TABLE files",
    "another form of a table": "DROP TABLE files; CREATE TABLE files (path BLOB PRIMARY KEY, state, sha256)",
    "a view by another road": "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES "
    "('view', 'sqlite_sequence', 'sqlite_sequence', 0, 'CREATE VIEW sqlite_sequence AS SELECT 1')",
    "a check": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'state TEXT NOT NULL', "
    "'state TEXT NOT NULL CHECK (length(state) > 1000000)') WHERE name = 'files'",
}


def plant(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize("what", PLANTED)
def test_what_others_planted_is_refused_and_left_as_it_is(llmpar: Call, tmp_path: Path, what: str) -> None:
    path = tmp_path / "store"
    filled(path, 5)
    plant(path, PLANTED[what])
    data = path.read_bytes()
    began = time.monotonic()
    with pytest.raises(StoreUnusable, match="left as it is") as caught:
        Store(path)
    assert "(store=PATH)" in str(caught.value)
    for command in (("run", "--engine", "echo", "x"), ("store", "verify"), ("store", "info"), ("store", "purge")):
        outcome = llmpar(*command, "--store", str(path), stdin=b"Text.")
        assert (outcome.code, outcome.out) == (74, b"")
        assert len(outcome.err.splitlines()) == 1
    assert time.monotonic() - began < 60
    assert path.read_bytes() == data
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("what", ["a trigger", "an endless view as a table", "a view that alters"])
def test_what_is_planted_during_a_run_does_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / "store"
    kept = filled(path, 5)
    with closing(Store(path)) as store:
        job = store.job(JOB)
        plant(path, PLANTED[what])
        with pytest.raises(StoreUnusable, match="view or trigger"):
            use(job)
    if what == "a trigger":
        plant(path, "DROP TRIGGER one")
        assert held(path, kept) == kept, "nothing was lost or added"
        assert held(path, ["new"]) == {"new": []}


def use(job: JobStore) -> None:
    job.find(job.key("text 1"))
    job.add(job.key("new"), "new", answer("new"))
    job.commit()


def test_a_store_beside_which_others_lie_in_wait(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "store"
    filled(path, 5)
    for suffix in ("-wal", "-shm", "-journal"):
        beside = Path(f"{path}{suffix}")
        for lay in (beside.symlink_to, beside.hardlink_to, lambda _, at=beside: os.mkfifo(at)):
            lay(victim)
            with pytest.raises(StoreUnusable, match=f"store{suffix}"):
                Store(path)
            beside.unlink()
    assert victim.read_text() == "precious"
    filled(tmp_path / "real", 5)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with closing(Store(tmp_path / "link")) as store:
        use(store.job(JOB))
    Path(f"{tmp_path / 'real'}-wal").symlink_to(victim)
    with pytest.raises(StoreUnusable, match="real-wal"):
        Store(tmp_path / "link")


@pytest.mark.parametrize("used", ["'abc'", "99999999999", "-1", "1e9", "x'41'"])
def test_a_day_that_is_none_is_damage(llmpar: Call, tmp_path: Path, used: str) -> None:
    path = tmp_path / "store"
    kept = filled(path, 5)
    plant(path, f"UPDATE answers SET used = {used}")
    for command in ("info", "verify"):
        outcome = llmpar("store", command, "--store", str(path))
        assert (outcome.code, len(outcome.err.splitlines())) == (74, 1), outcome.err
    with pytest.raises(StoreUnusable, match="the day on which an answer was used was altered"):
        held(path, kept)


def test_a_store_with_two_names_is_refused(llmpar: Call, tmp_path: Path) -> None:
    """Whoever opened the other name would have another log, and write over what is in this one's."""
    path, other = tmp_path / "store", tmp_path / "elsewhere"
    kept = filled(path, 5)
    other.hardlink_to(path)
    for name in (path, other):
        outcome = llmpar("store", "info", "--store", str(name))
        assert (outcome.code, "another name" in outcome.err) == (74, True)
    other.unlink()
    assert held(path, kept) == kept


def test_a_second_name_that_goes_or_that_a_killed_run_left_is_no_danger(tmp_path: Path) -> None:
    path = tmp_path / "store"
    kept = filled(path, 5)
    left, other = tmp_path / ".llmpar-new-1.sqlite", tmp_path / "elsewhere"
    left.hardlink_to(path)
    assert held(path, kept) == kept
    assert not left.exists()
    other.hardlink_to(path)
    threading.Timer(0.2, other.unlink).start()
    assert held(path, kept) == kept


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/null"])
def test_a_store_that_is_no_file(llmpar: Call, tmp_path: Path, kind: str) -> None:
    path = Path(kind) if kind.startswith("/") else tmp_path / kind
    if not kind.startswith("/"):
        os.mkfifo(path)
    outcome = llmpar("run", "--engine", "echo", "x", "--store", str(path), stdin=b"Text.")
    assert outcome.code == 74
    assert "no regular file" in outcome.err


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "-", " "])
def test_a_name_that_means_something_to_sqlite_is_a_name(
    llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert llmpar("run", "--engine", "echo", "x", "--store", name, stdin=b"Text.").code == 0
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert held(tmp_path / name, []) == {}
    with closing(Store(tmp_path / name)) as store:
        assert store.info().num_answers == 1


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copyfile(path, f"{path}.copy")
    Path(f"{path}.copy").replace(path)


def move_its_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def delete_its_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


REMOVALS = [delete, replace, move_its_directory, delete_its_log]


class TestRemoval:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "place").mkdir()
        filled(tmp_path / "place" / "store", 5)
        return tmp_path / "place" / "store"

    @pytest.mark.parametrize("remove", REMOVALS)
    def test_is_seen_at_the_next_commit(self, path: Path, remove: Callable[[Path], None]) -> None:
        store = Store(path)
        job = store.job(JOB)
        use(job)
        remove(path)
        job.add(job.key("newer"), "newer", answer("newer"))
        with pytest.raises(StoreUnusable, match="during the run"):
            job.commit()
        with pytest.raises(StoreUnusable, match="during the run"):
            store.close()
        store.close()  # is closed

    @pytest.mark.parametrize("remove", REMOVALS)
    def test_is_seen_at_the_end(
        self, llmpar: Call, path: Path, remove: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ("run", "--engine", "echo", "x", "--store", str(path), "-o", str(path.parent.parent / "out"))
        assert llmpar(*command, stdin=b"Text.").code == 0
        real = Store.evict

        def evict(store: Store, most: int) -> int:
            remove(path)
            return real(store, most)

        monkeypatch.setattr(Store, "evict", evict)
        outcome = llmpar(*command, stdin=b"Text.")
        assert outcome.code == 74
        assert len(outcome.err.splitlines()) == 1
        assert "during the run" in outcome.err

    @pytest.mark.parametrize("remove", REMOVALS)
    def test_ends_a_run_that_goes_on(self, path: Path, remove: Callable[[Path], None]) -> None:
        script = (
            "import sys; sys.path.insert(0, 'tests')\n"
            "from attack.program import Fake; from llmpar.cli.main import main\n"
            "Fake(delay=0.02).install(); main()"
        )
        command = [sys.executable, "-c", script, "run", "--engine", "echo", "-u", "line", "x", "--store", str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(b"Line %d.\n" % i for i in range(2000)))
        process.stdin.close()
        process.stdin = None
        process.stdout.readline()
        remove(path)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 74
        assert len(err.splitlines()) == 1
        assert out.count(b"\n") < 1900

    def test_is_none_where_another_run_ends(self, path: Path) -> None:
        with closing(Store(path)) as store:
            job = store.job(JOB)
            use(job)
            script = "import sys; sys.path[:0] = ['tests', 'tests/store']\nfrom test_planted import *\n"
            script += "store = Store(Path(sys.argv[1])); use(store.job({})); store.purge(); store.close()"
            subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True)
            job.add(job.key("newer"), "newer", answer("newer"))
            job.commit()
        assert held(path, ["newer"]) == {"newer": [answer("newer")]}

    def test_a_second_store_in_a_process_leaves_the_locks_of_the_first(self, path: Path) -> None:
        # Closing any descriptor of a file loses a process's locks on it; then another that ends takes the log away.
        with closing(Store(path)) as store:
            Store(path).close()
            script = "import sys; sys.path[:0] = ['tests', 'tests/store']\nfrom test_planted import *\n"
            script += "store = Store(Path(sys.argv[1])); use(store.job({})); store.close()"
            subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True)
            use(store.job(JOB))
        assert held(path, ["new"]) == {"new": [answer("new")]}


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a signal come soon, as if handlers were installed; it must be raised before the block ends."""
    monkeypatch.setattr(interrupts, "_is_ending", False)
    previous = signal.signal(signal.SIGUSR1, lambda *_: interrupts._interrupt(Interrupted(signal.SIGUSR1)))
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert time.monotonic() - began < 20


class TestSignals:
    def test_end_a_query_that_takes_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = filled(tmp_path / "store", 200)
        many = "FROM answers a, answers b, answers c, answers d, answers e WHERE a.id < 0"
        many = many.replace("a.id", "a.id + b.id + c.id + d.id + e.id")
        with closing(Store(tmp_path / "store")) as store:
            with interrupted(monkeypatch):
                store._database.read(f"SELECT count(*) {many}")
            with interrupted(monkeypatch):
                list(store._database.rows(f"SELECT a.id {many}"))
            with interrupted(monkeypatch), store._database.transaction() as connection:
                connection.execute("DELETE FROM answers WHERE id = 1")
                connection.execute(f"DELETE FROM answers WHERE EXISTS (SELECT a.id {many})")
            use(store.job(JOB))
        assert held(tmp_path / "store", ["new", *kept]) == {"new": [answer("new")]} | kept

    def test_end_the_wait_for_a_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled(tmp_path / "store", 5)
        with closing(Store(tmp_path / "store")) as store, closing(sqlite3.connect(tmp_path / "store")) as other:
            other.execute("BEGIN IMMEDIATE")
            job = store.job(JOB)
            with interrupted(monkeypatch):
                use(job)
            began = time.monotonic()
            with pytest.raises(StoreUnusable, match="keeps it locked"):
                job.commit()  # what is finished is kept if that can be had soon
            assert time.monotonic() - began < 20
            other.rollback()
            job.commit()
        assert held(tmp_path / "store", ["new"]) == {"new": [answer("new")]}

    def test_a_lock_that_is_given_back_is_waited_for(self, tmp_path: Path) -> None:
        filled(tmp_path / "store", 5)
        other = sqlite3.connect(tmp_path / "store", check_same_thread=False)
        with closing(Store(tmp_path / "store")) as store, closing(other):
            other.execute("BEGIN IMMEDIATE")
            later = threading.Timer(0.5, other.rollback)
            later.start()
            use(store.job(JOB))
            later.join()
        assert held(tmp_path / "store", ["new"]) == {"new": [answer("new")]}

    @pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
    def test_a_second_ends_it_inside_a_library(self, second: signal.Signals) -> None:
        script = (
            "import sqlite3; from llmpar import interrupts; interrupts.install(); print('!', flush=True)\n"
            f"sqlite3.connect(':memory:').execute({ENDLESS + ' SELECT count(*) FROM c'!r})"
        )
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=-1, stderr=-1)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None, "the first one waits for the library"
        process.send_signal(second)
        _, err = process.communicate(timeout=2)
        assert process.returncode == 128 + second
        assert err == b""


def test_a_database_of_another_program_is_not_looked_into(tmp_path: Path) -> None:
    plant(tmp_path / "store", "CREATE TABLE notes (text); INSERT INTO notes VALUES ('Dear diary')")
    data = (tmp_path / "store").read_bytes()
    with pytest.raises(StoreUnusable, match="another program"):
        Database(tmp_path / "store")
    assert (tmp_path / "store").read_bytes() == data
