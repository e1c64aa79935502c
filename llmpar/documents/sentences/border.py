"""A place where a sentence may end: what stands before it, and what follows. Whether one ends there, the rules say."""

from __future__ import annotations

from dataclasses import dataclass

from llmpar.documents.sentences.tables import Tables

REACH = 400
"""How many characters a rule looks back from a border, or ahead, at most; what is further away decides nothing."""


@dataclass(slots=True)
class Border:
    """A place behind marks that may end a sentence.

    Args:
        text: all of it, a paragraph or more.
        tables: those of the text's language.
        start: where the sentence begins, given what was decided before.
        at: where the marks begin.
        end: where the sentence ends, if it ends here.
        next: where the following one would begin.
        marks: the full stops, question marks and so on, without what stands between them.
        closers: the quotes, brackets and so on directly behind the marks.
        opener: the marks before the following word: quotes, brackets, dashes, and a space if one follows them.
        word: the word before the marks, without what opens a quotation or a bracket; "" where there is none.
        after: the following word, without commas and quotes behind it; "" where none follows the opener.
    """

    text: str
    tables: Tables
    start: int
    at: int
    end: int
    next: int
    marks: str
    closers: str
    opener: str
    word: str
    after: str

    @property
    def is_stop(self) -> bool:
        """Whether one full stop is all that stands here, so that it may be an abbreviation's."""
        return self.marks == "."

    @property
    def goes_on_low(self) -> bool:
        """Whether the following word begins in lower case."""
        return self.after[:1].islower()

    @property
    def goes_on_high(self) -> bool:
        """Whether the following word begins in upper case."""
        return self.after[:1].isupper()
