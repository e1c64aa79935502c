"""Tasks from files: the built-in ones, the user's own, and any that is named by its path. Knows no model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from llmpar.documents.document import Merge, Unit
from llmpar.errors import UsageError, WriteFailed, setting
from llmpar.paths import config_dir
from llmpar.smallfile import read_whole
from llmpar.tasks.checks import CHECKS, DEFAULT_CHECKS
from llmpar.tasks.task import QUESTION_FIELDS, Family, Form, Skip, Task, placeholders

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SUFFIX = ".toml"
_TEXTS = ("description", "system", "prompt", "reduce")
_COUNTS = ("margin", "min_text_tokens", "max_text_tokens", "chunk", "context")
_LISTS: dict[str, tuple[str, ...]] = {
    "checks": CHECKS,
    "skip": get_args(Skip),
    "choices": (),
    "required": (),
    "match": (),
}
_WORDS: dict[str, tuple[str, ...]] = {"unit": get_args(Unit), "merge": get_args(Merge)}
_KEYS = (*_TEXTS, *_COUNTS, *_WORDS, "growth", "checks", "skip", "choices", "required", "schema", "values", "family")
_FAMILY_KEYS = ("match", "prompt", "system", "reduce", "chunk")
_MOST = 1_000_000_000  # tokens, neighbours: more than any machine has room for
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task's file: its name for people, what is in it, and whether it came with llmpar."""

    name: str
    source: str
    is_builtin: bool


def list_tasks() -> list[TaskFile]:
    """Return the tasks that have a name: the user's own, and the built-in ones that they do not replace.

    Raises:
        InputUnreadable: one of the user's cannot be read.
    """
    own = {file.stem: file for file in own_files()}
    found = [TaskFile(name, _read(file, is_found=True), is_builtin=False) for name, file in own.items()]
    return found + [file for file in _builtin() if file.name not in own]


def own_directory() -> Path | None:
    """Return where the user's own tasks are, None without a home."""
    try:
        return config_dir() / "tasks"
    except WriteFailed:
        return None


def find_task(name: str) -> Task:
    """Return a task by its name, or by its file's path (which has a / in it, or ends in .toml).

    Raises:
        InputUnreadable: the file cannot be read.
        UsageError: there is none of that name, or its file is damaged; the message names the line.
    """
    file = find_file(name)
    return parse_task(file.name, file.source, name if file.name != name else f"task {name}")


def path_of(name: str) -> Path | None:
    """Return the path that a task is named by, None if it is named by its name."""
    return Path(name) if "/" in name or name.endswith(_SUFFIX) else None


def find_file(name: str) -> TaskFile:
    """Return a task's file; see `find_task`."""
    if path := path_of(name):
        return TaskFile(path.stem, _read(path), is_builtin=False)
    files = list_tasks()
    for file in files:
        if file.name == name:
            return file
    raise UsageError(
        f"no task {name!r}; there are {', '.join(sorted(file.name for file in files))}, or name a file (./{name}.toml)"
    )


def parse_task(name: str, source: str, place: str) -> Task:
    """Return the task that a file describes.

    Args:
        name: of the task.
        source: what the file says.
        place: the file, for messages.

    Raises:
        UsageError: it is no TOML, or has keys, values or names in braces that a task has not.
    """
    return _Parser(source, place).task(name)


def with_values(task: Task, values: Mapping[str, str]) -> Task:
    """Return a task with what names in its prompt stand for.

    Raises:
        UsageError: it has no such name, or one still stands for nothing that must not.
    """
    known = [name for name, _ in task.values if name not in QUESTION_FIELDS]
    for name in values:
        if name not in known:
            there = ", ".join(known) or "none"
            raise UsageError(f"task {task.name}: has no value called {name!r}; there are: {there}")
    task = task.with_values(**values)
    for name in task.required:
        if not task.value(name).strip():
            given = setting("values", f"{{{name!r}: …}}", option=f"--set {name}=…")
            raise UsageError(f"task {task.name}: needs a value for {name!r} ({given})")
    return task


