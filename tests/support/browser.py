"""Chromium without a screen, for tests of pages: where it is not there, they are skipped by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Return where Chromium is; the test is skipped where it, or what steers it, is missing."""
    pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'llmpar[browser]'")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is installed")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Yield an open Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
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
