"""The page of a run in a browser: it is drawn, filtered, sorted, walked with keys, printed; nothing in it is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Visit, browser, chromium
from support.html_pages import hostile_texts

from llmpar.documents.writer import open_output
from llmpar.pages.page import Fact, Table
from llmpar.reporting.page import About, RunPage
from llmpar.reporting.pieces import Attempt, Piece

HOSTILE = [text for text in hostile_texts() if text]
NUMBER = 3000
FAILED, CUT, RETRIED, UNSURE = 17, 23, 29, 7
"""Each so-manieth piece is so."""


def piece(number: int) -> Piece:
    is_failed, is_retried = number % FAILED == 0, number % RETRIED == 0
    record: dict[str, object] = {
        "document": "a.txt",
        "line": number + 1,
        "key": f"{number:064x}",
        "model": "tiny",
        "prompt_tokens": 20,
        "output_tokens": 5 + number % 11,
        "seconds": 0.5 + (number * 7919 % 1000) / 1000,
        "attempts": 2 if is_retried else 1,
        "finish_reason": "length" if number % CUT == 0 else "stop",
        "cached": number % 31 == 0,
        "worker": number % 3,
        "error": "the answer repeats its source" if is_failed else None,
        "finished": f"2026-11-26T20:{number // 60:02}:{number % 60:02}.000+00:00",
        "confidence": 0.2 if number % UNSURE == 0 else 0.9,
        "mean_logprob": -0.1,
        "min_logprob": -2.0,
    }
    others = (Attempt(0, "the first word was wrong", "loop"),) if is_retried else ()
    source = HOSTILE[number] if number < len(HOSTILE) else f"Source number {number}. " + "word " * (number % 40)
    return Piece(record, source, f"the last word is right: {number}", others)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    file = tmp_path_factory.mktemp("pages") / "report.html"
    page = RunPage(open_output(file))
    for number in range(NUMBER):
        page.add(piece(number))
    title = HOSTILE[0]
    page.publish(About(title, HOSTILE[3], "Only a part.", (Table(title, (Fact(title, HOSTILE[3]),), title),)))
    return file


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    chromium()
    with browser() as found:
        yield found


@pytest.fixture
def visit(opened: Any, report: Path) -> Iterator[Visit]:
    found = Visit(opened, report, viewport={"width": 1200, "height": 800})
    yield found
    assert found.complaints == []
    assert found.page.evaluate("window.broken") is None
    found.page.close()


def test_only_what_can_be_seen_is_drawn(visit: Visit) -> None:
    assert visit.shown() == "3,000 pieces"
    assert visit.page.locator("[role=grid]").get_attribute("aria-rowcount") == "3001"
    assert visit.page.locator(".list-row").count() < 60
    visit.page.evaluate("document.querySelector('.list').scrollTop = 1e9")
    visit.page.wait_for_selector("#row-2999")
    assert visit.places()[-1] == "a.txt:3000"
    assert visit.page.locator(".list-row").count() < 60


def test_hostile_texts_are_shown_as_they_are(visit: Visit) -> None:
    for number, text in enumerate(HOSTILE):
        visit.page.evaluate(f"document.querySelector('.list').scrollTop = {number} * 97")
        cell = visit.page.locator(f"#row-{number} .source")
        assert cell.evaluate("cell => cell.textContent") == text, number
    assert visit.page.evaluate("document.querySelectorAll('img, iframe, script:not([type])').length") == 1


def test_kinds_and_text_choose(visit: Visit) -> None:
    for name, number in (
        ("Failed", sum(number % FAILED == 0 for number in range(NUMBER))),
        ("Cut", sum(number % CUT == 0 and number % FAILED > 0 for number in range(NUMBER))),
        ("Several attempts", sum(number % RETRIED == 0 for number in range(NUMBER))),
        ("Unsure", sum(number % UNSURE == 0 for number in range(NUMBER))),
    ):
        button = visit.page.get_by_role("button", name=f"{name} {number}", exact=True)
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert visit.shown() == f"{number} of 3,000 pieces"
    visit.page.get_by_role("button", name="All").click()
    visit.search("SOURCE NUMBER 77", 11)
    assert visit.places()[0] == "a.txt:78"
    visit.search("nothing has this", 0)
    assert visit.places() == []


def test_the_limit_of_confidence_is_the_readers(visit: Visit) -> None:
    visit.page.get_by_label("Unsure below").fill("95")
    visit.page.get_by_role("button", name="Unsure 3,000").click()
    visit.page.get_by_label("Unsure below").fill("10")
    assert visit.shown() == "0 of 3,000 pieces"


def test_orders_sort(visit: Visit) -> None:
    everything = [piece(number) for number in range(NUMBER)]
    slowest = sorted(everything, key=lambda one: -one.record["seconds"])  # type: ignore[operator]
    visit.page.get_by_label("Order").select_option("seconds")
    assert visit.places()[:9] == [one.place for one in slowest[:9]]
    visit.page.get_by_label("Order").select_option("doubt")
    assert visit.places()[:3] == ["a.txt:1", "a.txt:8", "a.txt:15"]
    visit.page.get_by_label("Order").select_option("document")
    visit.page.get_by_label("reversed").check()
    assert visit.places()[0] == "a.txt:3000"


def test_keys_lead_everywhere(visit: Visit) -> None:
    grid, keyboard = visit.page.locator("[role=grid]"), visit.page.keyboard
    grid.focus()
    for key, place in (("ArrowDown", 1), ("j", 2), ("ArrowUp", 1), ("End", 2999), ("k", 2998), ("Home", 0)):
        keyboard.press(key)
        assert grid.get_attribute("aria-activedescendant") == f"row-{place}", key
        assert visit.page.locator(f"#row-{place}").get_attribute("aria-selected") == "true"
    keyboard.press("PageDown")
    assert int(str(grid.get_attribute("aria-activedescendant"))[4:]) > 2
    keyboard.press("Home")
    keyboard.press("Enter")
    dialog = visit.page.locator("dialog")
    assert dialog.is_visible()
    keyboard.press("ArrowRight")
    assert dialog.locator("h3").text_content() == "a.txt:2"
    assert dialog.locator("[role=status]").text_content() == "2 of 3,000"
    keyboard.press("ArrowLeft")
    assert dialog.locator("h3").text_content() == "a.txt:1"
    assert dialog.get_by_role("button", name="Previous").is_disabled()
    keyboard.press("Escape")
    assert not dialog.is_visible()
    assert grid.evaluate("grid => grid === document.activeElement")
    keyboard.press("/")
    assert visit.page.evaluate("document.activeElement.id") == "search"


def test_a_piece_shows_its_attempts_and_their_differences(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Several attempts").click()
    visit.page.locator("#row-1").click()
    dialog = visit.page.locator("dialog")
    assert "Attempt 1 (repeated itself)" in str(dialog.text_content())
    assert dialog.locator("del").all_text_contents() == ["first", "was wrong"]
    assert dialog.locator("ins").all_text_contents() == ["last", "is right: 29"]
    dialog.get_by_text("compared with its source").click()
    dialog.locator("del").nth(2).wait_for()  # it is filled when it is opened, which takes a turn
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_a_piece_that_failed_says_first_why(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Failed").click()
    visit.page.locator("#row-0").click()
    told = str(visit.page.locator("dialog").text_content())
    assert 0 < told.index("Why it failed: ") < told.index("Last answer, which would not do")


def test_charts_say_what_they_show(visit: Visit) -> None:
    visit.page.wait_for_selector("#charts svg")
    titles = visit.page.locator("figcaption strong").all_text_contents()
    assert titles == [
        "Tokens written over time:",
        "Answers over time:",
        "Workers:",
        "Length of sources, in characters:",
        "Tokens of answers:",
        "Time for an answer:",
        "Confidence:",
    ]
    for label in visit.page.eval_on_selector_all(
        "#charts svg", "all => all.map(one => one.getAttribute('aria-label'))"
    ):
        assert label
        assert "NaN" not in label
        assert "undefined" not in label
    assert "NaN" not in visit.page.inner_html("#charts")
    assert "3 with 967 to 968 answers each" in str(visit.page.locator("#charts").text_content())


def test_paper_has_the_rows(visit: Visit) -> None:
    visit.search("Source number 77", 11)
    visit.page.emulate_media(media="print")
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visit.page.locator(".printed-row").count() == 11
    assert visit.page.locator(".printed-row").first.is_visible()
    assert not visit.page.locator(".list").is_visible()
    visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visit.page.locator(".printed-row").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1600])
def test_it_can_be_read_at_any_width_by_anybody(opened: Any, report: Path, width: int, scheme: str) -> None:
    visit = Visit(
        opened, report, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    visit.page.wait_for_selector("#charts svg")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing stands beside the window"
    for summary in visit.page.locator("summary").all():
        summary.click()
    assert visit.faults() == []
    visit.page.locator("#row-0").click()
    assert visit.faults() == []
    assert visit.complaints == []
    visit.page.close()


GROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 23, 27)"


def test_light_and_dark_can_be_chosen(visit: Visit) -> None:
    for is_dark in (False, True):
        visit.page.emulate_media(color_scheme="dark" if is_dark else "light")
        assert visit.page.evaluate(GROUND) == (DARK if is_dark else LIGHT)
    visit.page.emulate_media(color_scheme="light")
    visit.page.get_by_role("button", name="Dark").click()
    assert visit.page.evaluate(GROUND) == DARK
    visit.page.emulate_media(color_scheme="dark")
    visit.page.get_by_role("button", name="Light").click()
    assert visit.page.evaluate(GROUND) == LIGHT, "what the reader chose counts, whatever the system says"


def test_paper_is_light(visit: Visit) -> None:
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme, media="print")
        assert visit.page.evaluate(GROUND) == LIGHT
    visit.page.emulate_media(color_scheme="light", media="screen")
    visit.page.get_by_role("button", name="Dark").click()
    visit.page.emulate_media(color_scheme="light", media="print")
    assert visit.page.evaluate(GROUND) == LIGHT


@pytest.mark.parametrize(("scheme", "ground"), [("light", LIGHT), ("dark", DARK)])
def test_without_scripts_the_totals_hold(opened: Any, report: Path, scheme: str, ground: str) -> None:
    page = opened.new_page(java_script_enabled=False, color_scheme=scheme)
    page.goto(report.as_uri())
    assert "3,000" in page.locator(".totals").inner_text()
    assert "this browser runs none" in page.locator("noscript").inner_text()
    assert page.evaluate(GROUND) == ground
    page.close()
