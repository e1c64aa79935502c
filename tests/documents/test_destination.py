"""A file replaced at once or not at all, by one run at a time, whatever fails on the way."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import Faults, interrupt

from llmpar.documents.destination import FileWriter, temporary_path
from llmpar.documents.writer import open_output
from llmpar.errors import Busy, InputError, Interrupted, OutputUncreatable, WriteFailed

# Holds the lock on a file, says so, and publishes after so many seconds.
HOLD = """
import sys, time
from pathlib import Path
from llmpar.documents.destination import FileWriter
writer = FileWriter(Path(sys.argv[1]))
writer.write(b"theirs" * 10_000)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
writer.close()
"""
# Replaces a file many times, each time with a content of its own.
RACE = """
import sys
from pathlib import Path
from llmpar.documents.destination import FileWriter
for i in range(30):
    writer = FileWriter(Path(sys.argv[1]), wait=60)
    writer.write(sys.argv[2].encode() * 100_000)
    writer.abandon() if i % 5 == 4 else writer.close()
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def save(path: Path, data: bytes) -> None:
    writer = open_output(path)
    writer.write(data)
    writer.flush()
    writer.close()


def test_a_file_is_new_only_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    writer = open_output(path)
    writer.write(b"new" * 100_000)
    writer.flush()
    assert path.read_bytes() == b"old"
    writer.close()
    assert path.read_bytes() == b"new" * 100_000
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("existing", [True, False])
def test_abandoning_leaves_everything_as_it_was(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "out.txt"
    if existing:
        path.write_bytes(b"old")
    writer = open_output(path)
    writer.write(b"new")
    writer.abandon()
    assert names(tmp_path) == (["out.txt"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.txt"
    path.touch()
    path.chmod(mode)
    save(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save(tmp_path / "out.txt", b"new")
    finally:
        assert os.umask(before) == umask
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("dangling", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.txt"
    if not dangling:
        target.write_bytes(b"old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    save(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", b"a b\nc", b"-o", "名".encode() * 80])
def test_names_of_every_kind(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    save(path, b"new")
    assert names(tmp_path) == [os.fsdecode(name)]


@pytest.mark.parametrize("broken", [False, True])
def test_a_step_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    path, new = tmp_path / "out.txt", b"new" * 10_000
    seen = set()
    for n in range(1, 100):
        path.write_bytes(b"old")
        path.chmod(0o640)
        faults = Faults(n, broken=broken)
        with monkeypatch.context() as patch:
            faults.install(patch)
            try:
                save(path, new)
            except WriteFailed:
                assert faults.failed
            else:
                assert not faults.failed
        assert names(tmp_path) == ["out.txt"]
        assert path.read_bytes() == (b"old" if faults.failed and "replace" not in faults.done else new)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        seen.add(faults.failed)
        if not faults.failed:
            break
    assert seen == {"write", "fsync", "fchmod", "replace", "fsync of a directory", None}


def test_a_signal_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, new = tmp_path / "out.txt", b"new" * 10_000
    seen = set()
    for n in range(1, 100):
        path.write_bytes(b"old")
        faults = Faults(n, interrupt)
        with monkeypatch.context() as patch:
            faults.install(patch, opening=True)
            try:
                save(path, new)
            except Interrupted:
                assert faults.failed
            else:
                assert not faults.failed, "a signal came to nothing"
        assert names(tmp_path) == ["out.txt"]
        # What comes right before the rename belongs to it.
        complete = faults.failed in (None, "fchmod", "replace", "fsync of a directory")
        assert path.read_bytes() == (new if complete else b"old"), faults.failed
        seen.add(faults.failed)
        if not faults.failed:
            break
    assert seen == {"open", "write", "fsync", "fchmod", "replace", "fsync of a directory", None}


def test_a_check_that_fails_prevents_the_new_content(tmp_path: Path) -> None:
    def check() -> None:
        raise InputError("in.txt: was changed")

    (tmp_path / "out.txt").write_bytes(b"old")
    writer = FileWriter(tmp_path / "out.txt", check=check)
    writer.write(b"new")
    with pytest.raises(InputError):
        writer.close()
    writer.abandon()
    assert (tmp_path / "out.txt").read_bytes() == b"old"
    assert names(tmp_path) == ["out.txt"]


def test_a_temporary_file_is_private(tmp_path: Path) -> None:
    writer = open_output(tmp_path / "out.txt")
    assert stat.S_IMODE(temporary_path(tmp_path / "out.txt").stat().st_mode) == 0o600
    writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.touch()
    os.chown(path, 65534, 65533)
    path.chmod(0o4755)
    save(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (65534, 65533, 0o4755)


def test_an_owner_who_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, owners = os.fstat, []
    (tmp_path / "out.txt").touch(mode=0o755)
    (tmp_path / "out.txt").chmod(0o4755)

    def refuse(descriptor: int, uid: int, gid: int) -> None:
        owners.append(uid)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def elsewhere(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        return os.stat_result([*fields[:4], fields[4] + 1, *fields[5:]])

    writer = FileWriter(tmp_path / "out.txt")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refuse)
        patch.setattr(os, "fstat", elsewhere)
        writer.close()
    assert owners == [os.geteuid(), -1]
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o755, "set-user-ID was meant for the owner"


def hold(path: Path, seconds: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    return process


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with hold(path, 600) as holder:
        for alias in (path, tmp_path / "link"):
            if alias != path:
                alias.symlink_to(path)
            with pytest.raises(Busy, match=f"{alias.name}: somebody else is writing it; .*wait=SECONDS"):
                open_output(alias)
        begun = time.monotonic()
        with pytest.raises(Busy):
            open_output(path, wait=0.2)
        assert 0.2 <= time.monotonic() - begun < 5
        holder.kill()
    assert temporary_path(path).stat().st_size > 0, "kill -9 leaves something"
    (tmp_path / "link").unlink()
    save(path, b"ours")
    assert names(tmp_path) == ["out.txt"]
    assert path.read_bytes() == b"ours"


def test_waiting_for_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with hold(path, 0.4) as holder:
        writer = open_output(path, wait=60)
        assert holder.wait() == 0
    assert path.read_bytes() == b"theirs" * 10_000
    writer.write(b"ours")
    assert path.read_bytes() == b"theirs" * 10_000, "whose file it was is let be"
    writer.close()
    assert path.read_bytes() == b"ours"
    assert names(tmp_path) == ["out.txt"]


def test_a_race(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"0" * 100_000)
    racers = [subprocess.Popen([sys.executable, "-c", RACE, str(path), str(i)]) for i in range(1, 4)]
    while any(racer.poll() is None for racer in racers):
        data = path.read_bytes()
        assert len(data) == 100_000
        assert data == data[:1] * 100_000
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert names(tmp_path) == ["out.txt"]


def test_a_temporary_file_that_was_removed_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    first = FileWriter(path)
    first.write(b"first")
    temporary_path(path).unlink()
    second = FileWriter(path)
    second.write(b"second")
    with pytest.raises(WriteFailed, match="was removed meanwhile"):
        first.close()
    second.close()
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize(
    "plant",
    [
        lambda place, victim: place.symlink_to(victim),
        lambda place, victim: place.hardlink_to(victim),
        lambda place, victim: place.mkdir(),
        lambda place, victim: os.mkfifo(place),
        pytest.param(
            lambda place, victim: (place.touch(), os.chown(place, 65534, 65534)),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_something_hostile_in_the_place_of_the_lock(tmp_path: Path, plant: Callable[[Path, Path], object]) -> None:
    victim, place = tmp_path / "victim", temporary_path(tmp_path / "out.txt")
    victim.write_bytes(b"precious")
    plant(place, victim)
    with pytest.raises(OutputUncreatable, match=r"out\.txt: cannot be created: .*/\.out\.txt\.llmpar is in the way"):
        open_output(tmp_path / "out.txt")
    assert victim.read_bytes() == b"precious"
    assert names(tmp_path) == sorted([place.name, "victim"])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / ("名" * 80)
    writers = [FileWriter(path) for _ in range(2)]
    for i, writer in enumerate(writers):
        writer.write(b"%d" % i * 100_000)
    assert not temporary_path(path).exists()
    for i, writer in enumerate(writers):
        writer.close()
        assert path.read_bytes() == b"%d" % i * 100_000
    assert names(tmp_path) == [path.name]


def test_temporary_names(tmp_path: Path) -> None:
    assert temporary_path(Path("a/b.txt")) == Path("a/.b.txt.llmpar")
    long = [temporary_path(tmp_path / f"{'名' * 80}{tail}") for tail in ("one", "two")]
    assert long[0] != long[1]
    assert all(len(os.fsencode(path.name)) <= 255 for path in long)
    assert temporary_path(Path("x" * 247)).name == f".{'x' * 247}.llmpar"
    assert len(temporary_path(Path(os.fsdecode(b"\xff" * 250))).name) <= 255


def test_what_was_written_is_kept_on_request(tmp_path: Path) -> None:
    path, partial = tmp_path / "out.txt", tmp_path / "part.txt"
    writer = open_output(path, partial=partial)
    writer.abandon()
    assert names(tmp_path) == [], "nothing was written"
    for data in (b"one", b"two" * 10_000):
        writer = open_output(path, partial=partial)
        writer.write(data)
        writer.abandon()
        writer.abandon()
        assert names(tmp_path) == ["part.txt"]
        assert partial.read_bytes() == data
    assert stat.S_IMODE(partial.stat().st_mode) == 0o666 & ~umask()
    writer = open_output(path, partial=partial)
    writer.write(b"all")
    writer.close()
    assert partial.read_bytes() == b"two" * 10_000


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_what_was_written_is_kept_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    partial = tmp_path / "elsewhere" / "part.txt"
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    writer = open_output(tmp_path / "out.txt", partial=partial)
    writer.write(b"some")
    writer.abandon()
    assert names(tmp_path) == ["elsewhere"]
    assert names(partial.parent) == ["part.txt"]
    assert partial.read_bytes() == b"some"
    assert stat.S_IMODE(partial.stat().st_mode) == 0o666 & ~umask()


def test_what_was_written_and_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_output(tmp_path / "out.txt", partial=tmp_path / "part.txt")
    writer.write(b"some")
    with monkeypatch.context() as patch:
        Faults(3).install(patch)  # sync, mode, then the name
        with pytest.raises(
            WriteFailed, match=r"part\.txt: what was written of .*No space.*it is in .*\.out\.txt\.llmpar"
        ):
            writer.abandon()
    assert temporary_path(tmp_path / "out.txt").read_bytes() == b"some"


def test_a_full_disk_keeps_what_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        faults = Faults(2, broken=True, only="write")
        faults.install(patch)
        writer = open_output(tmp_path / "out.txt", partial=tmp_path / "part.txt")
        writer.write(b"x" * 10_000)
        with pytest.raises(WriteFailed, match=r"out\.txt: .*No space"):
            writer.write(b"y" * 10_000)
        writer.abandon()
    assert names(tmp_path) == ["part.txt"]
    assert (tmp_path / "part.txt").read_bytes() == b"x" * 10_000


def test_a_file_that_is_mounted_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    path, source = tmp_path / "a b", tmp_path / "source"
    path.write_bytes(b"old")
    source.write_bytes(b"old")
    script = "import sys; from pathlib import Path; from llmpar.documents.destination import FileWriter\n"
    script += "FileWriter(Path(sys.argv[1]))"
    mount = 'mount --bind "$1" "$2" || exit 77; shift 2; exec "$@"'
    mounted = ["unshare", "--map-root-user", "--mount", "bash", "-c", mount, "-"]
    try:
        done = subprocess.run(
            [*mounted, source, path, sys.executable, "-c", script, path], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert "OutputUncreatable" in done.stderr
    assert "it is mounted by itself" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a b", "source"]
