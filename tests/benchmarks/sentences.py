"""Where sentences end, measured: boundaries of treebanks (CoNLL-U files that the user names), golden rules, and speed.

    python tests/benchmarks/sentences.py boundaries en_ewt-ud-test.conllu de_gsd-ud-test.conllu --wrong 5
    python tests/benchmarks/sentences.py golden pySBD/tests/lang/test_*.py
    python tests/benchmarks/sentences.py speed novel.txt

A treebank's sentences are joined by one space, those of Chinese and Japanese by nothing. Where the bank marks
paragraphs (`# newpar`), each is a text of its own; else all of the bank is one text. The end of a text is no boundary
to find. Precision, recall and F1 are counted over the other ends. nltk's Punkt stands beside llmpar, and so do
those of `--peers` (pysbd, syntok, blingfire, spacy) that this interpreter can import.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmpar.documents.sentences import LANGUAGES, load_punkt, sentence_spans

Spans = Callable[[str], list[tuple[int, int]]]
WITHOUT_SPACES = ("zh", "ja")
NAMES = {code: name for name, code in LANGUAGES.items()}
FROM_PYSBD = {"deutsch": "german"}


def texts(path: Path, glue: str) -> Iterator[list[str]]:
    """Yield the sentences of each text of a CoNLL-U file."""
    sentences: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# newpar") and sentences:
            yield sentences
            sentences = []
        elif line.startswith("# text = "):
            sentences.append(line.removeprefix("# text = ").strip())
    if sentences:
        yield sentences


def ends(text: str, spans: list[tuple[int, int]]) -> set[int]:
    """Return where sentences end, counted in characters that are no white space, but for the text's own end."""
    places = []
    before = [0]
    for char in text:
        before.append(before[-1] + (not char.isspace()))
    places = {before[end] for _, end in spans}
    return places - {before[-1]}


@dataclass
class Score:
    """What one tool found in one bank."""

    right: int = 0
    found: int = 0
    wanted: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        return 100 * self.right / max(self.found, 1)

    @property
    def recall(self) -> float:
        return 100 * self.right / max(self.wanted, 1)

    @property
    def f1(self) -> float:
        return 200 * self.right / max(self.found + self.wanted, 1)


def shape(token: str) -> str:
    """Return a word's kind: what it begins with, and which marks it ends with."""
    kept = re.sub(r"\d+", "0", token)
    kept = re.sub(r"[^\W\d_]+", lambda word: ("Aa" if len(word[0]) > 1 else "A") if word[0][0].isupper() else "a", kept)
    return kept[-4:] if len(kept) > 4 else kept


def note(score: Score, text: str, gold: set[int], found: set[int]) -> None:
    places = [i for i, char in enumerate(text) if not char.isspace()]
    for sign, wrong in (("missed", gold - found), ("false", found - gold)):
        for end in wrong:
            place = places[end - 1] + 1
            before, after = text[max(0, place - 40) : place], text[place : place + 40]
            kind = f"{sign}: {shape((before.split() or [''])[-1])} | {shape((after.split() or [''])[0])[:2]}"
            score.kinds[kind] += 1
            score.examples.setdefault(kind, []).append(f"{before}|{after}".replace("\n", " "))


def measure(spans: Spans, paragraphs: list[list[str]], glue: str, *, wrong: bool) -> Score:
    """Return how well `spans` finds the borders of these sentences."""
    score = Score()
    for sentences in paragraphs:
        text = glue.join(sentences)
        gold_spans, at = [], 0
        for sentence in sentences:
            gold_spans.append((at, at + len(sentence)))
            at += len(sentence) + len(glue)
        began = time.process_time()
        found_spans = spans(text)
        score.seconds += time.process_time() - began
        gold, found = ends(text, gold_spans), ends(text, found_spans)
        score.right += len(gold & found)
        score.found += len(found)
        score.wanted += len(gold)
        if wrong:
            note(score, text, gold, found)
    return score


def ours(code: str) -> Spans:
    language = NAMES.get(code, "english")  # what --language auto comes to where Punkt has no model
    return lambda text: list(sentence_spans(text, language))


def punkt(code: str) -> Spans:
    tokenizer = load_punkt(NAMES.get(code, "english"))
    return lambda text: list(tokenizer.span_tokenize(text))


def located(sentences: list[str], text: str) -> list[tuple[int, int]]:
    """Return where sentences stand that a tool gives without places, whatever white space it changed."""
    places = [i for i, char in enumerate(text) if not char.isspace()]
    spans, at = [], 0
    for sentence in sentences:
        length = sum(not char.isspace() for char in sentence)
        if length and at + length <= len(places):
            spans.append((places[at], places[at + length - 1] + 1))
            at += length
    return spans


def pysbd(code: str) -> Spans | None:
    module = importlib.import_module("pysbd")
    known = importlib.import_module("pysbd.languages").LANGUAGE_CODES
    segmenter = module.Segmenter(language=code if code in known else "en", clean=False)
    return lambda text: located(segmenter.segment(text), text)


def syntok(code: str) -> Spans | None:
    module = importlib.import_module("syntok.segmenter")

    def spans(text: str) -> list[tuple[int, int]]:
        return [
            (sentence[0].offset, sentence[-1].offset + len(sentence[-1].value))
            for paragraph in module.analyze(text)
            for sentence in paragraph
            if sentence
        ]

    return spans


