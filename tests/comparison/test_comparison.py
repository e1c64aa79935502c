"""Two runs side by side, on small records made by hand whose numbers can be counted with fingers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.program import Outcome

from llmpar.comparison.changes import changes_of, largest
from llmpar.comparison.figures import figures_of
from llmpar.comparison.pairs import match
from llmpar.comparison.records import read_pieces
from llmpar.reporting.kept import Kept

Call = Callable[..., Outcome]


def record(index: int, answer: str | None, **more: Any) -> dict[str, Any]:
    told = {"document": "a.txt", "index": index, "line": index + 1, "source": f"source {index}", "answer": answer}
    return {**told, "finish_reason": "stop", "error": None, **more}


FIRST = [
    record(0, "a cat sat", confidence=0.9, record={"de": "a cat sat"}),
    record(1, "two dogs", confidence=0.5, record={"de": "three dogs ran"}),
    record(2, None, error="the answer is empty", record={"de": "x"}),
    record(3, "good", record={"de": "good"}),
    record(4, "only here"),
    record(5, "same place", source="another source"),
    record(6, "left", confidence=0.8, finish_reason="length", cut=True),
]
SECOND = [
    record(0, "a cat sat", confidence=0.9, record={"de": "a cat sat"}),
    record(1, "three dogs ran", confidence=0.7, record={"de": "three dogs ran"}),
    record(2, "something", record={"de": "x"}),
    record(3, None, error="the answer repeats itself", record={"de": "good"}),
    record(5, "same place"),
    record(6, "left over", confidence=0.3),
    record(7, "only there"),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return written(tmp_path / "one.jsonl", FIRST), written(tmp_path / "two.jsonl", SECOND)


def written(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def test_the_numbers_are_those_that_one_counts(files: tuple[str, str]) -> None:
    first, second = (read_pieces(file, Kept(None)) for file in files)
    matched = match(first, second, "de")
    figures = figures_of(matched, None)
    assert (figures.num_pairs, figures.num_same) == (5, 1)
    assert (figures.num_only_first, figures.num_only_second, figures.num_other_source) == (1, 1, 1)
    assert (figures.checks, figures.confidence, figures.exact) == ((1, 1), (1, 1), (1, 1))
    one, other = figures.sides
    assert (one.num_failed, other.num_failed, one.num_cut, other.num_cut) == (1, 1, 1, 0)
    assert (one.confidence, other.confidence) == (pytest.approx(2.2 / 3), pytest.approx(1.9 / 3))
    assert (figures.num_references, one.num_exact, other.num_exact) == (4, 2, 2)
    listed = largest(changes_of(matched.pairs, None))
    assert [(change.pair.place, change.verdict) for change in listed[:2]] == [
        ("a.txt:3", "better"),
        ("a.txt:4", "worse"),
    ]
    assert [change.verdict for change in listed[2:]] == ["better", "worse"]
    assert [change.size for change in listed] == sorted((change.size for change in listed), reverse=True)


def test_chrf_is_the_librarys(files: tuple[str, str], llmpar: Call) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    outcome = llmpar("compare", *files, "--reference", "de", "--json")
    told = json.loads(outcome.out)
    answers = (["a cat sat", "two dogs", "", "good"], ["a cat sat", "three dogs ran", "something", ""])
    right = ["a cat sat", "three dogs ran", "x", "good"]
    for side, said in zip(told["sides"], answers, strict=True):
        assert side["chrf"] == pytest.approx(metrics.CHRF().corpus_score(said, [right]).score)
    assert told["chrf_signature"].startswith("nrefs:1")
    assert told["changes"][0]["place"] == "a.txt:4"  # all of it was lost
    assert (told["changes"][0]["first_chrf"], told["changes"][0]["second_chrf"]) == (100.0, 0.0)


def test_without_the_library_it_is_named(files: tuple[str, str], llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    outcome = llmpar("compare", *files, "--reference", "de", "--json")
    assert outcome.code == 0
    assert "pip install 'llmpar[compare]'" in outcome.err
    told = json.loads(outcome.out)
    assert [side["num_exact"] for side in told["sides"]] == [2, 2]
    assert [side["chrf"] for side in told["sides"]] == [None, None]


def test_words_for_people(files: tuple[str, str], llmpar: Call) -> None:
    outcome = llmpar("compare", *files, "--show", "1")
    lines = outcome.out.decode().splitlines()
    assert outcome.code == 0
    assert any(line.split() == ["changed", "4"] for line in lines)
    assert any(line.split() == ["failed", "1", "1", "1", "better,", "1", "worse"] for line in lines)
    assert "a.txt:3 (better)" in lines
    assert lines[-1] == "… and 3 more (--show 4)"


def test_a_table_says_the_same_as_records(files: tuple[str, str], tmp_path: Path, llmpar: Call) -> None:
    table = tmp_path / "two.csv"
    rows = ["document,index,line,source,answer,error,confidence"]
    rows += [
        f"b.txt,{one['index']},,{one['source']},{one['answer'] or ''},{one['error'] or ''},{one.get('confidence', '')}"
        for one in SECOND
    ]
    table.write_text("\n".join(rows) + "\n")
    told = [json.loads(llmpar("compare", files[0], other, "--json").out) for other in (files[1], str(table))]
    assert told[0]["checks"] == told[1]["checks"] == {"better": 1, "worse": 1}
    assert told[0]["num_same"] == told[1]["num_same"] == 1
    assert told[0]["confidence"] == told[1]["confidence"]


def test_one_file_and_its_reference(files: tuple[str, str], llmpar: Call) -> None:
    told = json.loads(llmpar("compare", files[0], "--reference", "de", "--json").out)
    assert (told["sides"][0]["num_exact"], told["num_references"]) == (2, 4)
    assert [change["place"] for change in told["changes"]] == ["a.txt:3", "a.txt:2"]
    assert b"Farthest from the reference:" in llmpar("compare", files[0], "--reference", "de").out


def test_logs_of_two_runs(tmp_path: Path, llmpar: Call) -> None:
    (tmp_path / "a.txt").write_text("The cat sat.\nTwo dogs ran home.\n")
    logs = []
    for name, options in (("one", ()), ("two", ("--check", "echo"))):
        logs.append(str(tmp_path / f"{name}.jsonl"))
        llmpar(
            "run", "Say: {text}", "-u", "line", "--engine", "echo", "--store", str(tmp_path / "store"), *options,
            "--log", logs[-1], str(tmp_path / "a.txt"),
        )  # fmt: skip
    told = json.loads(llmpar("compare", *logs, "--store", str(tmp_path / "store"), "--json").out)
    assert (told["num_pairs"], told["num_same"], told["checks"]) == (2, 1, {"better": 0, "worse": 1})
    assert told["changes"][0]["first"] == "Two dogs ran home."
    told = json.loads(llmpar("compare", *logs, "--store", str(tmp_path / "none"), "--json").out)
    assert (told["num_pairs"], told["num_unknown"]) == (0, 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"answer": "a"}\nno json\n{"answer": "b"}\n', "line 2 is no JSON"),
        ('{"other": 1}\n', "line 1 is no record of an answer"),
        ("a,b\n1,2\n", "names no column answer"),
        ("source,answer\na\n", "line 2 has 1 cells"),
        ('source,answer\n"a,b\n', "line 2: a cell's quote is never closed"),
    ],
)
def test_what_is_no_run_is_refused(text: str, complaint: str, tmp_path: Path, llmpar: Call) -> None:
    (tmp_path / "x").write_text(text)
    outcome = llmpar("compare", str(tmp_path / "x"), str(tmp_path / "x"))
    assert (outcome.code, complaint in outcome.err) == (65, True), outcome.err


def test_where_one_run_has_no_places_pieces_are_taken_in_their_order(tmp_path: Path, llmpar: Call) -> None:
    one = written(tmp_path / "one.jsonl", [record(3, "a"), record(4, "b")])
    (tmp_path / "two.csv").write_text("line,answer\n4,a\n5,c\n")
    told = json.loads(llmpar("compare", one, str(tmp_path / "two.csv"), "--json").out)
    assert (told["num_pairs"], told["num_same"]) == (2, 1)


def test_a_name_that_no_record_has_is_answered_with_those_that_there_are(files: tuple[str, str], llmpar: Call) -> None:
    assert "there are: de\n" in llmpar("compare", *files, "--reference", "french").err
    file = llmpar("compare", *files, "--reference", files[1])
    assert (file.code, "a file is not read" in file.err) == (2, True), file.err


def test_what_cannot_be_meant(files: tuple[str, str], tmp_path: Path, llmpar: Call) -> None:
    assert llmpar("compare", files[0]).code == 2
    outcome = llmpar("compare", *files, "--reference", "french")
    assert (outcome.code, "no record has a column or field of this name; there are" in outcome.err) == (2, True)
    other = written(tmp_path / "other.jsonl", [record(99, "x")])
    assert "no piece in common" in llmpar("compare", files[0], other).err
    assert llmpar("compare", files[0], str(tmp_path / "none")).code == 66
    assert llmpar("compare", *files, "--report", files[0]).code == 2


def test_a_page_has_all_pieces_and_hostile_ones_change_nothing(tmp_path: Path, llmpar: Call) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    one = written(tmp_path / "one.jsonl", [record(0, hostile), record(1, "b")])
    two = written(tmp_path / "two.jsonl", [record(0, "a"), record(1, hostile)])
    page = tmp_path / "page.html"
    assert llmpar("compare", one, two, "--report", str(page)).code == 0
    text = page.read_text()
    assert hostile not in text
    assert "alert(1)" in text
    assert text.count("</script>") == 3 == text.count("<script")  # settings, rows, the page's own
    assert "largest change first" in text


def test_a_terminals_controls_are_no_controls(tmp_path: Path, llmpar: Call) -> None:
    file = written(tmp_path / "one.jsonl", [record(0, "\x1b[2Jx"), record(1, "b")])
    other = written(tmp_path / "two.jsonl", [record(0, "\x1b]0;y\x07"), record(1, "c")])
    assert b"\x1b" not in llmpar("compare", file, other).out
