"""Names and terms that recur in a text: found by counting words, a sentence or a paragraph at a time. Knows no model.

Names are runs of words with capitals that do not merely begin a sentence, and words in katakana. Terms are pairs of
words that come together far more often than by chance (nltk's collocations), and in Chinese runs of characters that do.
Text may be of any length: of what is counted, the rarest is forgotten when it becomes too much.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from llmpar.documents.language import SMALL_WORDS
from llmpar.tasks.glossary import TOKEN

_K = TypeVar("_K")

_MOST_COUNTED = 200_000  # kinds of things in each count
_MOST_FOUND = 1000
_FEWEST_NAMES, _FEWEST_OPENINGS, _FEWEST_TERMS = 2, 3, 3
_SURE = 10.83  # of a likelihood ratio: by chance, it comes once in a thousand times
_TOGETHER = 0.5  # of the occurrences of a pair's rarer word
_NOUNS_HAVE_CAPITALS = 0.18  # of the words inside of sentences, as in German
_WITH_ARTICLE = 0.3  # of a German noun's occurrences; names have none
_LONGEST = 80  # characters of a term
_MOST_TOKENS, _MOST_LINKS = 8, 2
_MOST_HAN = 200
# What may stand between the words of a name, and between a word and the one that begins a sentence.
_OF = "of the de la le les du des da do dos di del della van von der den ter zu al el ibn bin"
_INSIDE = frozenset("-'’")
_LINKS = frozenset(_OF.split()) | _INSIDE
_JOINTS = frozenset(",&") | _INSIDE
# Words of English that are neither a name nor a part of a term, besides those that tell a language.
_PLAIN = (
    "after again all almost although another any back because been before both can could did does down each even ever "
    "every everyone everything finally first had has here how if into its just later let less like many maybe "
    "meanwhile more most much my never next nobody nothing now off oh old once one only other our out over own perhaps "
    "quite said say says since some someone something soon still such suddenly than their them then there these thing "
    "things those though three through today tomorrow two until upon very went were what when where while who whole "
    "whose why will would yes yesterday yet your dr mr mrs ms prof st"
)
_PLAIN_WORDS = SMALL_WORDS | frozenset(_PLAIN.split())
_OF_GERMAN = (
    "der die das den dem des ein eine einen einem einer eines kein keine keinen keiner im am ans ins zum zur vom beim "
    "mein meine dein seine seinen seiner ihr ihre ihren ihrer unser unsere dieser diese dieses diesen diesem jede "
    "jeder jedes alle viele"
)
_ARTICLES = frozenset(_OF_GERMAN.split())
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc]{2,}(?:[・＝][\u30a1-\u30fa\u30fc]{2,})*")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
# Characters of Chinese that join what they stand between, and of no name.
_JOINING = re.compile(
    "[的了是在我你他她它们們这這那和就也不没沒有一个個上下着著说說去来來会會到把被对對与與及而或但都很很之以于於为為]"
)
_HAN_SIZES = range(2, 5)


class TermFinder:
    """Counts what recurs in texts, and tells which of it are names and terms."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()  # names, where no sentence begins
        self._opening: Counter[tuple[str, str]] = Counter()  # those with which one begins: the first word, all
        self._with_article: Counter[str] = Counter()
        self._small: Counter[str] = Counter()  # words without capitals
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._num_words = self._num_capitals = 0  # inside of sentences
        self._han: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the words of a text."""
        self._inside.update(_KATAKANA.findall(text))
        if not _KANA.search(text):  # Japanese writes its endings in kana, and its nouns in pairs of pairs
            for run in _HAN.findall(text):
                self._add_han(run)
        tokens = [match for match in TOKEN.finditer(text) if not _HAN.match(match[0])]
        words = [match[0] for match in tokens]
        if any(word.islower() for word in words) or not any(word.isupper() and len(word) > 1 for word in words):
            self._add_words(text, tokens)
        for count in (self._inside, self._with_article, self._small, self._han):
            _forget_rarest(count)
        for pairs in (self._opening, self._pairs):
            _forget_rarest(pairs)

    def found(self) -> list[str]:
        """Return the names and terms, sorted; of too many, those that come most often."""
        han = Counter(dict(self._han_terms())).most_common(_MOST_HAN)
        found = self._names() + Counter(dict(self._terms())) + Counter(dict(han))
        often = sorted(found, key=lambda term: (-found[term], term))[:_MOST_FOUND]
        return sorted(often, key=sort_key)

    def _add_words(self, text: str, tokens: list[re.Match[str]]) -> None:
        at = 0
        while at < len(tokens):
            word = tokens[at][0]
            is_first = _begins_sentence(tokens, at)
            if not is_first and word[0].isalpha():
                self._num_words += 1
                self._num_capitals += word[0].isupper()
            if word[0].isalpha() and not word[0].isupper():
                self._small[word] += 1
                self._add_pair(text, tokens, at)
                at += 1
                continue
            end = _end_of_name(text, tokens, at)
            if end > at:
                name = " ".join(text[tokens[at].start() : tokens[end - 1].end()].split())
                if is_first:
                    self._opening[word, name] += 1
                else:
                    self._inside[name] += 1
                    self._with_article[name] += at > 0 and tokens[at - 1][0] in _ARTICLES
            at = max(end, at + 1)

    def _add_pair(self, text: str, tokens: list[re.Match[str]], at: int) -> None:
        if at + 1 == len(tokens) or text[tokens[at].end() : tokens[at + 1].start()] != " ":
            return
        pair = tokens[at][0], tokens[at + 1][0]
        if all(_is_small(word) and word not in _PLAIN_WORDS for word in pair):
            self._pairs[pair] += 1

    def _add_han(self, run: str) -> None:
        for part in _JOINING.split(run):
            for size in _HAN_SIZES:
                self._han.update(part[start : start + size] for start in range(len(part) - size + 1))

    def _names(self) -> Counter[str]:
        names = Counter(self._inside)
        openings: Counter[str] = Counter()
        for (first, name), count in self._opening.items():
            rest = _without_links(name[len(first) :].lstrip(" -"))
            small = first.casefold()
            is_word = self._small[small] > 0 or small in _PLAIN_WORDS
            if is_word or (name not in self._inside and rest in self._inside):
                names[rest] += count
            elif name in self._inside:
                names[name] += count
            else:
                openings[name] += count
        names += Counter({name: count for name, count in openings.items() if count >= _FEWEST_OPENINGS})
        return Counter({name: count for name, count in names.items() if count >= _FEWEST_NAMES and self._is_name(name)})

    def _is_name(self, name: str) -> bool:
        if len(name) < 2 or len(name) > _LONGEST or name.casefold() in _PLAIN_WORDS:
            return False
        count = self._inside[name]
        if 2 * self._small[name.casefold()] > count:  # what mostly is a word like any other
            return False
        has_capitals = self._num_capitals > _NOUNS_HAVE_CAPITALS * self._num_words
        return not has_capitals or self._with_article[name] <= _WITH_ARTICLE * count

    def _terms(self) -> Iterator[tuple[str, int]]:
        from nltk.collocations import BigramCollocationFinder
        from nltk.metrics import BigramAssocMeasures
        from nltk.probability import FreqDist

        finder = BigramCollocationFinder(FreqDist(self._small), FreqDist(self._pairs))
        finder.apply_freq_filter(_FEWEST_TERMS)
        for (first, second), score in finder.score_ngrams(BigramAssocMeasures.likelihood_ratio):
            count = self._pairs[first, second]
            if score >= _SURE and count >= _TOGETHER * min(self._small[first], self._small[second]):
                yield f"{first} {second}", count

    def _han_terms(self) -> Iterator[tuple[str, int]]:
        """Yield runs of characters that hang together, and are no part of a longer one as often as not."""
        often = {run: count for run, count in self._han.items() if count > _FEWEST_TERMS}
        inner: Counter[str] = Counter()
        for run, count in often.items():
            for part in (run[:-1], run[1:]) if len(run) > _HAN_SIZES[0] else ():
                inner[part] = max(inner[part], count)
        for run, count in often.items():
            whole = len(run) == _HAN_SIZES[0] or count >= _TOGETHER * min(self._han[run[:-1]], self._han[run[1:]])
            if whole and inner[run] < _TOGETHER * count:
                yield run, count


def _is_small(word: str) -> bool:
    """Tell whether a word has letters, and no capital first."""
    return len(word) > 2 and word[0].isalpha() and not word[0].isupper() and not any(map(str.isdigit, word))


def sort_key(term: str) -> tuple[str, str]:
    """Return by what terms are sorted, the same on every machine."""
    return term.casefold(), term


def _begins_sentence(tokens: list[re.Match[str]], at: int) -> bool:
    """Tell whether a word may have its capital only because something begins with it."""
    before = tokens[at - 1][0] if at else ""
    return not before or not (before[0].isalnum() or before in _JOINTS)


def _end_of_name(text: str, tokens: list[re.Match[str]], start: int) -> int:
    """Return behind which token a name ends that begins at one; the same place if none does."""
    end = at = start
    while at < min(len(tokens), start + _MOST_TOKENS) and at - end <= _MOST_LINKS:
        word = tokens[at][0]
        if at > start and not _is_joined(text, tokens, at):
            break
        if word[0].isupper():
            end = at + 1
        elif at == start or word not in _LINKS:
            break
        at += 1
    return end


def _is_joined(text: str, tokens: list[re.Match[str]], at: int) -> bool:
    """Tell whether a token stands one space behind the one before it; marks inside of a word stand in no space."""
    between = text[tokens[at - 1].end() : tokens[at].start()]
    if tokens[at][0] in _INSIDE or tokens[at - 1][0] in _INSIDE:
        return not between
    return len(between) == 1 and between.isspace()


def _without_links(name: str) -> str:
    words = name.split()
    while words and words[0] in _LINKS:
        words.pop(0)
    return " ".join(words)


def _forget_rarest(count: Counter[_K]) -> None:
    least = 1
    while len(count) > _MOST_COUNTED:
        for key in [key for key, number in count.items() if number <= least]:
            del count[key]
        least += 1
