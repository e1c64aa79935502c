"""What becomes of the prompts of built-in tasks when they are worded otherwise: answers counted, by no judge model.

Run it with llmpar's interpreter:

    python tests/benchmarks/prompts.py --tasks translate,ask --threads 2 --markdown prompts.md

A variant is a task file, prompts/TASK/NAME.toml. "general" is the built-in task as capable models get it, "built-in" as
this model does. All are put to the model greedily, once, without retries, through the product's own session; the store
keeps their answers, so that only what was reworded takes time.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from harness.table import markdown_table

from llmpar.answering.attempts import Policy
from llmpar.answering.choice import ModelChoice, open_model
from llmpar.answering.session import Session
from llmpar.documents.document import Block, Result, Segment, Unit, text_document, text_segment
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.language import detect
from llmpar.documents.segments import read_segments
from llmpar.jobs import asking
from llmpar.jobs.passages import Ranking
from llmpar.jobs.segmenting import pack, with_neighbours
from llmpar.models.registry import DEFAULT_MODEL
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import Report
from llmpar.store.store import Store
from llmpar.tasks import summary, translation
from llmpar.tasks.checks import find_fault
from llmpar.tasks.files import find_task
from llmpar.tasks.glossary import Glossary
from llmpar.tasks.invariants import find_lost
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task

_HERE = Path(__file__).parent
_VARIANTS = _HERE / "prompts"
_SAMPLES = _HERE.parent.parent / "sample_data"
_NOWHERE = text_document("sample")
_MODEL_CHECKS = frozenset({"empty", "loop", "length"})
_TRANSLATION_CHECKS = _MODEL_CHECKS | {"echo", "preamble", "ratio"}
_NUM_WRONG = 5  # passages that do not answer a question, the likeliest by their words
_WORDS = re.compile(r"\w+(?:[.,]\d+)*")
_LONG = 4  # letters; shorter words say little of what a text is about
_NUMBERS = {
    **{
        word: str(number)
        for number, word in enumerate(
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
        )
    },
    "twice": "2",
    "thirty": "30",
    "sixty": "60",
    "ninety": "90",
}
_ABOUT_ITSELF = re.compile(
    r"\W*(?:(?:the|this|these)\s+(?:following\s+)?(?:provided\s+)?(?:given\s+)?"
    r"(?:text|passage|article|story|summar|author|document|excerpt|handbook|input)|here\s+(?:is|are)\b"
    r"|in\s+(?:this|the)\s+(?:text|passage|article)|(?:sure|certainly)\b|(?:a\s+)?summary\b|in\s+summary)",
    re.IGNORECASE,
)
_TO_FILL_IN = re.compile(
    r"\[[^\]\n]*(?:name|date|number|company|address|title|email|phone|signature|your|insert)[^\]\n]*\]|\{[a-z_ ]+\}"
    r"|<[a-z _]+>",
    re.IGNORECASE,
)

Row = dict[str, float]
"""What was measured of one variant, by the name of its column; shares are from 0 to 1."""
Measure = Callable[[Session, Task, bool], Row]
"""Its last argument tells whether the samples are those that no wording was chosen on."""


@dataclass(frozen=True)
class Comparison:
    """A task's variants, and what is measured of each; `has_more` says whether there are samples to hold out."""

    task: str
    measure: Measure
    prepare: Callable[[Task], Task] = lambda task: task
    has_more: bool = True


def main() -> int:
    options = _options()
    if unknown := set(options.tasks) - {comparison.task for comparison in _COMPARISONS}:
        sys.exit(f"--tasks: no such task: {', '.join(sorted(unknown))}")
    model = open_model(ModelChoice(options.model, threads=options.threads), Progress("none", "prompts", Report()))
    sections: list[str] = []
    with Session(model, Store(), Sampling(max_repeats=0), Policy(retries=0), Report(), examples=()) as session:
        for comparison in _COMPARISONS:
            if comparison.task in options.tasks and (comparison.has_more or not options.held_out):
                section = _compare(comparison, session, options)
                print(section + "\n", flush=True)
                sections.append(section)
        session.flow.close()
    if options.markdown:
        options.markdown.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="as llmpar's --model")
    add("--tasks", type=_words, default=[comparison.task for comparison in _COMPARISONS], help="which are compared")
    add("--only", default="", metavar="WORD", help="the variants whose name has it")
    add("--threads", type=int, default=2, help="as llmpar's")
    add("--held-out", action="store_true", help="ask about samples that no wording was chosen on, where there are some")
    add("--show", type=int, default=0, metavar="N", help="print so many answers of each variant")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _compare(comparison: Comparison, session: Session, options: argparse.Namespace) -> str:
    rows = []
    header: list[str] = []
    for name, task in _variants(comparison):
        if options.only not in name:
            continue
        shown.left = options.show
        if options.show:
            print(f"--- {comparison.task}: {name}", flush=True)
        row = comparison.measure(session, comparison.prepare(task), options.held_out)
        header = list(row)
        rows.append([name, *(_figure(column, value) for column, value in row.items())])
    return f"{comparison.task}\n\n" + markdown_table(["variant", *header], rows)


