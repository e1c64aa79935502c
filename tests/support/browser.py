"""Chromium without a screen, for tests of pages: where it is not there, they are skipped by name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@cache
def chromium() -> str:
    """Return where Chromium is: playwright's own, or else the system's. Without one, or without playwright, skip."""
    found_playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'llmpar[browser]'")
    with found_playwright.sync_playwright() as playwright:
        own = str(playwright.chromium.executable_path)
    found = next(filter(None, map(shutil.which, (own, *_NAMES))), None)
    if found is None:
        pytest.skip(f"no Chromium: playwright has none, and none of {', '.join(_NAMES)} is installed")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Yield an open Chromium."""
    path = chromium()  # this opens playwright, too, and two of it cannot be open at once
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


class Visit:
    """One look at a page: what it complains of and asks the network for is remembered.

    Args:
        opened: a Chromium.
        file: the page.
        options: of the window, such as its `viewport` and `color_scheme`.
    """

    def __init__(self, opened: Any, file: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.page = opened.new_page(**options)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector(".list-row")

    def _note(self, address: str) -> None:
        if not address.startswith("file:"):
            self.complaints.append(f"asks for {address}")

    def places(self) -> list[str]:
        """Return the places of the rows that are drawn, in their order."""
        found = self.page.eval_on_selector_all(
            ".list-row", "rows => rows.map(r => [Number(r.dataset.place), r.querySelector('.place').textContent])"
        )
        return [place for _, place in sorted(found)]

    def shown(self) -> str:
        """Return how many rows the page says that it shows."""
        return str(self.page.text_content("#shown"))

    def search(self, text: str, number: int) -> None:
        """Type a text into the field for it, and wait until so many of all rows are shown."""
        self.page.get_by_label("Text").fill(text)
        # Not `wait_for_function`: a text given to it is evaluated again in each frame, which the page forbids.
        self.page.locator("#shown", has_text=re.compile(rf"^{number:,} of ")).wait_for()

    def faults(self) -> list[str]:
        """Return what the accessibility checker (axe) finds."""
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="no axe: pip install 'llmpar[browser]'"
        )
        results = axe.Axe().run(self.page, options={"resultTypes": ["violations"]})
        return [
            f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in results.response["violations"]
        ]
