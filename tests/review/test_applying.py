"""What a person corrected holds: for any later run of the task, and nothing of it is taken in by halves."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome

from llmpar.store.store import Store

Call = Callable[..., Outcome]
TEXT = "The cat sat.\nTwo dogs ran home.\nSee {name} at 12345.\nThe cat sat.\n"
PROMPT = "Say it: {text}"


class Desk:
    """Where a person sits: a document, a store, and reviews."""

    def __init__(self, llmpar: Call, path: Path) -> None:
        self._llmpar, self.path = llmpar, path
        self.document, self.store = path / "a.txt", path / "store"
        self.document.write_text(TEXT)

    def run(self, *options: str, command: tuple[str, ...] = ("run", PROMPT, "-u", "line")) -> Outcome:
        engine = () if "-m" in options else ("--engine", "echo")
        return self._llmpar(*command, *engine, "--store", str(self.store), *options, str(self.document))

    def review(self, name: str = "r.csv", *options: str, **more: tuple[str, ...]) -> Path:
        outcome = self.run("--review", str(self.path / name), "-o", str(self.path / "out"), *options, **more)
        assert outcome.code in (0, 3), outcome.err
        return self.path / name

    def correct(self, review: Path, old: str, new: str) -> None:
        """Change an answer, as an editor of text does."""
        text = review.read_text("utf-8-sig")
        if review.suffix == ".po":
            assert f'msgstr "{old}"' in text
            review.write_text(text.replace(f'msgstr "{old}"', f'msgstr "{new}"'))
            return
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert any(row["answer"] == old for row in rows)
        made = io.StringIO()
        writer = csv.DictWriter(made, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "answer": new if row["answer"] == old else row["answer"]} for row in rows)
        review.write_text(made.getvalue(), newline="")

    def apply(self, review: Path, *options: str) -> Outcome:
        return self._llmpar("apply", str(review), "--store", str(self.store), *options)


@pytest.fixture
def desk(llmpar: Call, tmp_path: Path) -> Desk:
    return Desk(llmpar, tmp_path)


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.po"])
def test_an_unchanged_review_changes_nothing(desk: Desk, name: str) -> None:
    review = desk.review(name)
    outcome = desk.apply(review)
    assert (outcome.code, outcome.out) == (0, b"applied 0 corrections, 3 rows unchanged\n")
    assert desk.run().out == TEXT.encode()


@pytest.mark.parametrize("name", ["r.csv", "r.po"])
def test_a_correction_holds_whatever_answers(desk: Desk, name: str, tiny_model: Path, llmpar: Call) -> None:
    review = desk.review(name)
    desk.correct(review, "The cat sat.", "=The cat was sitting.")
    outcome = desk.apply(review)
    assert (outcome.code, outcome.out) == (0, b"applied 1 correction, 2 rows unchanged\n"), outcome.err
    wanted = TEXT.replace("The cat sat.", "=The cat was sitting.")
    outcome = desk.run()
    assert outcome.out == wanted.encode()
    assert "2 corrected by a person" in outcome.err
    for options in (("--refresh",), ("--retry-failed",), ("--temperature", "0.7"), ("--check", "echo", "--refresh")):
        assert desk.run(*options).out.startswith(b"=The cat was sitting.\n")
    assert desk.apply(review).out == b"applied 0 corrections, 1 already applied, 2 rows unchanged\n"
    piped = llmpar("run", PROMPT, "-u", "line", "--engine", "echo", "--store", str(desk.store), stdin=TEXT.encode())
    assert piped.out == wanted.encode()
    for threads in ("1", "2"):
        made = desk.run("-m", str(tiny_model), "-j", threads, "--max-new-tokens", "8").out
        assert made.startswith(b"=The cat was sitting.\n")
        assert made.endswith(b"=The cat was sitting.\n")


def test_a_later_review_tells_who_answered(desk: Desk) -> None:
    review = desk.review()
    desk.correct(review, "The cat sat.", "A cat sat.")
    desk.apply(review)
    rows = list(csv.DictReader(io.StringIO(desk.review("later.csv").read_text("utf-8-sig"), newline="")))
    assert [(row["answer"], row["reason"]) for row in rows][-1] == ("A cat sat.", "corrected by a person")
    assert rows[-1]["place"] == f"{desk.document}:1, {desk.document}:4"
    desk.correct(desk.path / "later.csv", "A cat sat.", "One cat sat.")
    outcome = desk.apply(desk.path / "later.csv")
    assert outcome.out == b"applied 1 correction, 1 of them in the place of an earlier one, 2 rows unchanged\n"
    assert desk.run().out.startswith(b"One cat sat.\n")


def test_a_dry_run_tells_and_changes_nothing(desk: Desk) -> None:
    review = desk.review()
    desk.correct(review, "Two dogs ran home.", "Dogs ran.")
    outcome = desk.apply(review, "--dry-run")
    assert "→ Dogs ran." in outcome.out.decode()
    assert "would apply 1 correction" in outcome.out.decode()
    assert desk.run().out == TEXT.encode()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("See him at 12345.", "the answer lost {name}"),
        ("See {name} at 1234.", "the answer lost 12345"),
        ("", "the answer is empty"),
    ],
)
def test_what_must_survive_is_asked_for(desk: Desk, answer: str, complaint: str) -> None:
    review = desk.review("r.csv", "--check", "invariants")
    desk.correct(review, "The cat sat.", "A cat sat.")
    desk.correct(review, "See {name} at 12345.", answer)
    outcome = desk.apply(review)
    assert outcome.code == 65
    assert f"line 4: {complaint}" in outcome.err
    assert "nothing was applied" in outcome.err
    assert desk.run("--check", "invariants").out == TEXT.encode()
    outcome = desk.apply(review, "--force")
    assert outcome.code == 0
    assert f"line 4: {complaint}; it is taken all the same" in outcome.err
    assert (
        desk.run("--check", "invariants").out
        == TEXT.replace("The cat", "A cat").replace("See {name} at 12345.", answer).encode()
    )


def test_marks_must_be_there_whatever_is_forced(desk: Desk) -> None:
    desk.document = desk.path / "a.md"
    desk.document.write_text("See **the docs** now.\n")
    command = ("run", PROMPT, "--marks")
    review = desk.review("r.po", command=command)
    desk.correct(review, "See <1>the docs</1> now.", "See the docs now.")
    outcome = desk.apply(review, "--force")
    assert outcome.code == 65
    assert "the answer lost <1>" in outcome.err
    desk.correct(review, "See the docs now.", "Now see <1>the pages</1>.")
    assert desk.apply(review).code == 0
    assert desk.run(command=command).out == b"Now see **the pages**.\n"


def test_what_was_moved_is_refused_by_its_line(desk: Desk) -> None:
    review = desk.review()
    text = review.read_text("utf-8-sig")
    review.write_text(text.replace('"Two dogs ran home.","Two', '"Three dogs ran home.","Two'))
    outcome = desk.apply(review)
    assert outcome.code == 65
    assert "line 3: has a source and a key that do not belong together" in outcome.err


def test_two_answers_to_one_piece_are_refused(desk: Desk) -> None:
    review = desk.review()
    desk.correct(review, "The cat sat.", "A cat sat.")
    review.write_text(
        review.read_text() + review.read_text().splitlines()[1].replace("A cat sat.", "No cat sat.") + "\n"
    )
    outcome = desk.apply(review)
    assert outcome.code == 65
    assert "corrects the piece of line 2 in another way" in outcome.err


def test_another_store_knows_nothing_of_it(desk: Desk) -> None:
    review = desk.review()
    desk.correct(review, "The cat sat.", "A cat sat.")
    desk.store = desk.path / "other"
    outcome = desk.apply(review)
    assert outcome.code == 65
    assert "line 2: the store knows nothing of this piece" in outcome.err
    assert desk.apply(review, "--force").code == 0
    assert desk.run().out.startswith(b"A cat sat.\n")


def test_a_choice_must_be_one_of_the_choices(desk: Desk, tiny_model: Path) -> None:
    command = ("run", PROMPT, "-u", "line", "--choices", "yes,no", "-m", str(tiny_model), "-j", "1")
    review = desk.review(command=command)
    said, other = desk.run(command=command).out.decode().split("\n")[0], "perhaps"
    desk.correct(review, said, other)
    outcome = desk.apply(review)
    assert outcome.code == 65
    assert "the answer is none of the choices (yes, no)" in outcome.err
    desk.store = desk.path / "other"  # where nothing tells the form, the run itself looks
    assert desk.apply(review, "--force").code == 0
    outcome = desk.run(command=command)
    assert outcome.code == 3
    assert "a person's correction cannot be used: the answer is none of the choices" in outcome.err


def test_no_review_is_refused_and_named(desk: Desk) -> None:
    (desk.path / "x.csv").write_bytes(b"a,b\n\xff")
    assert "not valid UTF-8 at byte 4" in desk.apply(desk.path / "x.csv").err
    (desk.path / "x.csv").write_text("a,b\n1,2\n")
    outcome = desk.apply(desk.path / "x.csv")
    assert (outcome.code, "no column named source" in outcome.err) == (65, True)
    assert desk.apply(desk.path / "none.csv").code == 66
    assert desk.run("--review", str(desk.path / "r.xlsx")).code == 2


def test_the_store_keeps_and_forgets_it(desk: Desk, llmpar: Call) -> None:
    review = desk.review()
    desk.correct(review, "The cat sat.", "A cat sat.")
    desk.apply(review)
    given = ("--store", str(desk.store))
    assert b"1 of them by people" in llmpar("store", "info", *given).out
    assert llmpar("store", "verify", *given).code == 0
    with_all = Store(desk.store)
    with_all.evict(0)
    with_all.close()
    assert desk.run("--store-size", "1KB").out.startswith(b"A cat sat.\n")
    llmpar("store", "merge", str(desk.store), "--store", str(desk.path / "merged"))
    desk.store = desk.path / "merged"
    assert desk.run().out.startswith(b"A cat sat.\n")
    given = ("--store", str(desk.store))
    assert llmpar("store", "forget", str(desk.document), *given).code == 0
    assert desk.run().out == TEXT.encode()


def test_a_piece_that_failed_has_what_was_said_beside_it(desk: Desk) -> None:
    review = desk.review("r.csv", "--check", "echo")
    rows = list(csv.DictReader(io.StringIO(review.read_text("utf-8-sig"), newline="")))
    first = rows[0]
    assert (first["answer"], first["rejected"]) == ("", "Two dogs ran home.")
    assert first["reason"].startswith("failed: ")
    assert first["reason"].endswith("; kept as it was")


def test_a_run_that_ends_early_leaves_the_old_review(desk: Desk) -> None:
    review = desk.review()
    before = review.read_bytes()
    outcome = desk.run("--review", str(review), "--check", "echo", "--on-error", "fail", "--retries", "0")
    assert outcome.code == 3
    assert review.read_bytes() == before
