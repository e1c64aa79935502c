"""What a path that a command takes is to the run: each option and argument with a path declares one of these roles.

All of them go into the run's register before the command begins, and with them what it reads and writes unasked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import typer

from llmpar.documents.folders import Folders, Selection
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.register import Register
from llmpar.errors import WriteFailed

_F = TypeVar("_F", bound=Callable[..., Any])

Values = Mapping[str, Any]
Role = Callable[[Register, str, Any, Values], None]
"""Enters a value, which is not None: the register, the option's name, the value, those of all options."""


def read(register: Register, name: str, value: Path, values: Values) -> None:  # noqa: ARG001
    """A file that is read."""
    register.read(value, name)


def written(register: Register, name: str, value: Path, values: Values) -> None:  # noqa: ARG001
    """A file that is emptied and written line by line."""
    register.written(value, name)


def replaced(register: Register, name: str, value: Path, values: Values) -> None:  # noqa: ARG001
    """A file that a new one replaces when it is complete."""
    register.replaced(value, name)


def grown(register: Register, name: str, value: Path, values: Values) -> None:  # noqa: ARG001
    """A file that is read if it is there, and that a longer one replaces."""
    register.replaced(value, name, "the file of terms")


def output(register: Register, name: str, value: Path, values: Values) -> None:  # noqa: ARG001
    """The file that takes everything."""
    register.replaced(value, name, "the output")


def destination_directory(register: Register, name: str, value: Path, values: Values) -> None:
    """A directory of outputs, which `DirectoryOutput` enters: their names depend on the task."""


def merged_stores(register: Register, name: str, value: Sequence[Path], values: Values) -> None:
    """Stores whose answers another one takes, which itself looks that it is none of them: the usual one may be one."""


def store(register: Register, name: str, value: Path, values: Values) -> None:
    """A store; `enter_all` enters it with the usual one, which may be the same."""


def task(register: Register, name: str, value: str, values: Values) -> None:  # noqa: ARG001
    """A task's name or file."""
    from llmpar.tasks.files import path_of

    if path := path_of(value):
        register.read(path, name)


def model(register: Register, name: str, value: str, values: Values) -> None:  # noqa: ARG001
    """A model's name, file or directory; of a directory, what is in it."""
    path = Path(value)
    if os.path.isfile(path):  # noqa: PTH113 (Path's raises where a name is too long)
        for file in _parts(path):
            register.read(file, name)
    elif value and os.path.exists(path / "config.json"):  # noqa: PTH110
        with contextlib.suppress(OSError):  # told when it is read
            for file in sorted(path.rglob("*")):
                register.read(file, name)


def _parts(path: Path) -> tuple[Path, ...]:
    """Return all files of the model that a file belongs to, as it may be one part of several."""
    from llmpar.errors import ModelUnavailable
    from llmpar.models.configuration import deciding_files, is_gguf

    with contextlib.suppress(ModelUnavailable):  # told when it is opened
        return deciding_files(path) if is_gguf(path) else (path,)
    return (path,)


def servers(register: Register, name: str, value: Sequence[str], values: Values) -> None:  # noqa: ARG001
    """URLs of servers, and files that list some."""
    for one in value:
        if "://" not in one:
            register.read(Path(one), name)


def documents(register: Register, name: str, value: str | Sequence[str], values: Values) -> None:
    """The inputs."""
    register.documents([value] if isinstance(value, str) else value, values.get("in_place"), name)


def documents_after_first(register: Register, name: str, value: Sequence[str], values: Values) -> None:
    """The inputs, after a first argument that says what to do, unless an option does."""
    documents(register, name, value if _says_option(values) else value[1:], values)


_DOCUMENTS = (documents, documents_after_first)


def roles_of(parameters: Mapping[str, Any]) -> dict[str, tuple[str, Role]]:
    """Return the roles that parameters declare, each with its option's name, of their annotations."""
    found = {}
    for parameter, annotation in parameters.items():
        for info in get_args(annotation)[1:]:
            if isinstance(info, typer.models.ParameterInfo) and (role := getattr(info, "role", None)):
                # In an annotation, where there is no default, Typer keeps the first name in its place.
                name = str(info.default) if isinstance(info, typer.models.OptionInfo) else ""
                found[parameter] = (name, role)
    return found


