"""`llmpar translate --terms`: one form of each name in the whole text, whatever a model would say to each piece."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome

from llmpar.answering.backend import Backend
from llmpar.answering.echo import Echo
from llmpar.answering.local import Codec, LocalBackend
from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.tasks.question import Prompt

Program = Callable[..., Outcome]
NAMES = [
    "Aldous", "Brenna Holt", "Carrowmore", "Dervla", "Eastrigg", "Fenwick Hall", "Gormley", "Hesper", "Ilse Brandt",
    "Jorvik", "Kestrel Bay", "Lorcan", "Marwick", "Nessa", "Orla Finch", "Pendle", "Quillon", "Rosheen", "Stravaig",
    "Tamsin Reed",
]  # fmt: skip
COMMAND = ("translate", "--to", "Danish", "--engine", "echo")
SHOWN = re.compile(r"^Use these terms: (.*)$", re.MULTILINE)


def document(num_sentences: int = 200) -> str:
    draw = random.Random(4)
    frames = [
        "Nobody could say when {0} had met {1} for the first time.",
        "{0} went to the harbour, and {1} followed a little later.",
        "In the evening a letter from {0} reached the house.",
        "The old road leads from {1} to the sea, as everybody there knows.",
        "It rained for three days, and nobody left the house.",
    ]
    said = [draw.choice(frames).format(*draw.sample(NAMES, 2)) for _ in range(num_sentences)]
    return "\n\n".join(" ".join(said[start : start + 5]) for start in range(0, num_sentences, 5)) + "\n"


def chance(name: str, prompt: str) -> str:
    """Return one of three translations of a name; which, follows from all of the prompt."""
    digest = hashlib.sha256(f"{name}:{prompt}".encode()).digest()
    return turned(name) + ("us", "ix", "or")[digest[0] % 3]


def turned(name: str) -> str:
    return name.replace(" ", "")[::-1].capitalize()


class Model:
    """Translates names in three ways by chance, unless it is shown a translation, and all else by turning words."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.silent: tuple[str, ...] = ()

    def open(self, echo: Echo) -> Backend:
        runners = [EchoRunner(4) for _ in range(echo._choice.threads or 1)]
        codec = Codec(lambda prompt: self.answer(prompt).encode(), lambda ids: bytes(ids).decode())
        return LocalBackend(Engine(runners, 1 << 20), codec)

    def answer(self, prompt: Prompt) -> str:
        told = prompt.messages[-1][1]
        with self.lock:
            self.asked.append(prompt.text)
        if "name or a term in common" in told:
            return "" if prompt.text in self.silent else chance(prompt.text, told)
        shown = SHOWN.search(told)
        terms = dict(term.split(" = ") for term in shown[1].split("; ")) if shown else {}
        text = prompt.text
        for name in [*sorted(terms, key=len, reverse=True), *NAMES]:
            text = text.replace(name, terms.get(name) or chance(name, told))
        return re.sub(r"\b[a-z]+\b", lambda word: word[0][::-1], text)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(Echo, "open", lambda echo, _: made.open(echo))
    return made


@pytest.fixture
def translate(llmpar: Program, tmp_path: Path, model: Model) -> Callable[..., Outcome]:
    source = tmp_path / "in.txt"
    source.write_text(document())

    def call(*options: str, stdin: bytes | None = None) -> Outcome:
        model.asked.clear()
        store = () if "--no-store" in options else ("--store", str(tmp_path / "store"))
        inputs = () if stdin is not None else (str(source),)
        return llmpar(*COMMAND, *store, *options, *inputs, stdin=stdin)

    return call


Translate = Callable[..., Outcome]


def forms(text: str) -> dict[str, set[str]]:
    """Return in which forms each name stands in a text."""
    return {name: set(re.findall(rf"{turned(name)}(?:us|ix|or)", text)) for name in NAMES}


def rows(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_text("utf-8"))))


def test_names_have_one_form_each(translate: Translate, tmp_path: Path) -> None:
    plain = forms(translate("--no-store").out.decode())
    assert sum(len(found) == 3 for found in plain.values()) > 10, "the model would translate them in several ways"
    outcome = translate("--terms", str(tmp_path / "terms.csv"))
    assert outcome.code == 0, outcome.err
    found = forms(outcome.out.decode())
    assert {len(one) for one in found.values()} == {1}
    head, *terms = rows(tmp_path / "terms.csv")
    assert head == ["source", "target"]
    assert terms == sorted(terms, key=lambda row: row[0].casefold())
    assert {name: target for name, target in terms if name in NAMES} == {name: min(one) for name, one in found.items()}
    assert outcome.err.count("piece") == 1, "terms are no pieces of the document"


@pytest.mark.parametrize("piped", [False, True])
def test_the_number_of_threads_decides_nothing(translate: Translate, tmp_path: Path, piped: bool) -> None:
    found = set()
    for threads in ("1", "8"):
        file = tmp_path / f"terms-{threads}.csv"
        stdin = document().encode() if piped else None
        outcome = translate("--terms", str(file), "-j", threads, "--no-store", stdin=stdin)
        found.add((outcome.code, outcome.out, file.read_bytes()))
    assert len(found) == 1
    assert min(found)[0] == 0


