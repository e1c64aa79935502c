"""Several stores become one; one on a network file system is refused, and read for that all the same."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmpar.errors import StoreUnusable, UsageError
from llmpar.store import filesystems
from llmpar.store.answer import StoredAnswer
from llmpar.store.filesystems import kind_of
from llmpar.store.merging import Merged, merge
from llmpar.store.store import Store

JOB = {"task": "x"}
MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /home rw shared:1 master:2 - nfs4 server:/home rw
31 27 0:31 / /home/me/local rw - xfs /dev/sdb rw
32 27 0:32 / /mnt/my\\040share rw - cifs //server/share rw
33 27 0:33 / /over rw - ext4 /dev/sdc rw
34 27 0:34 / /over rw - lustre server:/x rw
broken line
"""


def keep(path: Path, *texts: str, answer: str = "answer to ", keep_text: bool = True) -> None:
    with closing(Store(path, keep_text=keep_text)) as store:
        job = store.job(JOB)
        for text in texts:
            job.add(job.key(text), text, StoredAnswer(0, answer + text, "stop", 3, 4, 0.5))
        job.commit()


def kept(path: Path, *texts: str) -> list[str | None]:
    with closing(Store(path)) as store:
        job = store.job(JOB)
        found = [job.find(job.key(text)) for text in texts]
    return [answers[0].text if answers else None for answers in found]


def test_all_answers_are_in_one_store(tmp_path: Path) -> None:
    one, two, three, whole = (tmp_path / name for name in ("one", "two", "three", "whole"))
    keep(one, "a", "b")
    keep(two, "b", "c", answer="other answer to ")
    keep(three, *map(str, range(2500)), keep_text=False)
    assert merge(whole, [one, two, three]) == Merged(2504, 2503)
    assert kept(whole, "a", "b", "c", "7", "2499", "d") == [
        *("answer to a", "answer to b", "other answer to c", "answer to 7", "answer to 2499"),
        None,
    ]
    with closing(Store(whole)) as store:
        assert store.verify() == []
    assert merge(whole, [two, one, three]) == Merged(2504, 0), "done twice, it does nothing"
    assert kept(one, "a", "c") == ["answer to a", None], "those that were merged stay as they are"


def test_answers_that_are_there_stay(tmp_path: Path) -> None:
    keep(tmp_path / "whole", "a", answer="first to ")
    keep(tmp_path / "one", "a", "b")
    assert merge(tmp_path / "whole", [tmp_path / "one"]) == Merged(2, 1)
    assert kept(tmp_path / "whole", "a", "b") == ["first to a", "answer to b"]


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    keep(tmp_path / "one", "a")
    with pytest.raises(StoreUnusable, match="there is none"):
        merge(tmp_path / "whole", [tmp_path / "one", tmp_path / "no"])
    assert not (tmp_path / "whole").exists()
    with pytest.raises(UsageError, match="cannot be one of them"):
        merge(tmp_path / "one", [tmp_path / "one"])
    (tmp_path / "text").write_text("no store")
    with pytest.raises(StoreUnusable, match="no SQLite file"):
        merge(tmp_path / "whole", [tmp_path / "text"])


def test_an_altered_answer_is_not_taken(tmp_path: Path) -> None:
    keep(tmp_path / "one", "a", "b")
    with closing(sqlite3.connect(tmp_path / "one")) as connection:
        connection.execute("UPDATE answers SET answer = x'41' WHERE text = x'62'")
        connection.commit()
    with pytest.raises(StoreUnusable, match="altered"):
        merge(tmp_path / "whole", [tmp_path / "one"])
    assert kept(tmp_path / "whole", "a", "b") == [None, None]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homework/x", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/x", "nfs4"),
        ("/home/me/local/x", "xfs"),
        ("/mnt/my share/x", "cifs"),
        ("/over/x", "lustre"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert kind_of(path, MOUNTS) == kind


@pytest.fixture
def on_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is said to be on a network file system."""
    directory = tmp_path / "shared"
    directory.mkdir()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n30 27 0:30 / {directory} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    return directory


def test_a_store_on_a_network_file_system_is_refused_with_the_remedy(on_network: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"network file system \(nfs4\).*llmpar store merge"):
        Store(on_network / "store")
    assert list(on_network.iterdir()) == []


def test_stores_are_merged_from_a_network_file_system(tmp_path: Path, on_network: Path) -> None:
    keep(tmp_path / "one", "a")
    with closing(Store(tmp_path / "one")) as busy:  # its answers are in the log beside it, as after a kill
        job = busy.job(JOB)
        job.add(job.key("b"), "b", StoredAnswer(0, "late", "stop", 1, 1))
        job.commit()
        for name in ("one", "one-wal"):
            shutil.copy(tmp_path / name, on_network / name)
    before = {path.name: path.read_bytes() for path in on_network.iterdir()}
    assert merge(tmp_path / "whole", [on_network / "one"]) == Merged(2, 2)
    assert kept(tmp_path / "whole", "a", "b") == ["answer to a", "late"]
    assert {path.name: path.read_bytes() for path in on_network.iterdir()} == before
