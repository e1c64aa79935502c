"""A page is one file that loads nothing, in which no text is more than text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from support.html_pages import PageRead, hostile_texts
from support.places import ROOT

from llmpar.errors import WriteFailed
from llmpar.pages import page as pages
from llmpar.pages.page import Fact, Page, Table, render
from llmpar.pages.rows import Rows, script_json

PARTS = ROOT / "llmpar" / "pages" / "parts"
HOSTILE = hostile_texts()
PLAIN = Page("llmpar run", "A sentence.", "", (Fact("Pieces", "1"),), (), ("place", "source"), "report")


def made(page: Page, rows: list[list[object]]) -> PageRead:
    kept = Rows()
    try:
        for row in rows:
            kept.add(row)
        return PageRead(b"".join(render(page, kept)).decode())
    finally:
        kept.close()


def test_rows_come_out_as_they_went_in() -> None:
    rows = [[place, text] for place, text in enumerate(HOSTILE)] + [[None, [["a", 1.5]]]]
    assert [list(row.values()) for row in made(PLAIN, rows).rows] == rows


def test_more_rows_than_one_element_holds() -> None:
    rows = [[str(number), "text"] for number in range(1201)]
    page = made(PLAIN, rows)
    assert [list(row.values()) for row in page.rows] == rows
    assert page.tags.count("script") == 1 + 3 + 1
    assert "1,201 rows" in page.text


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_page_has_nothing_that_html_knows(text: str) -> None:
    told = script_json({text: [text]})
    assert not re.search("[<>&\n\r\u2028\u2029\ud800-\udfff]", told)
    assert json.loads(told) == {text: [text]}


def test_no_text_becomes_an_element_or_an_attribute() -> None:
    plain = made(PLAIN, [["a", "b"]])
    for text in HOSTILE:
        fact = Fact(text, text)
        kept = Page(text, text, "", (fact,), (), ("place", "source"), "report")
        page = made(kept, [[text, text]])
        assert page.tags == plain.tags, text
        assert page.attributes == plain.attributes, text
        assert (page.script, page.style, page.policy) == (plain.script, plain.style, plain.policy)


def test_a_page_says_what_it_is_told() -> None:
    table = Table("Command", (Fact("Name", "<value>"),), "A note.")
    page = made(Page("Title", "Lead.", "Only a part.", (Fact("Failed", "3", "bad"),), (table,), (), "report"), [])
    for said in (
        "Title",
        "Lead.",
        "Only a part.",
        "Not complete.",
        "Failed",
        "3",
        "Command",
        "Name",
        "<value>",
        "A note.",
    ):
        assert said in page.text
    assert "Not complete." not in made(PLAIN, []).text


def test_the_page_forbids_everything_but_its_own_script_and_style() -> None:
    page = made(PLAIN, [])
    policy = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'{hash_of(page.script)}'",
        "style-src": f"'{hash_of(page.style)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_page_names_no_other_file() -> None:
    page = made(PLAIN, [])
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {"src", "style", "action", "srcset", "data"} & names
    assert not [name for name in names if name.startswith("on")]
    assert [value for name, value in page.attributes if name == "href"] == ["#rows"]
    assert "url(" not in page.style
    assert "@import" not in page.style


@pytest.mark.parametrize("file", sorted(PARTS.glob("*.*")), ids=lambda file: file.name)
def test_a_part_cannot_leave_its_element_nor_make_markup(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "\r" not in text
    if file.suffix == ".html":
        assert "safe" not in text  # jinja2's way of not escaping
        return
    assert not re.search(r"</(?:script|style)|<!--", text, re.IGNORECASE)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser",
                 "fetch(", "XMLHttpRequest", "import(", "localStorage", "createContextualFragment"):  # fmt: skip
        assert word not in text, word


@pytest.mark.parametrize("view", get_args(pages.View))
def test_no_two_scripts_define_one_name(view: str) -> None:
    found: dict[str, str] = {}
    for name in (*pages._BLOCKS, f"{view}.js"):
        source = (PARTS / name).read_text("utf-8")
        for defined in re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", source, re.MULTILINE):
            assert found.setdefault(defined, name) == name, defined
    assert found


def test_the_readme_of_the_room_names_every_building_block() -> None:
    readme = (ROOT / "llmpar" / "pages" / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+\.js)` \| (.*) \|$", readme, re.MULTILINE))
    assert set(rows) == set(pages._BLOCKS)
    for name, told in rows.items():
        source = (PARTS / name).read_text("utf-8")
        for word in re.findall(r"`(\w+)(?:\([\w, ]*\))?`", told):
            assert re.search(rf"(?:function|class|const) {word}\b", source), f"{name}: {word}"


def test_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(WriteFailed, match="no room for the rows of a page"):
        Rows()
