"""The texts to try the product on are what they are said to be: so many, all different, with the answers in them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from benchmarks.messages import support_messages
from benchmarks.novel import blocks
from support.places import ROOT

HANDBOOK = (ROOT / "sample_data" / "handbook.md").read_text("utf-8")
PASSAGES = [line for line in HANDBOOK.splitlines() if line and not line.startswith("#")]
QUESTIONS = [
    json.loads(line) for line in (ROOT / "tests/benchmarks/ask_questions.jsonl").read_text("utf-8").splitlines()
]


def test_the_handbook_is_passages_under_headings_of_two_levels() -> None:
    assert len(PASSAGES) == len(set(PASSAGES)) == 205
    assert {len(passage.split()) for passage in PASSAGES} <= set(range(35, 76))
    headings = [line for line in HANDBOOK.splitlines() if line.startswith("#")]
    assert {heading.split()[0] for heading in headings} == {"#", "##"}
    assert len(set(headings)) == len(headings)
    assert all(bool(line) != bool(after) for line, after in pairwise(HANDBOOK.splitlines()))


def test_there_are_twelve_questions_and_at_most_two_are_compound() -> None:
    assert len({record["question"] for record in QUESTIONS}) == 12
    assert sum(isinstance(record["contains"], list) for record in QUESTIONS) <= 2


@pytest.mark.parametrize("record", QUESTIONS, ids=lambda record: record["question"][:40])
def test_one_passage_answers_a_question(record: dict[str, str | list[str]]) -> None:
    assert set(record) == {"question", "contains", "answer"}
    phrases = record["contains"] if isinstance(record["contains"], list) else [record["contains"]]
    found = [passage for phrase in phrases for passage in PASSAGES if phrase in passage]
    assert len(set(found)) == len(phrases)
    assert all(HANDBOOK.count(phrase) == 1 for phrase in phrases)
    assert record["answer"]


def test_the_mails_are_forty_records_of_many_lengths() -> None:
    mails = [json.loads(line) for line in (ROOT / "sample_data/mails.jsonl").read_text("utf-8").splitlines()]
    assert [mail["id"] for mail in mails] == [f"m-{number:03}" for number in range(1, 41)]
    assert all(set(mail) == {"id", "from", "message"} and mail["from"] for mail in mails)
    messages = [mail["message"] for mail in mails]
    assert len(set(messages)) == 40
    lengths = [len(message.split()) for message in messages]
    assert min(lengths) < 10
    assert 200 < max(lengths) < 280
    assert any("\n" in message for message in messages)
    assert any('"' in message for message in messages)


def test_the_terms_of_the_glossary_are_in_the_texts() -> None:
    with (ROOT / "sample_data" / "glossary.csv").open(encoding="utf-8", newline="") as file:
        terms = {record["English"]: record["French"] for record in csv.DictReader(file)}
    assert len(terms) == 25
    assert all(terms.values())
    article = (ROOT / "sample_data" / "article.txt").read_text("utf-8")
    text = " ".join(f"{article} {HANDBOOK}".lower().split())
    assert [term for term in terms if not re.search(rf"\b{term}", text)] == []


def test_support_messages_differ_and_come_again() -> None:
    pairs = support_messages(1000)
    assert len({message for message, _ in pairs}) == 1000
    assert {len(message.split()) for message, _ in pairs} <= set(range(6, 61))
    assert min(Counter(category for _, category in pairs).values()) > 120
    assert {category for _, category in pairs} == {"billing", "delivery", "defect", "account", "praise", "other"}
    assert not any("{" in message or "\n" in message for message, _ in pairs)
    assert support_messages(100) == pairs[:100]
    assert support_messages(100, seed=1) != pairs[:100]


def test_no_word_gives_a_category_away() -> None:
    pairs = support_messages(1000)
    sizes = Counter(category for _, category in pairs)
    uses = Counter((word, category) for text, category in pairs for word in set(re.findall(r"\w+", text.lower())))
    totals = Counter(word for text, _ in pairs for word in set(re.findall(r"\w+", text.lower())))
    telling = [
        (word, category)
        for (word, category), count in uses.items()
        if count > 0.3 * sizes[category] and count > 0.9 * totals[word]
    ]
    assert telling == []


def test_a_novel_has_the_words_asked_for_and_no_paragraph_twice() -> None:
    novel = list(blocks(30_000))
    assert sum(len(block.split()) for block in novel) == 30_000
    assert len(novel) == len(set(novel)) > 150
    assert not any("\n" in block for block in novel)
    chapters = [int(match[1]) for block in novel if (match := re.match(r"Chapter (\d+): The ", block))]
    assert chapters == list(range(1, len(chapters) + 1))
    assert len(chapters) > 10
    # Nor do tellings differ in the remarks alone.
    assert len({block.rsplit(". ", 1)[0][:400] for block in novel}) > 0.7 * len(novel)
