"""What is kept, damaged in every way: found by its checksum, made again, and never answered from."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from fuzz.tiny import gguf_bytes
from support.fakes import FakeRunner
from support.packs import same
from support.program import Outcome
from support.questions import Kept, question
from support.tiny_models import decoder

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend
from llmpar.answering.local import Codec, LocalBackend
from llmpar.engine.cpu import compiled, packed
from llmpar.engine.cpu.compiled import kernel
from llmpar.engine.engine import Engine
from llmpar.engine.request import Sequence
from llmpar.errors import EngineFailed, KeptDamaged, ModelUnavailable
from llmpar.integrity.checksums import checksum, checksum_at, seal, seal_json, unseal, unseal_json
from llmpar.integrity.foundation import Foundation
from llmpar.models import cache, registry, sums
from llmpar.models.load import load_model
from llmpar.reporting.report import Report
from llmpar.tasks.question import Question, Sampling

Call = Callable[..., Outcome]
PLACES = 200
SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "llmpar.json", sums.FILE)


def damages(content: bytes, seed: int = 0) -> Iterator[bytes]:
    """Yield a file's bytes with some overwritten at each of `PLACES` random places, then cut at some."""
    draw = random.Random(seed)
    for _ in range(PLACES):
        place, count = draw.randrange(len(content)), draw.choice((1, 1, 8, 4096))
        there = content[place : place + count]
        yield content[:place] + bytes(byte ^ draw.randrange(1, 256) for byte in there) + content[place + len(there) :]
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield content[:length]


def later(file: Path) -> None:
    """Let a file's times be others, as a clock that ticks coarsely may not."""
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


class TestSeals:
    def test_give_back_what_they_got_and_refuse_all_else(self) -> None:
        sealed = seal(b"content of some length", "name")
        assert unseal(sealed, "name") == b"content of some length"
        for damaged in damages(sealed):
            with pytest.raises(ValueError, match="name was altered"):
                unseal(damaged, "name")
        with pytest.raises(ValueError, match="other was altered"):
            unseal(sealed, "other")
        assert unseal_json(seal_json({"a": [1]}, "x"), "x") == {"a": [1]}

    def test_of_a_file_is_that_of_its_bytes(self, tmp_path: Path) -> None:
        content = random.Random(0).randbytes((9 << 20) + 7)  # more than is read at once
        (tmp_path / "file").write_bytes(content)
        assert checksum_at(tmp_path / "file") == checksum([content]) == checksum([content[:5], content[5:]])


class TestPack:
    def test_no_damage_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "pack"
        whole = decoder("llama", "int8")
        packed.write(whole, file, "origin")
        content = file.read_bytes()
        assert same(packed.read(file, "origin"), whole)
        for damaged in damages(content):
            file.write_bytes(damaged)
            with pytest.raises(packed.DamagedPack):
                packed.read(file, "origin")

    def test_nor_by_its_foundation(self, tmp_path: Path) -> None:
        file = tmp_path / "pack"
        packed.write(decoder("llama", "int8"), file)
        content = file.read_bytes()
        start = content.index(b"\n") + 1
        for damaged in damages(content[start:], seed=1):
            if len(damaged) == len(content) - start:  # others are refused at once
                file.write_bytes(content[:start] + damaged)
                foundation = Foundation()
                packed.read(file, "", foundation)
                foundation.begin()
                with pytest.raises(KeptDamaged, match="pack' was altered"):
                    foundation.confirm()
                assert not foundation.holds()

    def test_another_models_is_refused(self, tmp_path: Path) -> None:
        packed.write(decoder("llama", "int8"), tmp_path / "pack", "another")
        with pytest.raises(packed.DamagedPack, match="made of another model"):
            packed.read(tmp_path / "pack", "origin")


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model of two precisions, in a cache of its own."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMPAR_STATE", str(tmp_path / "state"))
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes(known=False))
    long_ago = time.time() - 100
    os.utime(tmp_path / "tiny.gguf", (long_ago, long_ago))
    return tmp_path / "tiny.gguf"


