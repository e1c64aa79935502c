"""What a page shows of a piece, from a line of the log alone."""

from __future__ import annotations

import math

from llmpar.reporting.pieces import COLUMNS, Attempt, Piece, Totals

RECORD = {
    "document": "a.txt",
    "line": 3,
    "attempts": 1,
    "finish_reason": "stop",
    "error": None,
    "prompt_tokens": 7,
    "output_tokens": 5,
    "cached": False,
}


def values(piece: Piece) -> dict[str, object]:
    return dict(zip(COLUMNS, piece.row(), strict=True))


def test_what_the_log_does_not_say_is_empty_and_no_number_is_infinite() -> None:
    row = values(Piece(RECORD | {"min_logprob": -math.inf, "confidence": math.nan, "unknown": 1}, None, "x"))
    assert (row["place"], row["source"], row["answer"]) == ("a.txt:3", None, "x")
    assert (row["min_logprob"], row["confidence"], row["worker"], row["finished"]) == (None, None, None, None)


def test_confidence_passes_where_it_is_known() -> None:
    scores = {"confidence": 0.25, "mean_logprob": -1.4, "min_logprob": -3.0, "probabilities": {"A": 0.25, "B": 0.75}}
    row = values(Piece(RECORD | scores, "a", "A"))
    assert {name: row[name] for name in scores} == scores


def test_a_label_is_a_place_and_attempts_stand_in_order() -> None:
    others = (Attempt(0, "one", "loop"), Attempt(1, "two", "length"))
    row = values(Piece(RECORD | {"label": "all documents, step 2", "attempts": 3}, "a", "b", others))
    assert row["place"] == "all documents, step 2"
    assert row["others"] == [[0, "one", "loop"], [1, "two", "length"]]


def test_totals_count_each_piece_as_what_it_is() -> None:
    totals = Totals("message")
    for record in (
        {},
        {"confidence": 0.1},
        {"error": "is empty", "attempts": 2},
        {"attempts": 2},
        {"finish_reason": "length", "cut": True},
        {"cached": True, "attempts": 2},
        {"cached": True, "repeated": True},
        {"finish_reason": "kept", "output_tokens": 0, "prompt_tokens": 0},
    ):
        totals.add(Piece({**RECORD, **record}, "a", None if record.get("repeated") else "b"))
    assert [(fact.name, fact.value, fact.tone) for fact in totals.facts()] == [
        ("Messages", "8", ""),
        ("Failed", "1", "bad"),
        ("Cut at the limit", "1", "poor"),
        ("Good after another attempt", "1", ""),
        ("Left as they were", "1", ""),
        ("From the store", "1", ""),
        ("Repeated", "1", ""),
        ("Confidence below 50%", "1", "poor"),
        ("Tokens read", "35", ""),
        ("Tokens written", "25", ""),
    ]
    assert totals.lacks() == "of 1 message the answer was not kept"
    assert Totals().lacks() == ""