def blingfire(code: str) -> Spans | None:
    module = importlib.import_module("blingfire")
    return lambda text: located(module.text_to_sentences(text).split("\n"), text)


def spacy(code: str) -> Spans | None:
    try:
        nlp = importlib.import_module("spacy").blank(code)
    except ImportError:  # it needs another package for this language
        return None
    nlp.add_pipe("sentencizer")
    nlp.max_length = 10**9
    return lambda text: [(sentence.start_char, sentence.end_char) for sentence in nlp(text).sents]


PEERS: dict[str, Callable[[str], Spans | None]] = {
    "pysbd": pysbd, "syntok": syntok, "blingfire": blingfire, "spacy": spacy,
}  # fmt: skip


def boundaries(arguments: argparse.Namespace) -> None:
    tools: dict[str, Callable[[str], Spans | None]] = {"llmpar": ours, "Punkt": punkt}
    tools |= {name: PEERS[name] for name in arguments.peers}
    f1s: dict[str, list[float]] = {name: [] for name in tools}
    print(f"{'bank':<22} {'tool':<10} {'F1':>6} {'precision':>9} {'recall':>6} {'seconds':>7}")
    for path in arguments.files:
        code = arguments.language or path.name.partition("_")[0]
        glue = "" if code in WITHOUT_SPACES else " "
        paragraphs = list(texts(path, glue))
        paragraphs = {
            "all": paragraphs, "first": half(paragraphs, first=True), "second": half(paragraphs, first=False)
        }[arguments.half]  # fmt: skip
        for name, make in tools.items():
            spans = make(code)
            if spans is None:
                continue
            score = measure(spans, paragraphs, glue, wrong=bool(arguments.wrong) and name == "llmpar")
            f1s[name].append(score.f1)
            print(
                f"{path.name[:22]:<22} {name:<10} {score.f1:6.2f} {score.precision:9.2f} {score.recall:6.2f}"
                f" {score.seconds:7.2f}",
                flush=True,
            )
            for kind, count in score.kinds.most_common(arguments.wrong):
                print(f"    {count:4} {kind}")
                for example in score.examples[kind][: arguments.examples]:
                    print(f"           {example}")
    for name, values in f1s.items():
        if values:
            print(f"{'mean of ' + str(len(values)):<22} {name:<10} {sum(values) / len(values):6.2f}")


def half(paragraphs: list[list[str]], *, first: bool) -> list[list[str]]:
    """Return one half of a bank that has no part for tuning."""
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph]
    middle = len(sentences) // 2
    return [sentences[:middle] if first else sentences[middle:]]


def cases(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the texts of a file of pySBD's tests that are splitted without cleaning, with their sentences."""
    for node in ast.parse(path.read_text("utf-8")).body:
        name = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(name, ast.Name) and ("GOLDEN" in name.id or "MORE" in name.id) and isinstance(node, ast.Assign):
            for case in getattr(node.value, "elts", ()):
                text, expected = case.args[:2] if isinstance(case, ast.Call) else case.elts[:2]  # pytest.param(…)
                yield ast.literal_eval(text), [sentence.strip() for sentence in ast.literal_eval(expected)]


def golden(arguments: argparse.Namespace) -> None:
    total = passed = 0
    for path in arguments.files:
        name = path.stem.removeprefix("test_")
        name = FROM_PYSBD.get(name, name)
        language = name if name in LANGUAGES else "english"
        num = good = 0
        for text, expected in cases(path):
            found = [text[start:end] for start, end in sentence_spans(text, language)]
            num += 1
            if found == expected:
                good += 1
            elif arguments.wrong:
                print(f"    {found}\n    {expected}\n")
        print(f"{name:<12} {good:3} of {num}")
        total, passed = total + num, passed + good
    print(f"{'all':<12} {passed:3} of {total}")


def speed(arguments: argparse.Namespace) -> None:
    for path in arguments.files:
        text = path.read_text("utf-8")
        paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
        size = sum(len(paragraph.encode()) for paragraph in paragraphs)
        code = arguments.language or "en"
        for name, make in (("llmpar", ours), ("Punkt", punkt)):
            spans = make(code)
            assert spans is not None
            spans("A first one. It loads what is loaded once.")
            best = 1e9
            for _ in range(arguments.rounds):
                began = time.process_time()
                count = sum(len(spans(paragraph)) for paragraph in paragraphs)
                best = min(best, time.process_time() - began)
            print(f"{path.name:<22} {name:<10} {size / best / 1e6:6.2f} MB/s, {count} sentences")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, run in (("boundaries", boundaries), ("golden", golden), ("speed", speed)):
        part = parts.add_parser(name)
        part.set_defaults(run=run)
        part.add_argument("files", type=Path, nargs="+")
        part.add_argument("--wrong", type=int, default=0, help="how many kinds of wrong breaks are shown")
        part.add_argument("--examples", type=int, default=2, help="how many of each kind")
        part.add_argument("--language", help="a code; that of the file's name otherwise")
        part.add_argument("--peers", type=lambda text: text.split(","), default=[])
        part.add_argument("--half", choices=("all", "first", "second"), default="all")
        part.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