class TestEntry:
    @pytest.mark.parametrize("name", SMALL)
    def test_no_damage_of_a_small_file_is_loaded(self, gguf: Path, name: str) -> None:
        entry = registry.resolve(str(gguf)).path
        content = (entry / name).read_bytes()
        for damaged in damages(content):
            (entry / name).write_bytes(damaged)
            with pytest.raises(ModelUnavailable, match="is damaged"):
                cache.cached(entry.name, "tiny")
        (entry / name).write_bytes(content)
        assert cache.cached(entry.name, "tiny")

    def test_no_damage_of_weights_is_confirmed(self, gguf: Path) -> None:
        entry = registry.resolve(str(gguf)).path
        file, kept = entry / "model.safetensors", cache.kept_sums(entry)
        assert kept
        content = file.read_bytes()
        for damaged in damages(content):
            file.write_bytes(damaged)
            assert kept.find_altered(entry, weights=True) == [file.name]
            foundation = Foundation()
            foundation.add(file, kept.by_name[file.name], is_weights=True)
            with pytest.raises(KeptDamaged):
                foundation.confirm()

    def test_damaged_weights_become_no_pack(self, gguf: Path) -> None:
        entry = registry.resolve(str(gguf)).path
        file = entry / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(content)
        with pytest.raises(KeptDamaged):
            load_model(entry, "cpu", "int8")
        assert not list(entry.glob("pack-*"))

    def test_one_from_before_there_were_checksums_gets_some(self, gguf: Path) -> None:
        entry = registry.resolve(str(gguf)).path
        before = (entry / sums.FILE).read_bytes()
        (entry / sums.FILE).unlink()
        assert registry.resolve(str(gguf)).path == entry
        assert (entry / sums.FILE).read_bytes() == before

    def test_another_entrys_files_are_refused(self, gguf: Path) -> None:
        entry = registry.resolve(str(gguf)).path
        other = entry.with_name("other")
        entry.rename(other)
        with pytest.raises(ModelUnavailable, match="checksums was altered"):
            cache.cached("other", "other")

    def test_a_damaged_index_leads_to_no_other_model(self, gguf: Path) -> None:
        entry = registry.resolve(str(gguf)).path
        index = gguf.parent / "cache" / "gguf-index"
        content = index.read_bytes()
        for damaged in damages(content):
            index.write_bytes(damaged)
            assert cache.damaged_index() == index
            assert cache.gguf_key(gguf) == entry.name
            assert cache.damaged_index() is None


def _tripled(number: int) -> int:
    return 3 * number


def test_no_damage_of_kept_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_place", str(tmp_path))
    function = kernel(_tripled)
    assert function(3) == 9
    keeper, (key,) = function._cache._cache_file, function._cache._cache_file._load_index()
    assert keeper.load(key)
    for file in (Path(keeper._index_path), Path(keeper._data_path(keeper._load_index()[key]))):
        content = file.read_bytes()
        for damaged in damages(content):
            file.write_bytes(damaged)
            assert keeper.load(key) is None
            assert list(compiled.find_damaged()) == [file]
        assert compiled.discard_damaged() == [file]
        assert not file.exists()
        file.write_bytes(content)
    assert keeper.load(key)
    (file,) = tmp_path.rglob("*.nbc")
    file.rename(file.with_name("another.1.nbc"))
    assert [found.name for found in compiled.find_damaged()] == ["another.1.nbc"], "code of another function"


