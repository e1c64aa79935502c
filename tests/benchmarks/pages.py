"""A page of `--report` with many pieces in Chromium: how soon it is seen, what it takes, how fast it filters and sorts.

Run it where playwright and Chromium are (`pip install 'llmpar[browser]'`):

    python tests/benchmarks/pages.py --pieces 50000 --rounds 5
    python tests/benchmarks/pages.py report.html

Without a file it makes one of lines of words, which no model is asked about (`--engine echo`). Each round has a
browser of its own. "Seen" is the first contentful paint; "usable" is when rows are drawn, timed from outside. "Filter"
and "sort" are from the event to the frame after it. Memory is that of the page's process, and of what scripts keep.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from harness.machine import describe_machine

_WORDS = (
    "the",
    "cat",
    "order",
    "lamp",
    "broke",
    "sofa",
    "when",
    "is",
    "my",
    "parcel",
    "arriving",
    "please",
    "refund",
    "twice",
    "charged",
    "thanks",
    "blue",
    "door",
)
_SEARCHED = ("lamp", "refund door", "zzzz", "4999")
_FILTER = """(text) => new Promise(done => {
  const field = document.querySelector("#search"), shown = document.querySelector("#shown"), start = performance.now();
  new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - start)))
    .observe(shown, { childList: true, characterData: true, subtree: true });
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})"""
_SORTS = """async () => {
  const field = document.querySelector("select"), times = [];
  for (const order of [...field.options].map(option => option.value)) {
    const start = performance.now();
    field.value = order;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    times.push(performance.now() - start);
  }
  return times;
}"""


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path, help="a page that there is")
    parser.add_argument("--pieces", type=int, default=50_000, help="of the page that is made")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        page = given.page or _made(Path(place), given.pieces)
        rounds = [dict(_measured(page.resolve())) for _ in range(given.rounds)]
        print(describe_machine())
        print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, {given.rounds} rounds, median (least to most)")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"{name:<26} {median(values):8.0f} ({min(values):.0f} to {max(values):.0f})")


def _made(place: Path, pieces: int) -> Path:
    draw = random.Random(1)
    text, page = place / "texts.txt", place / "report.html"
    lines = (" ".join(draw.choices(_WORDS, k=draw.randint(4, 14))) for _ in range(pieces))
    text.write_text("".join(f"{number}: {line}.\n" for number, line in enumerate(lines)))
    command = ["run", "{text}", "-u", "line", "--engine", "echo", "-q", "-o", str(place / "out"), "--report", str(page)]
    subprocess.run([sys.executable, "-m", "llmpar", *command, str(text)], check=True)
    return page


def _measured(page: Path) -> Iterator[tuple[str, float]]:
    """Yield what one browser takes for a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = own if Path(own).exists() else shutil.which("chromium") or shutil.which("google-chrome")
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--enable-precise-memory-info"])
        shown = opened.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        shown.goto(page.as_uri())
        shown.wait_for_selector(".list-row")
        usable = 1000 * (time.perf_counter() - start)
        paints = shown.evaluate("performance.getEntriesByType('paint').map(paint => [paint.name, paint.startTime])")
        yield "seen, ms", dict(paints)["first-contentful-paint"]
        yield "usable, ms", usable
        yield "slowest filter, ms", max(shown.evaluate(_FILTER, text) for text in _SEARCHED)
        shown.evaluate(_FILTER, "")
        yield "slowest sort, ms", max(shown.evaluate(_SORTS))
        yield "kept by scripts, MB", shown.evaluate("performance.memory.usedJSHeapSize") / 1e6
        yield "process, MB", _of_page(opened)
        opened.close()


def _of_page(opened: Any) -> float:
    """Return the memory of the process that draws the page, in MB: the largest of its kind of this browser."""
    session = opened.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = [_resident(one["id"]) for one in found if one["type"] == "renderer"]
    return max(sizes)


def _resident(process: int) -> float:
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
