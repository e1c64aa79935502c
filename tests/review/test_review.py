"""The order of a review: what is most in doubt comes first, with the reason."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from llmpar.documents.document import Result, text_document, text_segment
from llmpar.errors import UsageError
from llmpar.review.doubt import Rank, doubt_of
from llmpar.review.review import Review


def result(number: int, answer: str = "answer", **more: object) -> Result:
    segment = text_segment(text_document("a.txt"), f"source {number}", number, f"a.txt:{number}")
    return Result(segment, answer, asked=(bytes(32), number.to_bytes(32, "big")), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "rank", "reason"),
    [
        (result(1), Rank.NONE, ""),
        (result(1, error="the answer is empty"), Rank.FAILED, "failed: the answer is empty; kept as it was"),
        (result(1, cut=True, num_attempts=2), Rank.CUT, "cut at the limit; repaired: good at attempt 2"),
        (result(1, num_attempts=3), Rank.REPAIRED, "repaired: good at attempt 3"),
        (
            result(1, finish_reason="parts", num_attempts=2),
            Rank.REPAIRED,
            "repaired: put together from answers to what stands between its marks",
        ),
        (result(1, finish_reason="kept"), Rank.UNCHANGED, "kept as it was: no model was asked"),
        (result(1, "source 1"), Rank.UNCHANGED, "kept as it was: the answer says the same"),
        (result(1, "source 1", finish_reason="person"), Rank.CORRECTED, "corrected by a person"),
    ],
)
def test_reasons(given: Result, rank: Rank, reason: str) -> None:
    doubt = doubt_of(given, "keep")
    assert (doubt.rank, doubt.reason) == (rank, reason)


def test_little_confidence_is_a_reason() -> None:
    assert doubt_of(result(1, mean_logprob=math.log(0.49)), "keep").reason == "low confidence"
    assert doubt_of(result(1, mean_logprob=math.log(0.51)), "keep").reason == ""


def written(path: Path, results: list[Result]) -> list[dict[str, str]]:
    review = Review(path, "keep", keeps=True)
    for one in results:
        review.add(one)
    review.finish()
    review.abandon()
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def test_what_is_most_in_doubt_comes_first(tmp_path: Path) -> None:
    results = [
        result(0), result(1, num_attempts=2), result(2, error="x"), result(3, "source 3"), result(4, cut=True),
        *(result(number, mean_logprob=math.log(share)) for number, share in ((5, 0.9), (6, 0.3), (7, 0.2), (8, 0.7))),
    ]  # fmt: skip
    rows = written(tmp_path / "r.csv", results)
    assert [row["place"][-1] for row in rows] == ["2", "4", "1", "7", "6", "3", "8", "5", "0"]
    assert [row["confidence"] for row in rows] == ["", "", "", "0.200", "0.300", "", "0.700", "0.900", ""]


def test_a_piece_that_comes_again_has_one_row_with_its_places(tmp_path: Path) -> None:
    results = [result(7) for _ in range(5)]
    (row,) = written(tmp_path / "r.csv", results)
    assert row["place"] == "a.txt:7, a.txt:7, a.txt:7 and 2 more"


def test_until_it_is_finished_the_old_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old")
    review = Review(path, "keep", keeps=True)
    review.add(result(1))
    assert path.read_text() == "old"
    review.abandon()
    assert [one.name for one in tmp_path.iterdir()] == ["r.csv"]
    assert path.read_text() == "old"


def test_its_name_says_what_it_becomes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv or \.tsv"):
        Review(tmp_path / "r.xlsx", "keep", keeps=True)
