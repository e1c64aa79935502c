"""Which passages a question is about, by their words alone: BM25 (Robertson & Zaragoza 2009), by bm25s.

Words count by their stems, in languages without spaces pairs of characters do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

# Letters and digits of scripts with spaces, or one character of those without.
_TERM = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+"
)
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")
_STEMMERS = frozenset({
    "danish", "dutch", "english", "finnish", "french", "german", "italian", "norwegian", "portuguese", "russian",
    "spanish", "swedish",
})  # fmt: skip


class Ranking:
    """Passages by how well they fit a question.

    Args:
        texts: the passages.
        language: whose words they are; the name of a Punkt language.
    """

    def __init__(self, texts: Sequence[str], language: str = "english") -> None:
        import bm25s

        self._stem = _stemmer(language)
        self._common = _common_words(language)
        self._index: Any = bm25s.BM25()
        corpus = [self._terms(text) for text in texts]
        self._is_empty = not any(corpus)
        if not self._is_empty:
            self._index.index(corpus, show_progress=False)
        self._num_texts = len(texts)

    def best(self, question: str, count: int | None = None) -> list[int]:
        """Return the numbers of the passages that share words with a question, the best first; `count` at most."""
        terms = self._terms(question)
        if self._is_empty or not terms:
            return []
        scores = self._index.get_scores(terms)
        order = sorted((-float(score), index) for index, score in enumerate(scores) if score > 0)
        return [index for _, index in order[:count]]

    def _terms(self, text: str) -> list[str]:
        words = _TERM.findall(text.casefold())
        terms = [self._stem(word) for word in words if word not in self._common and not _WIDE.fullmatch(word)]
        return terms + [a + b for a, b in pairwise(words) if _WIDE.fullmatch(a) and _WIDE.fullmatch(b)]


def _common_words(language: str) -> frozenset[str]:
    """Return the words of a language that say nothing of what a text is about."""
    from bm25s import stopwords

    name = "EN_PLUS" if language == "english" else language.upper()
    return frozenset(getattr(stopwords, f"STOPWORDS_{name}", ()))


def _stemmer(language: str) -> Callable[[str], str]:
    if language not in _STEMMERS:
        return lambda word: word
    from nltk.stem.snowball import SnowballStemmer

    stemmer: Any = SnowballStemmer(language)
    return lru_cache(100_000)(stemmer.stem)