class TestFoundation:
    def watched(self, tmp_path: Path, *, is_mapped: bool = True, is_weights: bool = True) -> tuple[Foundation, Path]:
        file = tmp_path / "weights"
        file.write_bytes(b"weights")
        foundation = Foundation(is_mapped=is_mapped)
        foundation.add(file, checksum([b"weights"]), is_weights=is_weights)
        foundation.begin()
        return foundation, file

    def test_names_and_modes_may_change(self, tmp_path: Path) -> None:
        foundation, file = self.watched(tmp_path)
        foundation.confirm()
        file.chmod(0o400)
        foundation.confirm()
        file.rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").unlink()
        foundation.confirm()
        assert foundation.holds()

    @pytest.mark.parametrize("change", [b"Weights", b"weight", b"weights!", b"weights"])
    def test_content_that_was_written_again_ends_it(self, tmp_path: Path, change: bytes) -> None:
        foundation, file = self.watched(tmp_path)
        foundation.confirm()
        file.write_bytes(change)
        later(file)
        with pytest.raises(EngineFailed, match="changed while it was in use") as failed:
            foundation.confirm()
        assert not isinstance(failed.value, KeptDamaged)
        assert not foundation.holds()

    def test_content_whose_time_was_set_back_does_too(self, tmp_path: Path) -> None:
        foundation, file = self.watched(tmp_path)
        foundation.confirm()
        before = file.stat()
        time.sleep(0.02)  # a tick of the file system's clock
        file.write_bytes(b"Weights")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(EngineFailed, match="changed while it was in use"):
            foundation.confirm()

    def test_what_is_no_longer_used_may_change(self, tmp_path: Path) -> None:
        for options in ({"is_mapped": False}, {"is_weights": False}):
            foundation, file = self.watched(tmp_path, **options)
            foundation.confirm()
            file.write_bytes(b"other")
            foundation.confirm()

    def test_a_small_file_that_changed_since_it_was_read_ends_it(self, tmp_path: Path) -> None:
        foundation, file = self.watched(tmp_path, is_weights=False)
        file.write_bytes(b"Weights")
        later(file)
        with pytest.raises(EngineFailed, match="changed while it was in use"):
            foundation.confirm()

    def test_without_a_checksum_changes_are_still_seen(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_bytes(b"weights")
        foundation = Foundation()
        foundation.add(tmp_path / "theirs", None, is_weights=True)
        foundation.confirm()
        later(tmp_path / "theirs")
        with pytest.raises(EngineFailed, match="changed while it was in use"):
            foundation.confirm()


class Damaging(FakeRunner):
    """A FakeRunner in whose course, at a step, something happens to the weights; from then on it answers garbage."""

    def __init__(self, happen: Callable[[], None], at: int) -> None:
        super().__init__(num_slots=2)
        self._happen, self._at = happen, at

    def _step(self, sequences: list[Sequence]) -> None:
        if self._steps == self._at:
            self._happen()
        if self._steps < self._at:
            super()._step(sequences)
            return
        self._steps += 1
        for sequence in sequences:
            sequence.append(ord("!") if len(sequence.output_ids) < 3 else -1, frozenset({-1}))


def backend(runner: FakeRunner, foundation: Foundation) -> Backend:
    codec = Codec(lambda prompt: prompt.text.encode(), lambda ids: bytes(ids).decode())
    return LocalBackend(Engine([runner], context_length=512), codec, foundation)


def answered(open_backend: Callable[[Question], Backend], kept: Kept, texts: Iterable[str]) -> list[str]:
    answers = Answers(Sampling(40, max_repeats=0), Policy(retries=0), lambda task: (task, kept), open_backend, Report())
    try:
        pending = [answers.submit(question(text)) for text in texts]
        while answers.running:
            answers.collect(1.0)
        return [found.result.answer for found in pending if found.result]
    except BaseException:
        answers.abandon()
        raise
    finally:
        answers.close()


class TestAnswers:
    TEXTS = tuple(f"Text {index} of several." for index in range(12))

    def good(self, kept: Kept) -> list[str]:
        return answered(lambda _: backend(FakeRunner(), Foundation()), kept, self.TEXTS)

    def test_damage_is_thrown_away_and_all_is_asked_again(self, tmp_path: Path) -> None:
        file = tmp_path / "weights"
        file.write_bytes(b"damaged")
        opened: list[Backend] = []

        def open_backend(_: Question) -> Backend:
            foundation, runner = Foundation(), FakeRunner()
            if not opened:
                foundation.add(file, checksum([b"weights"]), is_weights=True)
                runner = Damaging(lambda: None, 0)
            opened.append(backend(runner, foundation))
            return opened[-1]

        kept, expected = Kept(), Kept()
        assert answered(open_backend, kept, self.TEXTS) == self.good(expected)
        assert kept.answers.keys() == expected.answers.keys()
        assert "!!!" not in {answer.text for answers in kept.answers.values() for answer in answers}
        assert len(opened) == 2

    def test_what_is_damaged_twice_ends_it(self, tmp_path: Path) -> None:
        def open_backend(_: Question) -> Backend:
            raise KeptDamaged("again")

        with pytest.raises(KeptDamaged):
            answered(open_backend, Kept(), self.TEXTS)

    @pytest.mark.parametrize("at", [0, 1, 15, 25])
    def test_nothing_is_kept_since_weights_in_use_changed(self, tmp_path: Path, at: int) -> None:
        file = tmp_path / "weights"
        file.write_bytes(b"weights")

        def damage() -> None:
            file.write_bytes(b"garbage")
            later(file)

        def open_backend(_: Question) -> Backend:
            foundation = Foundation()
            foundation.add(file, checksum([b"weights"]), is_weights=True)
            foundation.confirm()
            return backend(Damaging(damage, at), foundation)

        kept, expected = Kept(), Kept()
        with pytest.raises(EngineFailed, match="changed while it was in use"):
            answered(open_backend, kept, self.TEXTS)
        self.good(expected)
        found = {key: answers[0].text for key, answers in kept.answers.items()}
        assert found.items() <= {key: answers[0].text for key, answers in expected.answers.items()}.items()

    def test_an_early_end_keeps_nothing_unconfirmed(self, tmp_path: Path) -> None:
        (tmp_path / "weights").write_bytes(b"damaged")
        foundation = Foundation()
        foundation.add(tmp_path / "weights", checksum([b"weights"]), is_weights=True)
        kept = Kept()
        runner = backend(FakeRunner(), foundation)
        answers = Answers(
            Sampling(40, max_repeats=0), Policy(retries=0), lambda task: (task, kept), lambda _: runner, Report()
        )
        for text in self.TEXTS:
            answers.submit(question(text))
        time.sleep(0.2)
        answers.abandon()
        assert kept.answers == {}


LINES = b"A first line.\nAnother one.\nThe last.\n"
ASKED = ("run", "Say {text}", "-u", "line", "--max-new-tokens", "6", "--device", "cpu", "-j", "1", "--retries", "0")


class TestRuns:
    """What a damaged file does to a whole run: a notice, and the answers of a sound one."""

    def outcome(self, llmpar: Call, gguf: Path, precision: str) -> Outcome:
        return llmpar(*ASKED, "-m", str(gguf), "--precision", precision, "--refresh", stdin=LINES)

    @pytest.mark.parametrize(
        ("precision", "name"),
        [
            ("int8", f"pack-int8-{packed.FORMAT}"),
            ("int8", "tokenizer.json"),
            ("fp32", "model.safetensors"),
            ("fp32", "config.json"),
        ],
    )
    def test_answers_are_those_of_a_sound_one(self, llmpar: Call, gguf: Path, precision: str, name: str) -> None:
        sound = self.outcome(llmpar, gguf, precision)
        assert sound.code in (0, 3)
        again = self.outcome(llmpar, gguf, precision)
        assert (again.code, again.out) == (sound.code, sound.out)
        assert "altered" not in again.err
        (entry,) = cache.entries()
        file = cache.entry_path(entry) / name
        before = file.read_bytes()
        file.write_bytes(before[:-3000] + bytes(byte ^ 0x55 for byte in before[-3000:]))
        found = llmpar("models", "verify")
        assert (found.code, name in found.out.decode()) == (69, True)
        mended = self.outcome(llmpar, gguf, precision)
        assert (mended.code, mended.out) == (sound.code, sound.out)
        assert f"{name}" in mended.err
        assert "making it again" in mended.err
        assert file.read_bytes() == before
        assert llmpar("models", "verify").code == 0
        assert llmpar("models", "verify", str(gguf)).out == b"everything is as it was kept\n"

    def test_packs_of_two_models_that_were_swapped_are_made_again(self, llmpar: Call, gguf: Path) -> None:
        sound = self.outcome(llmpar, gguf, "int8")
        assert self.outcome(llmpar, gguf, "bf16").code in (0, 3)
        (entry,) = cache.entries()
        packs = [cache.entry_path(entry) / f"pack-{precision}-{packed.FORMAT}" for precision in ("int8", "bf16")]
        packs[0].write_bytes(packs[1].read_bytes())
        mended = self.outcome(llmpar, gguf, "int8")
        assert (mended.code, mended.out) == (sound.code, sound.out)
        assert "made of another model; making it again" in mended.err

    def test_verify_of_nothing(self, llmpar: Call, gguf: Path) -> None:
        assert llmpar("models", "verify", "nothing").code == 69


CUT = """
import sys
from pathlib import Path
from llmpar.engine.cpu import packed, truncation
truncation.end_cleanly()
file = Path(sys.argv[1])
decoder = packed.read(file)
file.open("r+b").truncate(100)
print(decoder.embedding.sum())
"""


def test_a_pack_that_is_cut_while_it_is_mapped_ends_the_process_with_a_line(tmp_path: Path) -> None:
    packed.write(decoder("llama", "int8"), tmp_path / "pack")
    command = [sys.executable, "-c", CUT, str(tmp_path / "pack")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("llmpar: a file of weights was cut short while it was in use")
    assert done.stderr.count("\n") == 1