def _variants(comparison: Comparison) -> Iterator[tuple[str, Task]]:
    builtin = find_task(comparison.task)
    yield "built-in", builtin
    if builtin.families:
        yield "general", replace(builtin, families=())
    for file in sorted((_VARIANTS / comparison.task).glob("*.toml")):
        yield file.stem, replace(find_task(str(file)), unit=builtin.unit)


def _figure(column: str, value: float) -> str:
    return f"{value:.1f}" if "words" in column or "×" in column else f"{value:.0%}"


class _Shown:
    """Prints the first few answers of a variant."""

    left = 0

    def take(self, results: Iterable[Result]) -> None:
        for result in islice(results, self.left):
            print(f"[{result.finish_reason}] {result.segment.text[:300]!r}\n    {result.answer!r}", flush=True)
        self.left = 0


shown = _Shown()


def _ask(session: Session, questions: Iterable[Question]) -> list[Result]:
    pending = [session.flow.submit(question) for question in questions]
    results = [session.flow.result(each) for each in pending]
    shown.take(results)
    return results


def _blocks(name: str, unit: Unit) -> Iterator[tuple[Block, list[Segment]]]:
    yield from read_segments(0, str(_SAMPLES / name), Reading(unit))


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _is_whole(result: Result, checks: frozenset[str] = _MODEL_CHECKS) -> bool:
    return find_fault(checks, result.segment.text, result.answer, result.finish_reason) is None


# translate


def _measure_translation(session: Session, task: Task, held_out: bool) -> Row:
    references = _records("translations.jsonl")
    judged = [
        (record, Question(text_segment(_NOWHERE, record["text"]), _into(task, record["to"]))) for record in references
    ]
    first = 20 if held_out else 0
    sentences = [pair for name in ("article.txt", "story.txt") for pair in islice(_sentences(name), first, first + 20)]
    others = [
        Question(segment, _into(task, to), fields) for to in ("French", "German") for segment, fields in sentences
    ]
    if not held_out:  # there are no more of them
        others += [Question(segment, _into(task, "English"), fields) for segment, fields in _sentences("german.txt")]
    plain = [replace(question, fields=()) for question in others]
    terms_in = translation.find_terms(Glossary.read(_SAMPLES / "glossary.csv"))
    named = [
        Question(segment, _into(task, "French"), (("terms", terms_in(segment.text)),))
        for segment, _ in chain(_sentences("article.txt"), _sentences("handbook.md"))
        if terms_in(segment.text)
    ][40 if held_out else 0 :][:40]
    translated = _ask(session, [question for _, question in judged])
    row = {
        "chrF": _mean(
            _chrf(record["reference"], result.answer) for (record, _), result in zip(judged, translated, strict=True)
        ),
    }
    row |= _described_translations(_ask(session, plain), plain)
    bare = _ask(session, [replace(question, fields=()) for question in named])
    told = _ask(session, named)
    shares = [_share(_terms_used(named, results)) for results in (bare, told)]
    kept = _described_translations(told, named)
    in_context = _described_translations(_ask(session, others), others)
    return row | {
        "terms untold": shares[0],
        "terms told": shares[1],
        "good, told": kept["good"],
        "good, context": in_context["good"],
    }


def _into(task: Task, language: str) -> Task:
    return replace(task.with_values(to=language), checks=frozenset(), skip=frozenset())


def _sentences(name: str) -> Iterator[tuple[Segment, tuple[tuple[str, str], ...]]]:
    for _, segments, fields in with_neighbours(_blocks(name, "sentence"), 1):
        for segment, around in zip(segments, fields, strict=True):
            if 5 < len(segment.text.split()) < 30:
                yield segment, around


