"""The page of a comparison in a browser: it is drawn, filtered and sorted, and nothing in it is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Visit, browser, chromium
from support.html_pages import hostile_texts

from llmpar.comparison.changes import changes_of
from llmpar.comparison.figures import figures_of
from llmpar.comparison.page import page_of
from llmpar.comparison.pairs import match
from llmpar.reporting.pieces import Piece

HOSTILE = [text for text in hostile_texts() if text]
NUMBER = 400


def run(*, is_second: bool) -> list[Piece]:
    """Return pieces of which the second run changes each fifth, and loses each eighth."""
    pieces = []
    for number in range(NUMBER):
        text = HOSTILE[number] if number < len(HOSTILE) else f"answer {number}"
        answer = f"{text} again" if is_second and number % 5 == 0 else text
        error = "the answer is empty" if is_second and number % 8 == 0 else None
        record = {"document": "a.txt", "index": number, "line": number + 1, "error": error, "confidence": 0.9}
        pieces.append(Piece(record, text, answer))
    return pieces


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    chromium()
    file: Path = tmp_path_factory.mktemp("pages") / "compare.html"
    matched = match(run(is_second=False), run(is_second=True))
    parts = page_of([HOSTILE[0], HOSTILE[1]], figures_of(matched, None), changes_of(matched.pairs, None))
    file.write_bytes(b"".join(parts))
    with browser() as opened:
        found = Visit(opened, file, viewport={"width": 1200, "height": 800})
        yield found
        assert found.complaints == []
        assert found.page.evaluate("window.broken") is None


def test_kinds_choose(visit: Visit) -> None:
    assert visit.shown() == "400 pieces"
    num_worse = sum(number % 8 == 0 for number in range(NUMBER))
    num_changed = sum(number % 8 == 0 or number % 5 == 0 for number in range(NUMBER))
    for name, number in (("Changed", num_changed), ("Worse", num_worse), ("Failed in B", num_worse)):
        visit.page.get_by_role("button", name=f"{name} {number}", exact=True).click()
        assert visit.shown() == f"{number} of 400 pieces"
    visit.page.get_by_role("button", name="All").click()


def test_the_largest_change_comes_first(visit: Visit) -> None:
    visit.page.get_by_label("Order").select_option("change")
    assert visit.places()[0] == "a.txt:1"  # it failed in B
    visit.page.get_by_label("Order").select_option("document")


def test_a_piece_shows_both_answers(visit: Visit) -> None:
    visit.search("answer 395", 1)
    visit.page.locator(".list-row").first.click()
    dialog = visit.page.get_by_role("dialog")
    assert dialog.get_by_text("From A to B").is_visible()
    assert dialog.locator("ins").all_text_contents() == [" again"]
    visit.page.keyboard.press("Escape")
    visit.page.get_by_label("Text").fill("")


def test_anybody_can_read_it(visit: Visit) -> None:
    visit.page.locator(".list-row").first.click()
    assert visit.faults() == []
    visit.page.keyboard.press("Escape")
    assert visit.faults() == []