def test_a_corrected_row_is_kept_and_only_its_pieces_are_computed_again(
    translate: Translate, tmp_path: Path, model: Model
) -> None:
    file = tmp_path / "terms.csv"
    first = translate("--terms", str(file))
    assert translate("--terms", str(file)).out == first.out
    assert model.asked == []
    before = file.read_bytes()
    row = next(line for line in before.splitlines(keepends=True) if line.startswith(b"Dervla,"))
    corrected = before.replace(row, b'Dervla,"Dearbhla"\n')
    file.write_bytes(corrected)
    second = translate("--terms", str(file))
    assert file.read_bytes() == corrected
    assert "Dearbhla" in second.out.decode()
    assert not forms(second.out.decode())["Dervla"]
    holding = {text for text in re.split(r"(?<=\.)\s+", document()) if "Dervla" in text}
    assert set(model.asked) == holding
    assert Counter(model.asked).most_common(1)[0][1] == 1
    others = [line for line in first.out.decode().split(".") if "Alvred" not in line]
    assert all(line in second.out.decode() for line in others)


def test_the_file_alone(translate: Translate, tmp_path: Path, model: Model) -> None:
    file = tmp_path / "terms.csv"
    outcome = translate("--terms", str(file), "--terms-only")
    assert (outcome.code, outcome.out) == (0, b"")
    assert {row[0] for row in rows(file)[1:]} >= set(NAMES)
    assert all(len(text) < 40 for text in model.asked), "nothing of the document is translated"
    assert f"{len(rows(file)) - 1} terms" in outcome.err
    out = tmp_path / "out"
    assert translate("--terms", str(file), "--terms-only", "-o", str(out)).code == 0
    assert not out.exists()


def test_a_glossary_wins(translate: Translate, tmp_path: Path) -> None:
    glossary, file = tmp_path / "glossary.csv", tmp_path / "terms.csv"
    glossary.write_text("Dervla,Dearbhla\nLorcan,Lorcán\n")
    file.write_text("Lorcan,Larry\n")
    text = translate("--terms", str(file), "--glossary", str(glossary)).out.decode()
    assert ("Dearbhla" in text, "Lorcán" in text, "Larry" in text) == (True, True, False)
    found = {row[0]: row[1] for row in rows(file)}
    assert "Dervla" not in found, "what the glossary says is asked nobody"
    assert found["Lorcan"] == "Larry"


def test_a_term_without_a_translation_is_told(translate: Translate, tmp_path: Path, model: Model) -> None:
    model.silent = ("Dervla",)
    file = tmp_path / "terms.csv"
    outcome = translate("--terms", str(file))
    assert outcome.code == 0
    assert "no translation came of 1 term: Dervla" in outcome.err
    assert "term Dervla" in outcome.err
    assert "Dervla" not in {row[0] for row in rows(file)}
    assert translate("--terms", str(file), "--terms-only", "--refresh").code == 3


def test_what_cannot_be_meant(translate: Translate, llmpar: Program, tmp_path: Path) -> None:
    file, pipe = tmp_path / "terms.csv", tmp_path / "pipe"
    os.mkfifo(pipe)
    refused = [
        (translate("--terms-only"), "--terms-only needs --terms"),
        (translate("--terms", str(tmp_path / "in.txt")), "is also an input"),
        (translate("--terms", str(file), "--glossary", str(file)), "is also"),
        (translate("--terms", str(file), "-o", str(file)), "is also"),
        (translate("--terms", "/dev/null"), "is no regular file"),
        (
            llmpar("translate", "--to", "da", "--engine", "echo", "--terms", str(file), str(pipe)),
            "reads its inputs twice",
        ),
    ]
    for outcome, reason in refused:
        assert (outcome.code, reason in outcome.err) == (2, True), outcome.err
    assert not file.exists()
    file.write_text("one,two\nthree\n")
    outcome = translate("--terms", str(file))
    assert (outcome.code, "terms.csv:2" in outcome.err) == (65, True)
    assert file.read_text() == "one,two\nthree\n"


def test_a_count_beforehand_writes_nothing(translate: Translate, tmp_path: Path) -> None:
    file = tmp_path / "terms.csv"
    outcome = translate("--terms", str(file), "--dry-run")
    assert (outcome.code, file.exists(), b"pieces (sentences)" in outcome.out) == (0, False, True)


def test_a_text_without_terms(translate: Translate, tmp_path: Path) -> None:
    file = tmp_path / "terms.csv"
    outcome = translate("--terms", str(file), stdin=b"It rains.\n")
    assert (outcome.code, outcome.out, file.exists()) == (0, b"It sniar.\n", False)
    assert translate("--terms", str(file), stdin=b"").out == b""


def test_stdin_from_a_pipe_is_read_twice(shell: Callable[..., object], tmp_path: Path) -> None:
    file = tmp_path / "terms.csv"
    text = document(50).encode()
    options = ("--to", "Danish", "--engine", "echo", "--check", "none", "-q", "--terms", str(file))
    outcome = shell("translate", *options, input=text)
    assert outcome.stdout == text  # type: ignore[attr-defined]
    assert len(rows(file)) > 10