def _described_translations(results: list[Result], questions: list[Question]) -> Row:
    sound = [
        _is_whole(result, _TRANSLATION_CHECKS) and not find_lost(result.segment.text, result.answer)
        for result in results
    ]
    pairs = zip(results, questions, strict=True)
    spoken = [
        detect(result.answer, "").casefold() == question.task.value("to").casefold() for result, question in pairs
    ]
    return {
        "passes": _share(sound),
        "language": _share(spoken),
        "good": _share(map(all, zip(sound, spoken, strict=True))),
        "length ×": _mean(len(result.answer) / len(result.segment.text) for result in results),
    }


def _terms_used(questions: list[Question], results: list[Result]) -> Iterator[bool]:
    for question, result in zip(questions, results, strict=True):
        for pair in dict(question.fields)["terms"].split("; "):
            yield set(_stems(pair.partition(" = ")[2], "french")) <= set(_stems(result.answer, "french"))


def _chrf(reference: str, answer: str) -> float:
    from nltk.translate.chrf_score import sentence_chrf

    return float(sentence_chrf(reference, answer)) if answer.strip() else 0.0


# summarize


def _measure_summary(session: Session, task: Task, held_out: bool) -> Row:
    row: Row = {}
    leaves: list[Result] = []
    for size in (250, 500, 1000):
        questions = [Question(segment, task) for segment in _chunks(session, size, 3000 if held_out else 0)]
        results = _ask(session, questions)
        row |= {f"good {size}": _share(map(_is_fair, results)), f"faithful {size}": _mean(map(_faithfulness, results))}
        row |= {f"terms {size}": _mean(map(_coverage, results))}
        leaves = leaves or results
    usable = [result for result in leaves if _is_whole(result)]
    row |= {"copied": _mean(map(_copied, leaves)), "words": _mean(len(result.answer.split()) for result in usable)}
    return row | _measure_reduction(session, task, usable)


def _measure_reduction(session: Session, task: Task, leaves: list[Result]) -> Row:
    """Reduce four summaries at a time, and measure what comes of it against them."""
    groups = [leaves[start : start + 4] for start in range(0, len(leaves) - 1, 4)]
    texts = ["\n\n".join(leaf.answer for leaf in group) for group in groups]
    results = _ask(session, [Question(text_segment(_NOWHERE, text), task.reduction()) for text in texts])
    return {
        "reduced good": _share(map(_is_fair, results)),
        "reduced faithful": _mean(map(_faithfulness, results)),
        "reduced copied": _mean(map(_copied, results)),
    }


def _prepare_summary(task: Task) -> Task:
    made = summary.make_task("medium", "file")
    return replace(task.with_values(length=made.value("length")), margin=made.margin, checks=frozenset())


def _chunks(session: Session, size: int, start: int) -> Iterator[Segment]:
    """Yield chunks of one size, of some thousand tokens: what of the samples is read is about the same for each."""
    for name in ("article.txt", "handbook.md"):
        num_tokens = 0
        for _, segments in pack(_blocks(name, "paragraph"), size, session.model.measure):
            for segment in segments:
                if start <= num_tokens < start + 3000:
                    yield segment
                num_tokens += session.model.measure(segment.text)


def _is_fair(result: Result) -> bool:
    """Tell whether a summary ends by itself, is shorter than its source, and does not open with talk about itself."""
    return (
        _is_whole(result) and not _ABOUT_ITSELF.match(result.answer) and len(result.answer) < len(result.segment.text)
    )


def _faithfulness(result: Result) -> float:
    """Return the share of an answer's content words and numbers that its source has."""
    said, source = _stems(result.answer), set(_stems(result.segment.text))
    return _share(stem in source for stem in said)


def _coverage(result: Result) -> float:
    """Return the share of a source's ten most frequent content words that the answer has."""
    frequent = [stem for stem, _ in Counter(_stems(result.segment.text)).most_common(10)]
    said = set(_stems(result.answer))
    return _share(stem in said for stem in frequent)


def _copied(result: Result) -> float:
    """Return the share of an answer's runs of eight words that its source has word for word."""
    said, source = (_WORDS.findall(text.casefold()) for text in (result.answer, result.segment.text))
    runs = {tuple(source[start : start + 8]) for start in range(len(source) - 7)}
    return _share(tuple(said[start : start + 8]) in runs for start in range(len(said) - 7))


# ask