def with_role(info: Any, role: Role | None) -> Any:
    """Return Typer's description of a parameter, with what it is to the run."""
    info.role = role
    return info


def expand_folders(roles: Mapping[str, tuple[str, Role]], values: dict[str, Any]) -> Folders:
    """Put the documents of folders in the place of the folders, and return what was found in them.

    Raises:
        InputUnreadable: a folder has no document, or cannot be read.
    """
    folders = Folders()
    options = FormatOptions(**{name: values[name] for name in FormatOptions.__slots__ if name in values})
    selection = Selection(
        tuple(values.get("include") or ()),
        tuple(values.get("exclude") or ()),
        bool(values.get("gitignore")),
        options,
        values.get("output_dir"),
    )
    for parameter, (_, role) in roles.items():
        if role in _DOCUMENTS and isinstance(values.get(parameter), list):
            first = 1 if role is documents_after_first and not _says_option(values) else 0
            given = values[parameter]
            values[parameter] = given[:first] + folders.expand(given[first:], selection)
    return folders


def _says_option(values: Values) -> bool:
    """Tell whether an option says what to do, so that all arguments are inputs."""
    return values.get("prompt_file") is not None or values.get("task_name") is not None


def enters_files(command: _F) -> _F:
    """Let the files of a command that takes no shared options go into a register before it begins."""
    roles = roles_of(get_type_hints(command, include_extras=True))

    @wraps(command)
    def entering(**values: Any) -> Any:
        enter_all(roles, values)
        return command(**values)

    return entering  # type: ignore[return-value]


def enter_all(roles: Mapping[str, tuple[str, Role]], values: Values, folders: Folders | None = None) -> Register:
    """Return the register of all files that a command names, reads and writes.

    Args:
        roles: of the parameters that have one, with the names of their options.
        values: of all parameters.
        folders: what was found in folders.

    Raises:
        UsageError: one that is written is also another.
    """
    register = Register()
    register.folders = folders or Folders()
    _enter_kept(register)
    for parameter, (name, role) in roles.items():
        value = values.get(parameter)
        if value is not None:
            role(register, name, value, values)
    if any(role in _DOCUMENTS for _, role in roles.values()) and not register.has_documents:
        register.documents(["-"], values.get("in_place"))
    _enter_stores(register, values.get("store"))
    elsewhere = any(values.get(name) is not None for name in ("output", "output_dir", "in_place"))
    register.streams(writes_stdout=not elsewhere or bool(values.get("dry_run")))
    return register


def _enter_kept(register: Register) -> None:
    """Enter what llmpar keeps for itself, and what it looks for unasked: models, compiled code, the user's tasks."""
    from llmpar.paths import cache_dir
    from llmpar.tasks.files import own_files

    # Without a home nothing is kept; what we may not look into is told when it is used.
    with contextlib.suppress(WriteFailed, OSError):
        cache = cache_dir()
        register.tree(cache / "models", "the model cache")
        register.read(cache / "gguf-index.json", "the model cache")
        for directory in cache.glob("kernels-*"):
            register.tree(directory, "the cache of compiled code")
    register.tree(_hub_cache(), "the model hub's cache")
    with contextlib.suppress(OSError):
        for file in own_files():
            register.read(file, "a task of yours")


def _enter_stores(register: Register, given: Path | None) -> None:
    """Enter the store that was named, and the usual one also if it is not used: it must not be lost by mistake."""
    from llmpar.store.held import companions
    from llmpar.store.store import default_path

    paths = [("--store", given)] if given else []
    with contextlib.suppress(WriteFailed):
        paths.append(("the usual store", default_path()))
    register.stores(paths, companions)


def _hub_cache() -> Path:
    """Return where huggingface_hub keeps models, without importing it for that."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or f"{home}/huggingface"
    place = os.environ.get("HF_HUB_CACHE") or f"{hub}/hub"
    return Path(os.path.expanduser(os.path.expandvars(place)))  # noqa: PTH111 (Path's raises where there is no home)
