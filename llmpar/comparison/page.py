"""A comparison as a page for a browser: both answers of each piece side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from llmpar.comparison.changes import COLUMNS, Change
from llmpar.comparison.figures import Figures
from llmpar.pages.page import Fact, Page, render
from llmpar.pages.rows import Rows


def page_of(names: Sequence[str], figures: Figures, changes: Iterable[Change]) -> Iterator[bytes]:
    """Yield a page with every piece that both runs have.

    Args:
        names: of the two files.
        figures: what they come to.
        changes: every piece, in order.

    Raises:
        WriteFailed: there is no room for the rows.
    """
    with closing(Rows()) as rows:
        for change in changes:
            told = change.told()
            rows.add([told[name] for name in COLUMNS])
        first, second = names
        lead = f"A is {first}, B is {second}. Better and worse are said of B."
        yield from render(
            Page("llmpar compare", lead, _notice(figures), _totals(figures), (), COLUMNS, "compare"), rows
        )


def _notice(figures: Figures) -> str:
    parts = [
        f"{number:,} pieces {what}"
        for number, what in (
            (figures.num_only_first, "are in A only"),
            (figures.num_only_second, "are in B only"),
            (figures.num_other_source, "have another source there"),
            (figures.num_unknown, "have an answer that was not kept"),
        )
        if number
    ]
    return f"Left out: {', '.join(parts)}." if parts else ""


def _totals(figures: Figures) -> tuple[Fact, ...]:
    one, other = figures.sides
    facts = [
        Fact("Pieces in both", f"{figures.num_pairs:,}"),
        Fact("Changed", f"{figures.num_pairs - figures.num_same:,}"),
        Fact("Failed", f"{one.num_failed:,} → {other.num_failed:,}", "bad" if other.num_failed else ""),
        Fact("Better by checks", f"{figures.checks[0]:,}"),
        Fact("Worse by checks", f"{figures.checks[1]:,}", "poor" if figures.checks[1] else ""),
    ]
    for name, value, further, form in (
        ("Mean confidence", one.confidence, other.confidence, ".3f"),
        ("Tokens written", one.num_written, other.num_written, ","),
        (f"Exact, of {figures.num_references:,}", one.num_exact, other.num_exact, ","),
        ("chrF", one.chrf, other.chrf, ".2f"),
    ):
        if value is not None or further is not None:
            facts.append(Fact(name, " → ".join("–" if one is None else format(one, form) for one in (value, further))))
    return tuple(facts)
