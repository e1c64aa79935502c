"""The store: equal to a dict, whoever writes it, whatever befalls it; and what a run takes from it."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attack.program import Fake
from attack.writer import write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support.places import ROOT
from support.program import Outcome
from support.stores import JOB, answer, filled, held, texts
from support.users import nobody, public_directory

from llmpar import ModelChoice, Sampling, interface
from llmpar.cli.main import run_command_line
from llmpar.errors import StoreUnusable
from llmpar.store.answer import StoredAnswer
from llmpar.store.store import Store

Call = Callable[..., Outcome]
SECRET = "a secret that nobody should find"


values = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats(allow_nan=False))
descriptions = st.dictionaries(st.text(max_size=3), values)


class LikeADict(RuleBasedStateMachine):
    """Two connections and a dict: what one commits, both find."""

    @initialize(path=st.builds(lambda: None))
    def begin(self, path: None) -> None:
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "store"
        self.stores = [Store(self.path), Store(self.path)]
        self.jobs = [store.job(JOB) for store in self.stores]
        self.model: dict[tuple[str, int], StoredAnswer] = {}
        self.added: list[list[tuple[str, StoredAnswer, bool]]] = [[], []]

    @rule(which=st.integers(0, 1), text=texts, said=texts, attempt=st.integers(0, 3), replaces=st.booleans())
    def add(self, which: int, text: str, said: str, attempt: int, replaces: bool) -> None:
        if replaces and any(text == other for other, *_ in self.added[which]):
            return  # a run replaces with its first attempt
        job = self.jobs[which]
        job.add(job.key(text), text, answer(said, attempt), replaces=replaces)
        self.added[which].append((text, answer(said, attempt), replaces))

    @rule(which=st.integers(0, 1))
    def commit(self, which: int) -> None:
        self.jobs[which].commit()
        replaced = {text for text, _, replaces in self.added[which] if replaces}
        self.model = {place: one for place, one in self.model.items() if place[0] not in replaced}
        for text, one, _ in self.added[which]:
            self.model.setdefault((text, one.attempt), one)
        self.added[which].clear()

    @rule(which=st.integers(0, 1), text=texts)
    def find(self, which: int, text: str) -> None:
        expected = [one for (other, _), one in sorted(self.model.items(), key=lambda i: i[0][1]) if other == text]
        assert self.jobs[which].find(self.jobs[which].key(text)) == expected

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = Store(self.path)
        self.jobs[which], self.added[which] = self.stores[which].job(JOB), []

    @rule(which=st.integers(0, 1))
    def purge(self, which: int) -> None:
        assert self.stores[which].purge() == len(self.model)
        self.model.clear()

    @rule(which=st.integers(0, 1))
    def evict_nothing(self, which: int) -> None:
        assert self.stores[which].evict(1 << 30) == 0

    @rule(which=st.integers(0, 1))
    def evict_all(self, which: int) -> None:
        assert self.stores[which].evict(1) == len(self.model)
        self.model.clear()

    def teardown(self) -> None:
        for text, _ in list(self.model):
            self.find(0, text)
        assert self.stores[1].verify() == []
        assert self.stores[0].info().num_answers == len(self.model)
        for store in self.stores:
            store.close()
        self.directory.cleanup()


TestLikeADict = LikeADict.TestCase
TestLikeADict.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class TestKeys:
    @settings(max_examples=60, deadline=None)
    @given(one=st.tuples(descriptions, texts), other=st.tuples(descriptions, texts))
    def test_differ_where_anything_differs(self, one: Any, other: Any, tmp_path_factory: Any) -> None:
        with closing(Store(tmp_path_factory.getbasetemp() / "keys")) as store:
            keys = [store.job(description).key(text) for description, text in (one, other)]
        same = json.dumps(one[0], sort_keys=True) == json.dumps(other[0], sort_keys=True) and one[1] == other[1]
        assert (keys[0] == keys[1]) == same

    def test_do_not_run_into_each_other(self, tmp_path: Path) -> None:
        with closing(Store(tmp_path / "store")) as store:
            jobs = [store.job({"a": "b"}), store.job({"a": "b", "c": None}), store.job({"a": ["b"]})]
            assert len({job.key(text) for job in jobs for text in ("", "b", "bb", "\ud800", "\ufffd")}) == 15

    def test_lone_surrogates_come_back(self, tmp_path: Path) -> None:
        said = "a\ud800\udcff\0\U0001f600"
        with closing(Store(tmp_path / "store")) as store:
            job = store.job(JOB)
            job.add(job.key(said), said, answer(said))
            job.commit()
        assert held(tmp_path / "store", [said]) == {said: [answer(said)]}


class TestPinnedKeys:
    """The keys of fixed jobs, as earlier versions made them: with others, whoever has a store would compute all again.

    A key follows from the version of answers, too: whoever raises that puts the new keys here.
    """

    @pytest.mark.parametrize(
        ("options", "key"),
        [
            ([], "ad2a6cd33364f341379f12a6ea57ea64e222b5eed5b2d26e8435228ac1f2e46e"),
            (
                ["--max-new-tokens", "12", "--temperature", "0.7", "--top-p", "0.9", "--seed", "3"],
                "fa17917c320c063eef37bed0ea0cf86b38d0d1b7c0b77216da9ab551b2c44432",
            ),
            (["--max-repeats", "0"], "9d82f0a63fcf8c91c9ec9151ee0c44a87430e67823bd23de1f9f02c0369c3dc3"),
        ],
    )
    def test_of_a_command(self, llmpar: Call, tmp_path: Path, options: list[str], key: str) -> None:
        command = ("run", "Repeat: {text}", "--engine", "echo", "-u", "line", *options)
        files = ("--store", str(tmp_path / "store"), "--log", str(tmp_path / "log"))
        assert llmpar(*command, *files, stdin=b"A fixed text.\n").code == 0
        assert json.loads((tmp_path / "log").read_text())["key"] == key

    def test_of_a_request(self, llmpar: Call, tmp_path: Path) -> None:
        body = {"messages": [{"role": "user", "content": "A fixed text."}]}
        request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
        files = ("--store", str(tmp_path / "store"), "--log", str(tmp_path / "log"))
        assert llmpar("batch", "--engine", "echo", *files, stdin=json.dumps(request).encode()).code == 0
        expected = "fbb6e62c2e82d0ddfaedc326145c7a2315c864cb88e8841616008c7fe69d097b"
        assert json.loads((tmp_path / "log").read_text())["key"] == expected

    @pytest.mark.parametrize(
        ("sampling", "key"),
        [
            (Sampling(), "ad2a6cd33364f341379f12a6ea57ea64e222b5eed5b2d26e8435228ac1f2e46e"),
            (Sampling(12, 0.7, 0.9, 3), "fa17917c320c063eef37bed0ea0cf86b38d0d1b7c0b77216da9ab551b2c44432"),
        ],
    )
    def test_of_python(self, tmp_path: Path, sampling: Sampling, key: str) -> None:
        echo = ModelChoice(engine="echo")
        options = {"model": echo, "sampling": sampling, "store": tmp_path / "store"}
        (result,) = interface.run(["A fixed text."], "Repeat: {text}", **options)  # type: ignore[arg-type]
        assert result.key.hex() == key


class TestFile:
    def test_is_private(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_STATE", str(tmp_path / "a" / "b"))
        umask = os.umask(0)
        try:
            with closing(Store()) as store:
                job = store.job(JOB)
                job.add(job.key("x"), "x", answer("y"))
                job.commit()
                files = list((tmp_path / "a" / "b").iterdir())
                assert {file.name for file in files} >= {"answers.sqlite", "answers.sqlite-wal"}
                assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
                assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
        finally:
            os.umask(umask)

    def test_without_texts_holds_none(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store", keep_text=False)
        job = store.job({"prompt": SECRET + " prompt"})
        for i in range(500):
            job.add(job.key(f"{SECRET} {i}"), f"{SECRET} {i}", answer(f"the answer {i}"))
            job.commit()
        for _ in range(2):
            found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            assert b"the answer 1" in found
            assert b"secret" not in found
            assert "secret".encode("utf-16-le") not in found
            store.close()

    def test_what_a_killed_run_left_of_making_one_goes_with_time(self, tmp_path: Path) -> None:
        old, new, other = (tmp_path / name for name in (".llmpar-new-1.sqlite", ".llmpar-new-2.sqlite", ".llmpar"))
        for file in (old, new, other):
            file.touch()
        for file in (old, other):
            os.utime(file, (1, 1))
        Store(tmp_path / "store").close()
        assert {path.name for path in tmp_path.iterdir()} == {"store", new.name, other.name}

    def test_created_by_eight_at_once_is_whole(self, tmp_path: Path) -> None:
        command = [sys.executable, str(ROOT / "tests" / "attack" / "writer.py"), str(tmp_path / "store")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        processes = [subprocess.Popen([*command, str(n), "60"], env=environment) for n in range(8)]
        assert [process.wait(60) for process in processes] == [0] * 8
        self.check_written(tmp_path / "store", 8, 60)
        assert [path.name for path in tmp_path.iterdir()] == ["store"]

    def test_written_by_threads_is_whole(self, tmp_path: Path) -> None:
        threads = [threading.Thread(target=write, args=(tmp_path / "store", n, 60)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.check_written(tmp_path / "store", 8, 60)

    @staticmethod
    def check_written(path: Path, num_writers: int, number: int) -> None:
        with closing(Store(path)) as store:
            assert store.verify() == []
            assert store.info().num_answers == number * (num_writers + 1)
        mine = [f"{n}: {i}" for n in range(num_writers) for i in range(number)]
        assert held(path, mine) == {text: [answer(text.upper())] for text in mine}
        shared = held(path, [f"all: {i}" for i in range(number)])
        assert all(len(found) == 1 and found[0].text.startswith("by ") for found in shared.values())


class TestForgetting:
    def test_the_least_recently_used_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        today = [20_000]
        monkeypatch.setattr("llmpar.store.store._today", lambda: today[0])
        kept = filled(tmp_path / "store", 400, size=20)
        used = [f"text {i}" for i in range(0, 400, 4)]
        today[0] += 3
        held(tmp_path / "store", used)
        with closing(Store(tmp_path / "store")) as store:
            before = store.info()
            assert (before.oldest_day, before.newest_day) == (20_000, 20_003)
            most = before.size // 2
            assert store.evict(most) > 0
            assert store.info().size <= most
            assert store.verify() == []
        assert held(tmp_path / "store", used) == {text: kept[text] for text in used}
        assert (tmp_path / "store").stat().st_size <= most, "the file gives the room back"

    def test_by_age(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        today = [20_000]
        monkeypatch.setattr("llmpar.store.store._today", lambda: today[0])
        kept = filled(tmp_path / "store")
        today[0] += 10
        held(tmp_path / "store", ["text 0", "text 1"])
        with closing(Store(tmp_path / "store")) as store:
            assert store.purge(11) == 0
            assert store.purge(10) == sum(map(len, kept.values())) - 3
            assert store.info().num_answers == 3
        assert held(tmp_path / "store", ["text 1"]) == {"text 1": kept["text 1"]}

    def test_a_purge_beside_a_run_leaves_no_answer_without_its_job(self, tmp_path: Path) -> None:
        with closing(Store(tmp_path / "store")) as store, closing(Store(tmp_path / "store")) as other:
            job = store.job(JOB)
            for text in ("before", "after"):
                job.add(job.key(text), text, answer("x"))
                job.commit()
                assert other.verify() == []
                assert other.purge() == 1
                stranger = other.job({"another": "job"})  # may be given the number that is free now
                stranger.add(stranger.key(text), text, answer("y"))
                stranger.commit()
                other.purge()


class TestFingerprint:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        (tmp_path / "model").mkdir()
        for name in ("config.json", "model.safetensors"):
            (tmp_path / "model" / name).write_bytes(name.encode() * 100)
            os.utime(tmp_path / "model" / name, (1, 1))
        return sorted((tmp_path / "model").iterdir())

    def test_follows_the_contents_and_names(self, tmp_path: Path, files: list[Path]) -> None:
        with closing(Store(tmp_path / "store")) as store:
            found = {store.fingerprint(files), store.fingerprint(files[:1]), store.fingerprint(files[1:])}
            assert len(found) == 3
            assert store.fingerprint(reversed(files)) in found
            files[0].rename(files[0].with_name("other.json"))
            found.add(store.fingerprint([files[0].with_name("other.json"), files[1]]))
        assert len(found) == 4

    def test_sees_a_change_behind_the_same_size_and_time(self, tmp_path: Path, files: list[Path]) -> None:
        with closing(Store(tmp_path / "store")) as store:
            before = store.fingerprint(files)
            data = bytearray(files[1].read_bytes())
            data[50] ^= 1
            files[1].write_bytes(data)
            os.utime(files[1], (1, 1))
            assert store.fingerprint(files) != before

    def test_reads_what_looks_the_same_once(
        self, tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(Store(tmp_path / "store")) as store:
            before = store.fingerprint(files)
            monkeypatch.setattr("llmpar.store.store._file_digest", lambda file: pytest.fail("read again"))
            assert store.fingerprint(files) == before

    def test_tells_before_it_reads(self, tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[str] = []
        monkeypatch.setattr("llmpar.store.store._file_digest", lambda file: said.append(file.name) or b"")
        with closing(Store(tmp_path / "store")) as store:
            store.fingerprint(files[1:], lambda: said.append("reads"))
            store.fingerprint(files, lambda: said.append("reads"))
        assert said == ["reads", "model.safetensors", "reads", "config.json"]


class TestForeseen:
    """What is looked for at once is what would be found one by one."""

    def test_is_found(self, tmp_path: Path) -> None:
        kept = filled(tmp_path / "store", 600)
        with closing(Store(tmp_path / "store")) as store:
            job, other = store.job(JOB), store.job({})
            keys = [job.key(text) for text in [*kept, "none", "nor this"]]
            job.foresee(keys)
            store._database.read = lambda *_: pytest.fail("looked for again")  # type: ignore[method-assign]
            assert [job.find(key) for key in keys] == [*kept.values(), [], []]
            del store._database.read
            assert job.find(keys[0]) == kept["text 0"], "and again, as it may have changed"
            other.foresee(keys[:3])
            assert other.find(other.key("text 0")) == []

    def test_ends_with_what_is_added(self, tmp_path: Path) -> None:
        filled(tmp_path / "store", 2)
        with closing(Store(tmp_path / "store")) as store:
            job = store.job(JOB)
            key = job.key("text 0")
            job.foresee([key])
            job.add(key, "text 0", answer("new"), replaces=True)
            job.commit()
            assert [one.text for one in job.find(key)] == ["new"]

    def test_is_refused_where_it_was_altered(self, tmp_path: Path) -> None:
        filled(tmp_path / "store")
        with closing(sqlite3.connect(tmp_path / "store")) as connection, connection:
            connection.execute("UPDATE answers SET answer = x'00' WHERE id = 7")
        with closing(Store(tmp_path / "store")) as store, pytest.raises(StoreUnusable, match="altered"):
            store.job(JOB).foresee([store.job(JOB).key(f"text {number}") for number in range(40)])


class TestDamage:
    """A damaged store is refused and left as it is, or what it says is right all the same."""

    def look(self, path: Path, kept: dict[str, list[StoredAnswer]], data: bytes) -> str:
        """Use a store in which something may be wrong; return how that goes."""
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        path.write_bytes(data)
        num_found = 0
        try:
            with closing(Store(path)) as store:
                job = store.job(JOB)
                for text, answers in kept.items():
                    found = job.find(job.key(text))
                    assert all(one in answers for one in found), "an answer was altered"
                    num_found += len(found)
                store.verify()
        except StoreUnusable as error:
            refusal = str(error)
        else:
            return "right" if num_found == sum(map(len, kept.values())) else "unfound"
        assert "(store=PATH)" in refusal
        assert path.read_bytes() == data, "what is refused is left as it is"
        return "refused"

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        kept = filled(tmp_path / "store", 300, size=10)
        data = (tmp_path / "store").read_bytes()
        page = 4096
        for length in (0, 1, 15, 16, 50, 99, 100, 101, page - 1, page, page + 1, len(data) // 2, len(data) - page):
            assert self.look(tmp_path / "store", kept, data[:length]) == "refused", length
        assert self.look(tmp_path / "store", kept, data[: len(data) - 1]) == "refused"
        assert self.look(tmp_path / "store", kept, data) == "right"

    def test_flipped_bits(self, tmp_path: Path) -> None:
        kept = filled(tmp_path / "store", 60)
        data = (tmp_path / "store").read_bytes()
        draw = random.Random(1)
        seen = set()
        for _ in range(250):
            damaged = bytearray(data)
            for _ in range(draw.choice([1, 1, 8, 64])):
                damaged[draw.randrange(draw.choice([100, 4096, len(data)]))] ^= 1 << draw.randrange(8)
            seen.add(self.look(tmp_path / "store", kept, bytes(damaged)))
        assert "refused" in seen

    def test_verify_sees_what_was_altered(self, tmp_path: Path) -> None:
        filled(tmp_path / "store", 60)
        for column, value in (("answer", b"forged"), ("text", b"forged"), ("finish_reason", "loop"), ("job", 77)):
            copy = tmp_path / f"copy-{column}"
            copy.write_bytes((tmp_path / "store").read_bytes())
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute(f"UPDATE answers SET {column} = ? WHERE id = 3", (value,))
                connection.commit()
            with closing(Store(copy)) as store:
                assert len(store.verify()) == 1, column

    def test_other_files(self, tmp_path: Path) -> None:
        kept = filled(tmp_path / "store", 5)
        data = (tmp_path / "store").read_bytes()
        assert self.look(tmp_path / "store", kept, b"Dear diary, " * 1000) == "refused"
        assert self.look(tmp_path / "store", kept, data[:68] + b"GPKG" + data[72:]) == "refused"
        assert self.look(tmp_path / "store", kept, data[:60] + b"\0\0\0\2" + data[64:]) == "refused"
        (tmp_path / "other").mkdir()
        (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
        for name in ("other", "dangling"):
            with pytest.raises(StoreUnusable, match=name):
                Store(tmp_path / name)
        assert not (tmp_path / "nothing").exists()

    def test_a_newer_one_is_told_from_a_damaged_one(self, tmp_path: Path) -> None:
        filled(tmp_path / "store", 5)
        with closing(sqlite3.connect(tmp_path / "store")) as connection:
            connection.execute("PRAGMA user_version = 2")
        with pytest.raises(StoreUnusable, match="newer llmpar"):
            Store(tmp_path / "store")

    def test_one_that_may_only_be_read(self) -> None:
        with public_directory() as place:
            filled(place / "store", 5)
            (place / "store").chmod(0o444)
            data = (place / "store").read_bytes()
            with nobody(), pytest.raises(StoreUnusable, match=r"readonly|unable|permission"):
                Store(place / "store")
            assert (place / "store").read_bytes() == data


class TestCommands:
    def test_on_no_store(self, llmpar: Call, tmp_path: Path) -> None:
        place = ("--store", str(tmp_path / "none"))
        assert llmpar("store", "path", *place).out.decode().strip() == str(tmp_path / "none")
        info = llmpar("store", "info", *place)
        assert (info.code, info.out.decode()) == (0, f"no store yet at {tmp_path / 'none'}\n")
        for command in ("verify", "purge"):
            outcome = llmpar("store", command, *place)
            assert (outcome.code, outcome.err) == (74, f"llmpar: store {tmp_path / 'none'}: there is none\n")
        assert not (tmp_path / "none").exists()

    def test_on_a_store(self, llmpar: Call, tmp_path: Path) -> None:
        filled(tmp_path / "store")
        place = ("--store", str(tmp_path / "store"))
        assert "answers  60\njobs     1\n" in llmpar("store", "info", *place).out.decode()
        assert llmpar("store", "verify", *place) == Outcome(0, b"every answer is as it was kept\n", "")
        assert llmpar("store", "purge", "--older-than", "1", *place).out == b"deleted 0 answers\n"
        refused = llmpar("store", "purge", *place)
        assert (refused.code, refused.out) == (2, b""), "nobody was there to be asked"
        assert llmpar("store", "purge", "--yes", *place).out == b"deleted 60 answers\n"
        assert "answers  0\n" in llmpar("store", "info", *place).out.decode()

    def test_on_a_damaged_store(self, llmpar: Call, tmp_path: Path) -> None:
        filled(tmp_path / "store")
        place = ("--store", str(tmp_path / "store"))
        with closing(sqlite3.connect(tmp_path / "store")) as connection:
            connection.execute("UPDATE answers SET answer = x'00' WHERE id = 7")
            connection.commit()
        outcome = llmpar("store", "verify", *place)
        assert (outcome.code, outcome.out) == (74, b"answer 7 was altered\n")
        assert "is damaged" in outcome.err
        (tmp_path / "store").write_bytes(b"")
        for command in ("info", "verify", "purge"):
            outcome = llmpar("store", command, *place)
            assert (outcome.code, outcome.out) == (74, b"")
            assert "is damaged: it is empty" in outcome.err


PROMPT = Fake()  # no pauses


class Bench:
    """A document, a store, and a count of what is generated when they meet."""

    def __init__(self, llmpar: Call, place: Path, patch: pytest.MonkeyPatch) -> None:
        self._llmpar = llmpar
        self._log = place / "generated"
        self.input = place / "in"
        self.log, self.errors = place / "log.jsonl", place / "errors.jsonl"
        self._store = ("--engine", "echo", "--store", str(place / "store"))
        self._patch = patch

    def __call__(
        self, text: str, *options: str, prompt: str = "Do: {text}", fake: Fake = PROMPT
    ) -> tuple[Outcome, int]:
        """Run, and return the outcome with the number of prompts that were generated."""
        self.input.write_text(text, newline="")
        self._log.unlink(missing_ok=True)
        replace(fake, log=str(self._log)).install(self._patch.setattr)
        outcome = self._llmpar("run", *self._store, "-u", "line", *options, "--", prompt, str(self.input))
        return outcome, len(self._log.read_text().splitlines()) if self._log.exists() else 0

    def lines(self, path: Path) -> list[dict[str, Any]]:
        data = path.read_bytes()
        assert not data or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def bench(llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(llmpar, tmp_path, monkeypatch)


TEXT = "One.\nTwo.\n\nOne.\nThree [empty].\nFour [weaker].\n"


class TestAgain:
    """What a second run computes, and what it takes from the first."""

    def test_the_same_is_not_computed_again(self, bench: Bench) -> None:
        first, num_generated = bench(TEXT)
        assert (first.code, num_generated) == (3, 2 + 2 + 2)
        for options in ((), ("-j", "7"), ("--batch-size", "1"), ("-q",), ("--no-store-text",)):
            second, num_generated = bench(TEXT, *options)
            assert (second.code, second.out, num_generated) == (3, first.out, 0)
        assert "from the store" in bench(TEXT)[0].err

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (TEXT.replace("Two", "Twice"), 1), ("Zero.\n" + TEXT, 1), (TEXT.replace("Two.\n", ""), 0),
            (TEXT.replace("\n", "\r\n"), 0), ("\n\n".join(reversed(TEXT.split("\n"))), 0),
            ("Four [weaker].\nTwo.\nOne.", 0),
        ],
    )  # fmt: skip
    def test_an_edited_document_is_computed_where_it_was_edited(self, bench: Bench, text: str, expected: int) -> None:
        bench(TEXT)
        again, num_generated = bench(text)
        assert num_generated == expected
        assert again.out == bench(text, "--no-store")[0].out

    @pytest.mark.parametrize(
        "options",
        [
            ("--system", "Be brief."), ("--temperature", "0.5"), ("--top-p", "0.5"), ("--seed", "5"),
            ("--max-repeats", "9"),
        ],
    )  # fmt: skip
    def test_what_decides_answers_makes_all_new(self, bench: Bench, options: tuple[str, ...]) -> None:
        bench("One.\nTwo.")
        again, num_generated = bench("One.\nTwo.", *options)
        assert num_generated == 2
        assert again.out == bench("One.\nTwo.", *options, "--no-store")[0].out
        assert bench("One.\nTwo.", *options)[1] == bench("One.\nTwo.")[1] == 0

    def test_a_limit_concerns_only_what_it_cuts(self, bench: Bench) -> None:
        text = "One.\nTwo [long].\nThree [weak].\n"
        first, _ = bench(text, "--max-new-tokens", "300")
        lengths = [len(line) for line in first.out.splitlines()]
        assert max(lengths[0], lengths[2]) < lengths[1] == 300, "the second alone was cut"
        assert bench(text, "--max-new-tokens", "350")[1] == 1
        assert bench(text, "--max-new-tokens", "500")[1] == 1
        for limit, length in ((300, 300), (350, 350), (450, 400), (500, 400)):
            again, num_generated = bench(text, "--max-new-tokens", str(limit))
            assert num_generated == 0, "what was cut is kept for each limit"
            assert [len(line) for line in again.out.splitlines()] == [lengths[0], length, lengths[2]]
        assert bench(text)[1] == 0, "and what was not, for all"
        shorter = ("--max-new-tokens", str(max(lengths[0], lengths[2]) - 1))
        again, num_generated = bench(text, *shorter)
        assert num_generated >= 2
        assert again.out == bench(text, *shorter, "--no-store")[0].out
        assert bench(text, "--max-new-tokens", "300")[0].out == first.out

    def test_more_room_throws_no_repair_away(self, bench: Bench) -> None:
        text = "One.\nTwo [never].\nThree [weak].\n"
        first, _ = bench(text)
        assert first.code == 3, "the second does not end"
        good = first.out.splitlines()
        more, num_generated = bench(text, "--max-new-tokens", "2000")
        assert num_generated == 1, "one that was good at a further attempt is not asked again"
        assert [line for line in more.out.splitlines() if len(line) < 2000] == [good[0], good[2]]
        assert re.search(r"--max-new-tokens \d+ gives more room: it was stopped while writing", first.err)

    def test_an_attempt_that_had_too_little_room_is_made_again_before_others(self, bench: Bench) -> None:
        first, num_generated = bench("Two [long].\n", "--max-new-tokens", "50", "--check", "length")
        assert (first.code, num_generated) == (3, 2)
        more, num_generated = bench("Two [long].\n", "--max-new-tokens", "500", "--check", "length")
        assert (more.code, num_generated) == (0, 1)

    def test_so_do_the_prompt_and_the_version_of_answers(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _ = bench("One.\nTwo.")
        other, num_generated = bench("One.\nTwo.", prompt="Do {text}")
        assert num_generated == 2
        assert other.out != first.out
        for place in ("model", "echo"):
            monkeypatch.setattr(f"llmpar.answering.{place}.ANSWERS_VERSION", 1_000)
        assert bench("One.\nTwo.")[1] == 2

    def test_what_decides_only_whether_they_will_do_makes_none_new(self, bench: Bench) -> None:
        bench(TEXT)
        assert bench(TEXT, "--check", "none")[1] == 0
        assert bench(TEXT, "--check", "none")[0].code == 0
        for on_error in ("keep", "mark", "skip", "fail"):
            assert bench(TEXT, "--on-error", on_error)[1] == 0
        outcome, num_generated = bench(TEXT, "--retries", "2")
        assert num_generated == 2, "a third attempt at each of the two that had failed"
        assert b"[weaker]" not in outcome.out
        assert bench(TEXT, "--retries", "2")[1] == 0
        again, num_generated = bench(TEXT, "--retries", "0")
        assert (num_generated, again.out) == (0, outcome.out), "a good answer is taken, whichever attempt it was"

    def test_what_failed_is_tried_again_on_request(self, bench: Bench) -> None:
        bench(TEXT)
        outcome, num_generated = bench(TEXT, "--retry-failed")
        assert num_generated == 2 + 1, "[weaker] is good at the third attempt, [empty] never"
        assert outcome.code == 3
        assert b"[weaker]" not in outcome.out
        assert bench(TEXT)[1] == 0
        assert bench(TEXT, "--retry-failed")[1] == 2

    def test_a_refresh_computes_all_once_and_replaces(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _ = bench("One.\nTwo.\nOne.")
        monkeypatch.setattr("attack.program.answer", lambda prompt, seed, num_tokens: b"new " + prompt[-4:])
        assert bench("One.\nTwo.\nOne.")[0].out == first.out
        outcome, num_generated = bench("One.\nTwo.\nOne.", "--refresh")
        assert (outcome.out, num_generated) == (b"new One.\nnew Two.\nnew One.", 2)
        assert bench("One.\nTwo.\nOne.")[0].out == outcome.out

    def test_without_a_store_nothing_is_kept_or_found(self, bench: Bench) -> None:
        bench(TEXT)
        for _ in range(2):
            assert bench(TEXT, "--no-store")[1] == 6

    def test_an_answer_that_a_fault_of_the_machine_prevented_is_not_held_against_its_text(self, bench: Bench) -> None:
        outcome, _ = bench("One.\nTwo.", fake=Fake(starving=1.0))
        assert (outcome.code, outcome.out) == (3, b"One.\nTwo.")
        outcome, num_generated = bench("One.\nTwo.")
        assert (outcome.code, num_generated) == (0, 2)


class TestFates:
    @pytest.mark.parametrize(
        ("on_error", "expected", "code"),
        [
            ("keep", "A\n[empty] x\nB\n", 3), ("mark", "A\n[llmpar: the answer is empty] [empty] x\nB\n", 3),
            ("skip", "A\n\nB\n", 3), ("fail", "A\n", 3),
        ],
    )  # fmt: skip
    def test_of_a_segment_that_fails(self, bench: Bench, on_error: str, expected: str, code: int) -> None:
        good = [bench(text)[0].out.decode() for text in ("One.", "Two.")]
        outcome, _ = bench("One.\n[empty] x\nTwo.\n", "--on-error", on_error)
        assert outcome.code == code
        assert outcome.out.decode() == expected.replace("A", good[0]).replace("B", good[1])

    def test_a_run_that_fails_leaves_the_old_file(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("old")
        outcome, _ = bench("One.\n[empty] x\nTwo.\n", "--on-error", "fail", "-o", str(tmp_path / "out"))
        assert outcome.code == 3
        assert (tmp_path / "out").read_text() == "old"


class TestRecords:
    def test_are_complete_and_in_order(self, bench: Bench) -> None:
        text = "".join(f"Line {i % 37}{' [empty]' * (i % 50 == 3)}.\n" for i in range(300))
        options = ("--log", str(bench.log), "--errors", str(bench.errors), "-j", "3")
        for cached in (False, True):
            bench(text, *options, fake=Fake(delay=0.001))
            log, errors = bench.lines(bench.log), bench.lines(bench.errors)
            assert [record["index"] for record in log] == list(range(300))
            assert [text[record["start"] : record["end"]] for record in log] == text.splitlines()
            assert all(record["cached"] for record in log if cached or (record["index"] > 60 and not record["error"]))
            assert [record["index"] for record in errors] == [record["index"] for record in log if record["error"]]
            assert [record["text"] for record in errors] == [line for line in text.splitlines() if "empty" in line]
            assert {record["attempts"] for record in errors} == {2}
            assert {(record["document"], record["model"]) for record in log} == {(str(bench.input), "echo")}
            assert len({record["key"] for record in log}) == len(set(text.splitlines()))

    def test_of_a_run_that_ends_early_are_whole_lines(self, bench: Bench) -> None:
        text = "".join(f"Line {i}.\n" for i in range(400)) + "[empty] x\n"
        bench(text, "--log", str(bench.log), "--on-error", "fail")
        assert [record["index"] for record in bench.lines(bench.log)] == list(range(401))
        bench(text + "more\n", "--log", str(bench.log), "--max-time", "0.15", "--refresh", fake=Fake(delay=0.02))
        log = bench.lines(bench.log)
        assert [record["index"] for record in log] == list(range(len(log)))
        assert len(log) < 402


LINES = ["One.", "Two two.", "[weak] x", "[empty] y", "[loop] z", "[long] w", "", " "]


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=30),
    threads=st.sampled_from([1, 2, 8, 32]),
    batch_size=st.sampled_from([1, 3, 64]),
    delay=st.sampled_from([0.0, 0.001, 0.004]),
    seed=st.integers(0, 9),
)
def test_any_number_of_workers_gives_the_same_bytes(
    lines: list[str], threads: int, batch_size: int, delay: float, seed: int, tmp_path_factory: Any
) -> None:

    place = tmp_path_factory.mktemp("workers")
    (place / "in").write_text("\n".join(lines))
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        for workers, slots, pause in ((1, 1, 0.0), (threads, batch_size, delay)):
            Fake(delay=pause, seed=seed).install(patch.setattr)
            command = ["run", "x", str(place / "in"), "-o", str(place / "out"), "-u", "line", "--engine", "echo", "-q"]
            code = run_command_line([*command, "-j", str(workers), "--batch-size", str(slots), "--progress", "none"])
            outputs.append((code, (place / "out").read_bytes()))
    assert outputs[0] == outputs[1]
