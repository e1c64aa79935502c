"""What a person gives back → corrections in the store: all of them, or none if one row is not what it must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llmpar.documents.document import PERSON
from llmpar.documents.layout import NEWLINE
from llmpar.documents.marks import Mark, find_lost_mark, marks_in, without_marks
from llmpar.errors import setting
from llmpar.review import catalogue, table
from llmpar.review.key import RowKey, answer_hash, read
from llmpar.review.row import Returned
from llmpar.store.answer import Correction
from llmpar.store.keys import key_in
from llmpar.store.store import Store
from llmpar.tasks.checks import find_fault

_BINDING = ("empty", "invariants")  # checks that refuse a correction; the others are said


@dataclass(frozen=True, slots=True)
class Change:
    """A correction that a row makes: its line, what it is about, and the remarks on it that refuse nothing."""

    line: int
    source: str
    correction: Correction
    remark: str = ""


@dataclass(slots=True)
class Reading:
    """What a file comes to: what it changes, and what is wrong with it.

    Args:
        changes: what the store does not say already.
        refused: why rows cannot be taken in, each with its line.
        num_unchanged: how many rows say what the run wrote.
        num_known: how many corrections the store has already.
        num_replaced: how many take the place of an earlier correction that says something else.
    """

    changes: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    num_unchanged: int = 0
    num_known: int = 0
    num_replaced: int = 0


def rows_of(text: str, suffix: str) -> Iterator[Returned]:
    """Return the rows of a review that a person gives back.

    Args:
        text: the file's.
        suffix: its name's end; "" to go by the text.

    Raises:
        ValueError: it is no review. The message begins with the line, if it is about one.
    """
    is_catalogue = suffix == ".po" or (not suffix and "\nmsgid " in f"\n{text}")
    return catalogue.returned(text) if is_catalogue else table.returned(text)


def read_corrections(rows: Iterator[Returned], store: Store | None, *, by_force: bool = False) -> Reading:
    """Return what the rows of a review change.

    Args:
        rows: the rows.
        store: where answers are kept; None for a store that is not there yet.
        by_force: take what the store knows nothing of, and answers that lack what must survive. Marks must be there
            all the same.

    Raises:
        ValueError: it is no review.
        StoreUnusable: the store cannot be read.
    """
    found = Reading()
    taken: dict[tuple[bytes, bytes], tuple[int, str]] = {}  # the line and the answer of each piece
    for row in rows:
        try:
            key, written = read(row.key, row.source)
            if answer_hash(row.answer) == written:
                found.num_unchanged += 1
                continue
            answer = NEWLINE.sub("\n", row.answer).strip()
            line, first = taken.setdefault((key.job, key.question), (row.line, answer))
            if line != row.line and first == answer:
                continue
            change = _change(row, key, answer, store, by_force=by_force)
        except ValueError as error:
            found.refused.append(f"line {row.line}: {error}")
            continue
        if line != row.line:
            found.refused.append(
                f"line {row.line}: corrects the piece of line {line} in another way; leave one of them"
            )
            continue
        known = store.find([key.question]).get(key.question) if store else None
        if known and known[0].text == answer:
            found.num_known += 1
        else:
            found.num_replaced += bool(known)
            found.changes.append(change)
    return found


def _change(row: Returned, key: RowKey, answer: str, store: Store | None, *, by_force: bool) -> Change:
    """Return the change that a row makes.

    Raises:
        ValueError: it cannot be made. The message is the end of a sentence.
    """
    if not key.job:
        raise ValueError("no answer can stand for this piece, as the reason beside it says")
    asked = store.asked_under(key.known) if store and key.known else None
    if key.known and asked is None and not by_force:
        raise ValueError(
            f"the store knows nothing of this piece; name the store of that run, or give {setting('force')}"
        )
    marks = marks_in(row.source, key.first_mark)
    remark = _fault(row.source, answer, marks, key.checks, by_force=by_force)
    if asked and (fault := _fault_of_form(answer, asked[0])):
        raise ValueError(fault)
    text = asked[1] if asked else None
    if key_in(key.job, row.source) == key.question:
        text = row.source
    elif text is not None and key_in(key.job, text) != key.question:
        text = None
    return Change(row.line, row.source, Correction(key.job, key.question, text, answer, PERSON), remark)


def _fault(source: str, answer: str, marks: tuple[Mark, ...], checks: frozenset[str], *, by_force: bool) -> str:
    """Return what the task's checks say of an answer that can be taken all the same, "" for nothing."""
    if lost := find_lost_mark(source, answer, marks):
        raise ValueError(f"the answer {lost}; each mark of the source must be there once")
    said, about = without_marks(answer, marks), without_marks(source, marks)
    if fault := find_fault(checks.intersection(_BINDING), about, said, "stop"):
        if not by_force:
            raise ValueError(f"{fault}; correct it, or give {setting('force')}")
        return fault
    return find_fault(checks.difference(_BINDING), about, said, "stop") or ""


def _fault_of_form(answer: str, description: Mapping[str, object] | None) -> str | None:
    """Return why an answer is not of the form that was asked for; None if it is, or if nothing tells the form."""
    task = description.get("task") if description else None
    form = task.get("form") if isinstance(task, dict) else None
    if not isinstance(form, list):
        return None
    choices, schema = form
    if choices:
        return None if answer in choices else f"the answer is none of the choices ({', '.join(choices)})"
    from llmpar.models.grammar import fulfils

    return None if fulfils(schema, answer) else "the answer is no JSON of the schema"
