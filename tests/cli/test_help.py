"""The pages of `llmpar help`, and that every command which they and README show is one that works."""

from __future__ import annotations

import gzip
import html
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from record_terminal import COMMANDS, SVG
from support.pages import PAGES, Shown, blocks_shown, kinds_of_blocks, steps_of
from support.places import ROOT
from support.program import Outcome

from llmpar.cli.common_options import COMMON, FoldedCommand
from llmpar.cli.main import app, run_command_line
from llmpar.help.pages import find_pages

Call = Callable[..., Outcome]
SHOWN = [block for page in PAGES for block in blocks_shown(page)]
BLOCKS = {"console", "console parsed", "text", "sh", "toml", "python", "yaml", "json", "csv", ""}


def name_of(value: object) -> str | None:
    return f"{value.page.stem}: {value.lines[0][:60]}" if isinstance(value, Shown) else None


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that pages name, where every model is the echo engine."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    shutil.copytree(ROOT / "tests" / "support" / "workplace", tmp_path, dirs_exist_ok=True)
    with gzip.open(tmp_path / "chats.jsonl.gz", "wb") as compressed:
        compressed.write((tmp_path / "chats.jsonl").read_bytes())
    for name, value in {
        "LLMPAR_ENGINE": "echo",
        "LLMPAR_CHECK": "none",  # an echo repeats its piece
        "LLMPAR_STORE": str(tmp_path / "store.sqlite"),
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("shown", [shown for shown in SHOWN if shown.is_run], ids=name_of)
def test_what_is_shown_works(shown: Shown, workplace: Path, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in shown.lines:
        for pipe in steps_of(line):
            text = b""
            for words in pipe:
                with monkeypatch.context() as patch:
                    text = run(words, text, llmpar, patch)


def run(words: list[str], text: bytes, llmpar: Call, patch: pytest.MonkeyPatch) -> bytes:
    """Run one program of a pipe, the command line in this process, and return what it hands on."""
    words, source, target, adds = redirected(words)
    given = source.read_bytes() if source else text
    while match := re.fullmatch(r"([A-Z_]+)=(.*)", words[0]):
        patch.setenv(match[1], match[2])
        words = words[1:]
    if words[0] == "llmpar":
        outcome = llmpar(*expanded(words[1:]), stdin=given)
        assert outcome.code == 0, outcome.err
        out = outcome.out
    else:
        done = subprocess.run(expanded(words), input=given, capture_output=True, check=True, timeout=10)
        out = done.stdout
    if target is None:
        return out
    target.write_bytes((target.read_bytes() if adds and target.exists() else b"") + out)
    return b""


def redirected(words: list[str]) -> tuple[list[str], Path | None, Path | None, bool]:
    """Return a program's words without redirections, what it reads, where it writes, and whether it adds there."""
    left: list[str] = []
    source = target = None
    adds = False
    given = iter(words)
    for word in given:
        if word == "<":
            source = Path(next(given))
        elif word in (">", ">>"):
            if left[-1] == "2":  # stderr, which a test looks at itself
                left.pop()
                next(given)
            else:
                target, adds = Path(next(given)), word == ">>"
        else:
            left.append(word)
    return left, source, target, adds


def expanded(words: list[str]) -> list[str]:
    """Return words with patterns of files filled in, as a shell does where there are such files."""
    found: list[str] = []
    for word in words:
        files = sorted(map(str, Path().glob(word))) if re.fullmatch(r"[\w./-]*\*[\w./*-]*", word) else []
        found += files or [word]
    return found


@pytest.mark.parametrize("shown", [shown for shown in SHOWN if not shown.is_run], ids=name_of)
def test_what_needs_more_than_a_test_has_is_written_well(shown: Shown, workplace: Path) -> None:
    for pipe in (pipe for line in shown.lines for pipe in steps_of(line)):
        for words in pipe:
            if "llmpar" in words:
                parse(redirected(words)[0][words.index("llmpar") + 1 :])


def parse(arguments: list[str]) -> None:
    """Let Typer read a command line, and run nothing; one that it refuses raises its error."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("llmpar", [*arguments])
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_a_wrong_option_is_found(workplace: Path) -> None:
    parse(["run", "Say {text}", "--endpoint", "http://localhost:8080"])
    with pytest.raises(Exception, match="No such option"):
        parse(["run", "Say {text}", "--endpoimt", "http://localhost:8080"])


def test_pipes_and_files_of_a_line_are_told_apart() -> None:
    steps = steps_of("mkdir a && llmpar run 'a | b' < x.txt 2>> err | sort > y.txt # why")
    assert steps == [
        [["mkdir", "a"]],
        [["llmpar", "run", "a | b", "<", "x.txt", "2", ">>", "err"], ["sort", ">", "y.txt"]],
    ]
    assert redirected(steps[1][0]) == (["llmpar", "run", "a | b"], Path("x.txt"), None, False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_block_of_a_page_says_what_it_is(page: Path) -> None:
    assert set(kinds_of_blocks(page)) <= BLOCKS


def test_help_lists_every_page_in_a_line(llmpar: Call) -> None:
    outcome = llmpar("help")
    told = outcome.out.decode().splitlines()
    pages = find_pages()
    assert outcome.code == 0
    assert len(pages) == len(PAGES) - 1 > 0
    assert [line.split(None, 1) for line in told[: len(pages)]] == [[page.topic, page.summary] for page in pages]


def test_the_readme_names_every_page() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("## Read on")[2].partition("\n## ")[0]
    named = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE)[1:]
    assert sorted(", ".join(named).split(", ")) == [page.topic for page in find_pages()]


def test_a_pipe_gets_the_page_as_it_is_written(llmpar: Call) -> None:
    for page in find_pages():
        assert llmpar("help", page.topic).out.decode() == (ROOT / "llmpar/help" / f"{page.topic}.md").read_text("utf-8")


def test_a_topic_may_be_written_as_it_is_spoken(llmpar: Call) -> None:
    assert llmpar("help", "Exit", "codes").out == llmpar("help", "exit-codes").out != b""


def test_the_first_word_of_a_topic_will_do(llmpar: Call) -> None:
    assert llmpar("help", "cron").out == llmpar("help", "cron-and-pipes").out != b""
    assert llmpar("help", "model").out == llmpar("help", "models").out != b""
    assert "format-list or formats" in llmpar("help", "format").err, "two pages may be meant"


@pytest.mark.parametrize(("word", "page"), [("thread", "speed"), ("Max  retries", ""), ("dry run", "preview")])
def test_a_word_of_a_page_is_told_where_it_stands(llmpar: Call, word: str, page: str) -> None:
    outcome = llmpar("help", word)
    assert (outcome.code, outcome.out) == (2, b"")
    assert ("it is told of in" in outcome.err) == bool(page)
    assert page in outcome.err


@pytest.mark.parametrize("command", ["apply", "compare"])
def test_few_options_are_shown_at_once(llmpar: Call, command: str) -> None:
    assert "--help-all" not in llmpar(command, "--help").out.decode()
    outcome = llmpar(command, "--help-all")
    assert outcome.code == 2
    assert "No such option: --help-all" in outcome.err


@pytest.mark.parametrize("wrong", ["exit-kodes", "exitcodes", "codes"])
def test_a_wrong_topic_is_told_the_nearest(llmpar: Call, wrong: str) -> None:
    outcome = llmpar("help", wrong)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "did you mean exit-codes" in outcome.err


def test_a_topic_like_no_other_is_told_all(llmpar: Call) -> None:
    outcome = llmpar("help", "zzz")
    assert outcome.code == 2
    assert all(page.topic in outcome.err for page in find_pages())


def test_a_terminal_gets_it_laid_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run_command_line(["help", "exit-codes"]) == 0
    told = capsys.readouterr().out
    assert "|---|" not in told
    assert "The run was interrupted" in told


def test_a_command_is_no_topic_and_told_where_its_help_is(llmpar: Call) -> None:
    outcome = llmpar("help", "split")
    assert (outcome.code, outcome.err) == (0, "")
    assert b"`llmpar split --help`" in outcome.out


@pytest.mark.parametrize("name", sorted(COMMON))
def test_every_option_is_common_or_in_help_all(llmpar: Call, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command: Any = typer.main.get_command(app)
    options = {
        parameter.name: parameter.opts[0]
        for parameter in command.commands[name].params
        if parameter.param_type_name == "option" and parameter.name != "help_all"
    }
    assert set(COMMON[name]) <= options.keys(), "the table names what is no option"
    assert len(COMMON[name]) == len(set(COMMON[name])) <= 14, "a dozen is read, and more is not"
    few, all_ = (shown_in(llmpar(name, how).out.decode()) for how in ("--help", "--help-all"))
    assert few == {options[parameter] for parameter in COMMON[name]} | {"--help", "--help-all"}
    assert all_ == {*options.values(), "--help", "--help-all"}


def shown_in(text: str) -> set[str]:
    """Return the options that a help text has rows for."""
    return set(re.findall(r"^│ \*?\s*(--[a-z][a-z-]*)", text, re.MULTILINE))


def test_every_command_with_shared_options_has_a_row() -> None:
    command: Any = typer.main.get_command(app)
    assert {name for name, inner in command.commands.items() if isinstance(inner, FoldedCommand)} == COMMON.keys()


def test_the_picture_of_a_terminal_shows_what_its_script_runs() -> None:
    shown = html.unescape(re.sub("<[^>]*>", "", SVG.read_text("utf-8"))).replace("\xa0", " ")
    lines = [line.strip() for command in COMMANDS for line in command.split("\n")]
    assert [line for line in lines if line not in shown] == []
    for command in COMMANDS:
        for pipe in steps_of(command.replace("\\\n", " ")):
            for words in pipe:
                if words[0] == "llmpar":
                    parse(words[1:])
    assert f"]({SVG.relative_to(ROOT)})" in (ROOT / "README.md").read_text("utf-8")
