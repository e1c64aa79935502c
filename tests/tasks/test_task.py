"""Tasks: texts and values are inserted once and never interpreted; files say what is wrong with them, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import Outcome

from llmpar.errors import InputUnreadable, UsageError, told_in_shell
from llmpar.tasks import files, summary, task, translation
from llmpar.tasks.task import Family, Form, Task


def prompt(asked: Task, text: str, *fields: tuple[str, str]) -> str:
    return asked.messages(text, fields)[-1][1]


class TestRender:
    def test_the_placeholder_stands_for_the_text(self) -> None:
        assert (
            prompt(task.task_of_prompt("Say {text} twice: {text}"), "a {text} b") == "Say a {text} b twice: a {text} b"
        )

    def test_without_a_placeholder_the_text_follows(self) -> None:
        assert prompt(task.task_of_prompt("Fix this."), "{0} %s {{x}}") == "Fix this.\n\n{0} %s {{x}}"

    def test_braces_of_a_prompt_that_name_nothing_stay(self) -> None:
        assert (
            prompt(task.task_of_prompt('Answer as {"name": {before}}: {text}'), "x")
            == 'Answer as {"name": {before}}: x'
        )

    @given(st.text(), st.text())
    def test_no_value_is_looked_at_again(self, text: str, value: str) -> None:
        asked = Task("t", "<{a}|{text}|{b}>").with_values(a=value, b="{text}{a}")
        assert prompt(asked, text) == f"<{value}|{text}|{{text}}{{a}}>".strip("\n")

    def test_a_line_whose_names_stand_for_nothing_goes(self) -> None:
        asked = Task("t", "Terms: {terms}\nBefore {before}, after {after}\n{text}").with_values(
            terms="", before="", after=""
        )
        assert prompt(asked, "x") == "x"
        assert prompt(asked, "x", ("after", "y")) == "Before , after y\nx"
        assert prompt(asked, "x", ("terms", "a = b")) == "Terms: a = b\nx"

    def test_the_system_prompt_has_values_too(self) -> None:
        asked = Task("t", "{text}", system="Into {to}.").with_values(to="French")
        assert asked.messages("x") == (("system", "Into French."), ("user", "x"))

    def test_a_blank_prompt_is_refused(self) -> None:
        with pytest.raises(UsageError):
            task.task_of_prompt(" ")


class TestFamilies:
    TASK = Task("t", "a", system="s", reduce="r", families=(Family(("tiny*", "gemma?"), prompt="b", reduce="q"),))

    @pytest.mark.parametrize("names", [["TINY-1"], ["x", "gemma3"]])
    def test_a_model_that_is_known_is_asked_otherwise(self, names: list[str]) -> None:
        fitted = self.TASK.for_model(names)
        assert (fitted.prompt, fitted.system, fitted.reduce) == ("b", "s", "q")

    def test_others_are_not(self) -> None:
        assert self.TASK.for_model(["gemma33", "a-tiny"]).prompt == "a"

    def test_a_reduction_has_families_of_its_own(self) -> None:
        assert self.TASK.reduction().for_model(["tiny"]).prompt == "q"
        assert self.TASK.reduction().for_model(["other"]).prompt == "r"

    def test_what_says_not_how_to_reduce_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"\(reduce\)"):
            Task("t", "a").reduction()


class TestBuiltin:
    @pytest.mark.parametrize(
        "file", [file for file in files.list_tasks() if file.is_builtin], ids=lambda file: file.name
    )
    def test_each_can_be_asked(self, file: files.TaskFile) -> None:
        asked = files.find_task(file.name)
        assert asked.description
        assert "a sentence" in prompt(asked.with_values(**dict.fromkeys(asked.required, "v")), "a sentence")
        assert asked.max_new_tokens(1000) >= asked.max_new_tokens(10) > 10

    def test_translate_names_the_languages(self) -> None:
        asked = translation.make_task("de-CH", "PORTUGUESE (BRAZIL)")
        assert "Swiss High German" in prompt(asked, "Hello")
        assert "Brazilian Portuguese" in prompt(asked, "Hello")
        assert (asked.value("to_tag"), asked.value("from_tag")) == ("de-CH", "pt-BR")
        assert "from" not in prompt(translation.make_task("French"), "Hello").split("\n")[0]

    @pytest.mark.parametrize("arguments", [("",), ("Klingonish",), ("a\nb",), ("fr", "{text}"), ("fr", "auto", -1)])
    def test_what_cannot_be_meant_is_refused(self, arguments: tuple[str, ...]) -> None:
        with pytest.raises(UsageError):
            translation.make_task(*arguments)  # type: ignore[arg-type]

    def test_a_summary_has_the_length_that_is_asked(self) -> None:
        asked = summary.make_task("70", "file")
        assert "about 70 words" in prompt(asked, "x")
        assert asked.reduce
        assert "about 70 words" in prompt(asked.reduction(), "x")
        assert asked.max_new_tokens(500) > 140
        assert summary.make_task("short", "paragraph").merge == "document"

    @pytest.mark.parametrize("length", ["0", "-3", "huge", "", "99999999", "٣"])
    def test_other_lengths_are_refused(self, length: str) -> None:
        with pytest.raises(UsageError, match=r"^length"):
            summary.make_task(length, "file")


class TestFiles:
    def test_all_keys(self) -> None:
        asked = files.parse_task(
            "t",
            """
            description = "d"
            unit = "line"
            system = "s {tone}"
            prompt = "p {text} {before}"
            reduce = "r {text}"
            merge = "reduce"
            growth = 2
            margin = 7
            min_text_tokens = 3
            max_text_tokens = 90
            chunk = 50
            context = 1
            checks = ["echo"]
            skip = ["untranslatable"]
            choices = ["a", "b"]
            required = ["tone"]
            values = {tone = "dry", number = 3}
            [[family]]
            match = ["x*"]
            prompt = "q {text}"
            """,
            "t.toml",
        )
        assert asked.form == Form(choices=("a", "b"))
        assert asked.checks == {"echo", "empty", "loop"}
        assert asked.max_new_tokens(10) == 27
        assert (asked.value("tone"), asked.value("number"), asked.context, asked.chunk) == ("dry", "3", 1, 50)
        assert asked.families == (Family(("x*",), prompt="q {text}"),)

    def test_a_schema_is_a_table(self) -> None:
        asked = files.parse_task("t", 'prompt = "p"\n[schema]\ntype = "object"\n', "t.toml")
        assert asked.form is not None
        assert json.loads(asked.form.schema) == {"type": "object"}

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ('prompt = "p"\nunitt = "line"', "t.toml:2: unitt is no key"),
            ('prompt = "p"\n\nunit = "word"', "t.toml:3: unit is none of sentence"),
            ('prompt = "p"\nmargin = -1', "t.toml:2: margin is no whole number"),
            ('prompt = "p"\nmargin = true', "t.toml:2: margin is no whole number"),
            ('prompt = "p"\nchecks = ["ecco"]', "t.toml:2: checks names 'ecco'"),
            ('prompt = "p"\nchoices = "a"', "t.toml:2: choices is no list"),
            ('prompt = "p"\nchoices = ["a"]\n[schema]\ntype = "object"', "t.toml:3: schema is given beside choices"),
            ('system = "s"', "t.toml: has no prompt"),
            ('prompt = """\na\n{txt}\n"""', "t.toml:3: {txt} stands for nothing"),
            ('prompt = "p"\n[values]\ntext = "x"', "t.toml:2: values holds 'text'"),
            ('prompt = "p"\nrequired = ["tone"]', "t.toml:2: required names 'tone'"),
            ('prompt = "p"\nmerge = "reduce"', 't.toml:2: merge says "reduce"'),
            (
                'prompt = "p"\n[[family]]\nmatch = ["a"]\n[[family]]\nmatch = ["b"]\nunit = "line"',
                "t.toml:6: unit is no key",
            ),
            ('prompt = "p"\n[[family]]\nprompt = "q"', "t.toml:2: family has no match"),
            ('prompt = "p"\nfamily = ["a"]', "t.toml:2: family is written [[family]]"),
            ('prompt = "p"\nprompt = "q"', "t.toml:2: is no TOML"),
            ('prompt = "p', "t.toml:1: is no TOML"),
            ("prompt = 3", "t.toml:1: prompt is no text"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_line(self, source: str, message: str) -> None:
        with pytest.raises(UsageError) as caught:
            files.parse_task("t", source, "t.toml")
        assert str(caught.value).startswith(message)

    def test_ones_own_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_CONFIG", str(tmp_path))
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "reply.toml").write_text('prompt = "mine"')
        assert files.find_task("reply").prompt == "mine"
        assert next((file.name, file.is_builtin) for file in files.list_tasks()) == ("reply", False)
        assert files.find_task("translate").merge == "document"

    def test_a_path_names_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "shout.toml").write_text('prompt = "loud"')
        assert files.find_task(str(tmp_path / "shout.toml")).name == "shout"
        with pytest.raises(InputUnreadable):
            files.find_task(str(tmp_path / "none.toml"))

    def test_an_unknown_name_lists_those_there_are(self) -> None:
        with pytest.raises(UsageError, match=r"no task 'trnslate'; there are .*translate"):
            files.find_task("trnslate")

    def test_values(self) -> None:
        asked = files.parse_task("t", 'prompt = "{a} {text}"\nrequired = ["a"]\n[values]\na = ""', "t")
        assert prompt(files.with_values(asked, {"a": "x"}), "y") == "x y"
        with pytest.raises(UsageError, match="needs a value for 'a'"):
            files.with_values(asked, {})
        with pytest.raises(UsageError, match="no value called 'before'"):
            files.with_values(asked, {"a": "x", "before": "z"})

    def test_a_value_that_is_missing_is_named_as_it_is_given(self) -> None:
        asked = files.parse_task("t", 'prompt = "{a} {text}"\nrequired = ["a"]\n[values]\na = ""', "t")
        with pytest.raises(UsageError, match=r"\(values=\{'a': …\}\)"):
            files.with_values(asked, {})
        with told_in_shell(), pytest.raises(UsageError, match=r"\(--set a=…\)"):
            files.with_values(asked, {})


class TestCommands:
    def test_list_and_show(
        self, llmpar: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLMPAR_CONFIG", str(tmp_path))
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "mine.toml").write_text('description = "What I do."\nprompt = "x"')
        (tmp_path / "tasks" / "bad.toml").write_text("nothing = 1")
        listed = llmpar("tasks", "list").out.decode()
        assert "translate" in listed
        assert "(yours) What I do." in listed
        assert "damaged: bad:1: nothing is no key" in listed
        assert llmpar("tasks", "show", "mine").out == b'description = "What I do."\nprompt = "x"'
        assert llmpar("tasks", "show", "none").code == 2

    def test_a_task_runs_with_its_values(self, llmpar: Callable[..., Outcome], tmp_path: Path) -> None:
        file = tmp_path / "t.toml"
        file.write_text('unit = "line"\nprompt = "{tone}: {text}"\nrequired = ["tone"]\n[values]\ntone = ""')
        arguments = ("run", "--task", str(file), "--engine", "echo")
        assert llmpar(*arguments, "--set", "tone=dry", stdin=b"a\nb\n").out == b"a\nb\n"
        for more, reason in (
            ((), "needs a value for 'tone'"),
            (("--set", "tone"), "write NAME=VALUE"),
            (("--set", "tune=x"), "no value called 'tune'"),
            (("--set", "tone=x", "--system", "s"), "--system"),
        ):
            outcome = llmpar(*arguments, *more, stdin=b"a\n")
            assert (outcome.code, reason in outcome.err, len(outcome.err.splitlines())) == (2, True, 1), outcome.err

    def test_set_needs_a_task(self, llmpar: Callable[..., Outcome]) -> None:
        assert llmpar("run", "{text}", "--set", "a=b", stdin=b"x").code == 2
