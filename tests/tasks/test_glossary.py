"""Glossaries: any usual CSV file is read or refused by line, and the terms of a text are found as whole words."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.errors import InputError, InputUnreadable
from llmpar.tasks.glossary import Glossary

TERMS = [
    ("server", "Server"), ("web server", "Webserver"), ("web", "Netz"), ("node.js", "Node.js"), ("C++", "C++"),
    ("IT", "EDV"), ("iPhone", "iPhone"), ("it", "es"), ("Straße", "street"), ("café", "Kaffeehaus"),
    ("机器学习", "machine learning"), ("学习", "study"), ("機械", "machine"), ("서울", "Seoul"), ("ราคา", "price"),
    ("किताब", "book"), ("سوق", "market"), ("well-known", "bekannt"),
]  # fmt: skip


@pytest.fixture
def read(tmp_path: Path):
    def call(content: str | bytes) -> Glossary:
        path = tmp_path / "glossary.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Glossary.read(path)

    return call


def sources(text: str) -> list[str]:
    return [source for source, _ in Glossary(TERMS).terms_in(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The server is up. Servers are not.", ["server"]),
        ("SERVER, Server", ["server"]),
        ("observer, serverless, server_1, server2", []),
        ("the 'server'-side", ["server"]),
        ("The web server serves the web.", ["web server", "web"]),
        ("the web\n  server", ["web server"]),
        ("web\u00a0server", ["web server"]),
        ("a web, server", ["web", "server"]),
        ("Node.JS and C++ code; cc++", ["node.js", "C++"]),
        ("IT department", ["IT"]),
        ("it works, IT does not", ["it", "IT"]),
        ("It rains.", ["it"]),
        ("an iPhone, an Iphone, an IPHONE", ["iPhone"]),
        ("die STRASSE", ["Straße"]),
        ("cafe\u0301 CAFÉ", ["café"]),
        ("cafe", []),
        ("well-known", ["well-known"]),
        ("我们学习机器学习。", ["学习", "机器学习"]),
        ("工作機械の", ["機械"]),
        ("서울은 크다", ["서울"]),
        ("มีราคาแพง", ["ราคา"]),
        ("यह किताब है", ["किताब"]),
        ("किताबें", []),
        ("في سوق كبير", ["سوق"]),
        ("السوق", []),
        ("", []),
        ("\ud800server", ["server"]),
    ],
)
def test_terms_are_found_as_whole_words(text: str, expected: list[str]) -> None:
    assert sources(text) == expected


def test_a_glossary_gives_the_terms_as_they_are_written() -> None:
    assert Glossary(TERMS).terms_in("CAFÉ, café, server") == (("café", "Kaffeehaus"), ("server", "Server"))
    assert Glossary([]).terms_in("anything") == ()


@given(st.lists(st.sampled_from(["a", "b", "a b", "b a", "A", "aB", ".", "中", "文"]), max_size=12))
def test_a_term_alone_is_found_and_each_once(parts: list[str]) -> None:
    glossary = Glossary((part, part) for part in parts)
    for part in parts:
        assert len(glossary.terms_in(part)) == 1
        assert glossary.terms_in(f"{part} {part}")
    found = glossary.terms_in(" ".join(parts))
    assert len(found) == len(set(found))


# Files


@pytest.mark.parametrize(
    "content",
    [
        "server,Dienst\nweb,Netz\n",
        "server;Dienst\nweb;Netz",
        "server\tDienst\r\nweb\tNetz\r\n",
        b"\xef\xbb\xbfserver,Dienst\nweb,Netz\n",
        '"server", "Dienst"\n\n , \n web , Netz \n',
        "source,target\nserver,Dienst\nweb,Netz\n",
        "Source;Target\nserver;Dienst\nweb;Netz\n",
        "source,target,note\nserver,Dienst,the machine\nweb,Netz\n",
        "English,German\nserver,Dienst\nweb,Netz\n",
        "en;de;comment\nserver;Dienst;x\nweb;Netz;\n",
        "server,Dienst,,\nweb,Netz,,\n",
        "server,Dienst\nweb,Netz\nserver,Dienst\n",
    ],
)
def test_a_table_of_two_columns_is_read(read, content: str | bytes) -> None:
    assert read(content).terms_in("web and server and source and English") == (("web", "Netz"), ("server", "Dienst"))


def test_cells_may_hold_the_other_separators_quotes_and_line_breaks(read) -> None:
    glossary = read('a, b;c\n"say ""hi""";x\n"two\nlines";y\n5" disk;z\n')
    assert glossary.terms_in("a, b") == (("a, b", "c"),)
    assert glossary.terms_in('say "hi"') == (('say "hi"', "x"),)
    assert glossary.terms_in("two lines") == (("two lines", "y"),)
    assert glossary.terms_in('5" disk') == (('5" disk', "z"),)


def test_a_language_and_its_own_name_are_a_term(read) -> None:
    assert read("German,Deutsch\nFrench,Französisch\n").terms_in("German") == (("German", "Deutsch"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nc\n", "glossary.csv:2: 1 column, where there must be two"),
        ("a,b\n\n\nHello, you,Hallo\n", "glossary.csv:4: 3 columns"),
        ("a,b,c\n", "glossary.csv:1: 3 columns"),
        ("source,target,note,more\n", "glossary.csv:1: 4 columns"),
        ("source,target,note\na,b,c,d\n", "glossary.csv:2: 4 columns"),
        ('"a\nb",c\nd\n', "glossary.csv:3: 1 column"),
        ("a,\n", "glossary.csv:1: the target is empty"),
        ("a,b\n,c\n", "glossary.csv:2: the source is empty"),
        ('a,b\n"c,d\n', "glossary.csv:2: not a CSV row"),
        ('"a"b,c\n', "glossary.csv:1: not a CSV row"),
        ("a,b\nc,d\nA,e\n", "glossary.csv:3: 'A' is 'b' in line 1"),
        (b"a,b\nc,\xff\n", "glossary.csv:2: not valid UTF-8"),
        ("a,b\n".encode("utf-16"), "glossary.csv:1: not valid UTF-8"),
    ],
)
def test_what_is_no_glossary_is_refused_by_line(read, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as raised:
        read(content)
    assert message in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(InputUnreadable, match=str(path)):
            Glossary.read(path)


def words(source: str) -> tuple[str, ...]:
    """Return a term's words and signs: terms that have the same ones are equal."""
    return tuple(re.findall(r"\w+|[^\w\s]", source))


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-c ,;\"\t]*[a-c]", fullmatch=True), st.text('xyz,;"\n', min_size=1)), max_size=5
    ),
    st.sampled_from(",;\t"),
)
def test_what_was_written_as_csv_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "g.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("source", "target"), *rows])
    try:
        glossary = Glossary.read(path)
    except InputError:
        seen = {words(source) for source, _ in rows}
        assert len(seen) < len(rows) or any(not target.split() for _, target in rows) or not all(seen)
    else:
        for source, target in rows:
            found = {(words(known), said) for known, said in glossary.terms_in(source)}
            assert (words(source), " ".join(target.split())) in found


def test_many_terms_and_hostile_text_take_linear_time() -> None:
    glossary = Glossary((f"w{i} a b{i % 7}", str(i)) for i in range(10_000))
    started = time.process_time()
    for text in (
        "w1 a " * 200_000,
        "a" * 1_000_000,
        "a" + "\u0316\u0301" * 500_000,
        "中" * 1_000_000,
        "\ud800" * 99_999,
    ):
        assert glossary.terms_in(text) == ()
    assert time.process_time() - started < 10, "quadratic: that would be minutes"
