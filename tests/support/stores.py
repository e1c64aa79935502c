"""Stores with answers in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llmpar.store.answer import StoredAnswer
from llmpar.store.store import Store

JOB = {"task": {"prompt": "Do: {text}"}, "sampling": {"seed": 0}}


def answer(text: str, attempt: int = 0) -> StoredAnswer:
    return StoredAnswer(attempt, text, "stop", 3, 4, 0.5)


def filled(path: Path, number: int = 40, size: int = 1) -> dict[str, list[StoredAnswer]]:
    """Make a store that holds answers to so many texts, and return them."""
    with closing(Store(path)) as store:
        job = store.job(JOB)
        kept = {f"text {i}": [answer(f"answer {i} " * size), answer("more", 1)][: 1 + i % 2] for i in range(number)}
        for text, answers in kept.items():
            for one in answers:
                job.add(job.key(text), text, one)
        job.commit()
    return kept


def held(path: Path, texts: Iterator[str] | list[str] | dict[str, Any]) -> dict[str, list[StoredAnswer]]:
    with closing(Store(path)) as store:
        job = store.job(JOB)
        return {text: job.find(job.key(text)) for text in texts}


texts = st.text(st.characters(codec=None), max_size=8)