class _Parser:
    """Reads one file, and knows the lines of what it complains about."""

    def __init__(self, source: str, place: str) -> None:
        self._source = source
        self._place = place

    def task(self, name: str) -> Task:
        try:
            data = tomllib.loads(self._source)
        except tomllib.TOMLDecodeError as error:
            at = re.search(r"\(at line (\d+), column \d+\)", str(error))
            line = int(at[1]) if at else 1 + self._source.rstrip("\n").count("\n")  # "at end of document"
            raise UsageError(f"{self._place}:{line}: is no TOML: {str(error).partition(' (at ')[0]}") from error
        except RecursionError as error:
            raise UsageError(f"{self._place}: is nested too deeply") from error
        except ValueError as error:  # a number of thousands of digits
            raise UsageError(f"{self._place}: holds a number that is too large") from error
        given = self._checked(data, _KEYS)
        if not str(given.get("prompt", "")).strip():
            raise UsageError(f'{self._place}: has no prompt; say prompt = "… {{text}}"')
        families = tuple(self._family(entry, index) for index, entry in enumerate(given.pop("family", ())))
        values = {key: str(value) for key, value in given.pop("values", {}).items()}
        choices, schema = given.pop("choices", ()), given.pop("schema", None)
        if choices and schema:
            raise self._refusal("schema", "is given beside choices; an answer can have but one form")
        if choices or schema is not None:
            given["form"] = Form(tuple(choices), self._json(schema) if schema is not None else "")
        if "checks" in given:
            given["checks"] = frozenset(given["checks"]) | DEFAULT_CHECKS
        if given.get("merge") == "reduce" and not given.get("reduce"):
            raise self._refusal("merge", 'says "reduce", but there is no prompt for it; say reduce = "…"')
        for key in given.get("required", ()):
            if key not in values:
                raise self._refusal("required", f"names {key!r}, which is not among [values]")
        templates = [given.get(key) for key in ("prompt", "system", "reduce")]
        templates += [getattr(family, key) for family in families for key in ("prompt", "system", "reduce")]
        self._check_names([template for template in templates if template], values)
        # What is not there stands for nothing, and the lines that only name such things go.
        unset = dict.fromkeys(QUESTION_FIELDS[1:], "")
        return Task(name, values=tuple(sorted({**unset, **values}.items())), families=families, **_tuples(given))

    def _json(self, schema: Any) -> str:
        try:
            return json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refusal("schema", "is no JSON: it holds a date, no number, or is nested too deeply") from error

    def _family(self, entry: Any, index: int) -> Family:
        if not isinstance(entry, dict):
            raise self._refusal("family", "is written [[family]]")
        given = self._checked(entry, _FAMILY_KEYS, index)
        if not given.get("match"):
            raise self._refusal("family", 'has no match; say match = ["smollm*"]')
        return Family(**_tuples(given))

    def _checked(self, data: Mapping[str, Any], keys: tuple[str, ...], family: int | None = None) -> dict[str, Any]:
        for key, value in data.items():
            if key not in keys:
                raise self._refusal(key, f"is no key of a task; there are {', '.join(keys)}", family)
            if fault := _fault(key, value):
                raise self._refusal(key, fault, family)
        return dict(data)

    def _check_names(self, templates: list[str], values: Mapping[str, str]) -> None:
        known = {*QUESTION_FIELDS, *values}
        for template in templates:
            for name in placeholders(template):
                if name not in known:
                    line = self._line(re.compile(re.escape(f"{{{name}}}")))
                    raise UsageError(
                        f"{self._place}:{line}: {{{name}}} stands for nothing; there are "
                        f"{', '.join(f'{{{one}}}' for one in sorted(known))}; more come under [values]"
                    )

    def _refusal(self, key: str, reason: str, family: int | None = None) -> UsageError:
        pattern = rf"^[ \t]*(?:\[+[ \t]*)?[\"']?{re.escape(key)}[\"']?[ \t]*(?:=|\.|\])"
        line = self._line(re.compile(pattern, re.MULTILINE), self._family_start(family))
        return UsageError(f"{self._place}:{line}: {key} {reason}")

    def _family_start(self, family: int | None) -> int:
        starts = [match.start() for match in re.finditer(r"^[ \t]*\[\[[ \t]*family", self._source, re.MULTILINE)]
        return 0 if family is None or family >= len(starts) else starts[family]

    def _line(self, pattern: re.Pattern[str], start: int = 0) -> int:
        match = pattern.search(self._source, start)
        return 1 + self._source.count("\n", 0, match.start() if match else 0)


def _fault(key: str, value: Any) -> str | None:
    """Return what is wrong with a key's value, None if nothing is."""
    if key in _TEXTS:
        return None if isinstance(value, str) else "is no text"
    if key in _COUNTS:
        least = 1 if key in ("max_text_tokens", "chunk") else 0
        fits = type(value) is int and value >= least
        return (
            (f"is more than {_MOST:,}" if value > _MOST else None) if fits else f"is no whole number of {least} or more"
        )
    if key == "growth":
        fits = type(value) in (int, float) and value >= 0
        return (f"is more than {_MOST:,}" if value > _MOST else None) if fits else "is no number of 0 or more"
    if key in _WORDS:
        return None if value in _WORDS[key] else f"is none of {', '.join(_WORDS[key])}"
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            return "is no list of texts"
        unknown = next((item for item in value if _LISTS[key] and item not in _LISTS[key]), None)
        return f"names {unknown!r}, which is none of {', '.join(_LISTS[key])}" if unknown else None
    if key == "values":
        return _fault_of_values(value)
    return None if isinstance(value, dict if key == "schema" else list) else "is no table"


def _fault_of_values(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "is no table; write [values]"
    for name, text in value.items():
        if not _NAME.fullmatch(name) or name in QUESTION_FIELDS:
            return f"holds {name!r}; names are of small letters, digits and _, and not {', '.join(QUESTION_FIELDS)}"
        if not isinstance(text, (str, int, float)) or isinstance(text, bool):
            return f"gives {name!r} what is no text"
    return None


def _tuples(given: dict[str, Any]) -> dict[str, Any]:
    return {
        key: frozenset(value) if key == "skip" else tuple(value) if isinstance(value, list) else value
        for key, value in given.items()
    }


def _builtin() -> Iterator[TaskFile]:
    for file in sorted(resources.files("llmpar.tasks.builtin").iterdir(), key=lambda file: file.name):
        if file.name.endswith(_SUFFIX):
            yield TaskFile(file.name.removesuffix(_SUFFIX), file.read_text("utf-8"), is_builtin=True)


def own_files() -> list[Path]:
    """Return the user's own tasks' files."""
    directory = own_directory()
    return sorted(directory.glob(f"*{_SUFFIX}")) if directory else []


def _read(file: Path, *, is_found: bool = False) -> str:
    """Return what a task's file says; one that was found, and not named, must be no pipe that nobody writes to."""
    try:
        return read_whole(file, is_found=is_found).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not valid UTF-8 at byte {error.start}") from error