def _measure_ask(session: Session, task: Task, _: bool) -> Row:
    task = replace(task, checks=frozenset())
    passages = list(asking.gather(_blocks("handbook.md", "paragraph"), find_task("ask"), session))
    ranking = Ranking([f"{passage.heading}\n{passage.segment.text}" for passage in passages])
    records = [record for record in _questions() if isinstance(record["contains"], str)]
    right, wrong = [], []
    for record in records:
        asked = task.with_values(question=record["question"])
        likely = [passages[number] for number in ranking.best(record["question"], _NUM_WRONG + 1)]
        ours = [passage for passage in passages if record["contains"] in passage.segment.text]
        right += [_about(passage, asked) for passage in ours[:1]]
        wrong += [_about(passage, asked) for passage in likely if passage not in ours][:_NUM_WRONG]
    found, lost = _ask(session, right), _ask(session, wrong)
    nothing = task.value("nothing")
    answered = [not asking.is_nothing(result.answer, nothing) for result in found]
    holds = [_holds(result.answer, record["answer"]) for result, record in zip(found, records, strict=True)]
    silent = [asking.is_nothing(result.answer, nothing) for result in lost]
    return {
        "answered": _share(answered),
        "found": _share(map(all, zip(answered, holds, strict=True))),
        "silent if wrong": _share(silent),
        "ends": _share(map(_is_whole, found + lost)),
        "faithful": _mean(map(_faithfulness, found)),
        "words": _mean(len(result.answer.split()) for result in found),
    }


def _questions() -> list[dict[str, Any]]:
    given = (_HERE / "ask_questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in given] + _records("questions.jsonl")


def _about(passage: asking.Passage, task: Task) -> Question:
    return Question(passage.segment, task, (("before", passage.heading),))


def _holds(answer: str, expected: str) -> bool:
    """Tell whether an answer has all numbers of what is expected, and half of its content words."""
    said, wanted = set(_stems(answer)), set(_stems(expected))
    numbers = {stem for stem in wanted if stem[0].isdigit()}
    words = wanted - numbers
    return numbers <= said and 2 * len(words & said) >= len(words) - bool(numbers)


# reply


def _measure_reply(session: Session, task: Task, held_out: bool) -> Row:
    task = replace(task, checks=frozenset())
    messages = [line for line in (_SAMPLES / "messages.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    mails = [
        json.loads(line)["message"] for line in (_SAMPLES / "mails.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    chosen = messages[60:] + mails[30:] if held_out else messages[:60] + mails[:30]
    results = _ask(session, [Question(text_segment(_NOWHERE, text), task) for text in chosen])
    echoes = [_copied(result) > 0.5 or not _is_whole(result, frozenset({"echo"})) for result in results]
    blanks = [bool(_TO_FILL_IN.search(result.answer)) for result in results]
    ends = list(map(_is_whole, results))
    short = [len(result.answer.split()) <= 80 for result in results]
    good = [e and not echo and not blank and s for e, echo, blank, s in zip(ends, echoes, blanks, short, strict=True)]
    return {
        "good": _share(good),
        "ends": _share(ends),
        "echo": _share(echoes),
        "to fill in": _share(blanks),
        "on topic": _mean(_coverage(result) > 0 for result in results),
        "words": _mean(len(result.answer.split()) for result in results),
    }


# question


def _measure_division(session: Session, task: Task, _: bool) -> Row:
    records = _records("compound.jsonl")
    counts = [len(asking.divide(record["question"], session, task)) for record in records]
    pairs = [(record["parts"], count) for record, count in zip(records, counts, strict=True)]
    for record in records[: shown.left]:
        print(record["question"], asking.divide(record["question"], session, task), sep="\n    ")
    return {
        "compound right": _share(parts == count for parts, count in pairs if parts > 1),
        "divided at all": _share(count > 1 for parts, count in pairs if parts > 1),
        "simple right": _share(count == 1 for parts, count in pairs if parts == 1),
    }


def _records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_VARIANTS / name).read_text(encoding="utf-8").splitlines()]


def _stems(text: str, language: str = "english") -> list[str]:
    """Return a text's numbers, and the stems of its words that are long enough to say something."""
    stem = _stemmer(language)
    words = [_NUMBERS.get(word, word) for word in _WORDS.findall(text.casefold())]
    return [
        stem(word) if word.isalpha() else word.replace(",", "")
        for word in words
        if len(word) >= _LONG or word[0].isdigit()
    ]


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    from nltk.stem.snowball import SnowballStemmer

    return partial(SnowballStemmer(language).stem)


_COMPARISONS: Sequence[Comparison] = (
    Comparison("translate", _measure_translation),
    Comparison("summarize", _measure_summary, _prepare_summary),
    Comparison("ask", _measure_ask, has_more=False),
    Comparison("reply", _measure_reply),
    Comparison("question", _measure_division, has_more=False),
)


if __name__ == "__main__":
    sys.exit(main())
