"""Who may import whom (llmpar/README.md): the rules, held against every module's syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from llmpar.cli.main import app
from llmpar.errors import setting, told_in_shell

PACKAGE = Path(__file__).parent.parent / "llmpar"
MODULES = sorted(PACKAGE.rglob("*.py"))
GROUND = ("errors", "frozen", "interrupts", "messages", "paths", "smallfile", "visible")
"""What every room may know; each of them says below what it knows itself."""
ROOMS = {
    "__init__": ("interface", "answering", "documents", "tasks"),  # names for Python, imported when they are used
    "__main__": ("cli", "unforeseen"),
    "errors": (),
    "frozen": (),
    "messages": (),
    "visible": (),
    "unforeseen": (),
    "help": ("errors", "visible"),  # pages, and no code that they tell of
    "paths": ("errors",),
    "interrupts": ("errors",),
    "smallfile": ("errors", "visible"),
    "integrity": (*GROUND,),
    "pages": ("errors", "visible"),  # rows of text, whatever they are about
    "documents": (*GROUND, "documents.sentences"),
    "documents.sentences": ("errors", "documents.language"),  # text alone: no format, no document
    "tasks": (*GROUND, "documents.document", "documents.language", "documents.marks", "documents.placeholders"),
    "batches": (*GROUND,),
    "store": (*GROUND,),
    "engine": ("errors", "frozen", "integrity"),  # token ids alone; `build` chooses among the rooms below
    "engine.cpu": ("errors", "paths", "integrity", "engine"),
    # How the CPU's engine rounds weights, which is done alike here:
    "engine.cuda": ("errors", "paths", "engine", "engine.generic", "engine.cpu.four_bits", "engine.cpu.precision"),
    "engine.generic": ("errors", "engine"),
    "engine.ranks": ("errors", "engine"),
    "models.gguf": ("errors", "engine.cpu.block_codes", "engine.quantized"),  # what its weights become, and how
    # What a model is loaded as, how it is tried, and how memory says that it is full:
    "models": (
        *GROUND,
        "integrity",
        "models.gguf",
        "engine.cpu",
        "engine.cuda",
        "engine.generic",
        "engine.ranks",
        "models.checkpoints",
        "engine.finite",
        "engine.model",
        "engine.parts",
        "engine.precision_names",
        "engine.quantized",
        "engine.source",
        "engine.resources",
    ),
    "models.checkpoints": (
        *GROUND,
        "engine.quantized",
        "engine.source",
        "models.configuration",
        "models.mapped",
        "models.source",
    ),
    "answering.endpoint": (
        *GROUND,
        "answering.backend",  # the protocol that it speaks
        "answering.choice",
        "answering.fitting",
        "answering.scores",  # what log-probabilities say of an answer
        "tasks",
        "models.grammar",
        "engine.worker",
        "reporting.report",
    ),
    "answering.cluster": (
        *GROUND,
        "__init__",  # where llmpar's own code lies, which it ships
        "integrity",
        "answering",  # the backend over several processes, and what opens in each
        "models.devices",
        "reporting.report",
        "tasks",
    ),
    "reporting": (
        *GROUND,
        "documents.document",
        "documents.source",
        "documents.writer",
        "engine.worker",
        "pages",
        "store",
        "tasks.question",
    ),
    "answering": (
        *GROUND,
        "integrity",
        "answering.cluster",
        "answering.endpoint",
        "documents.confidence",
        "documents.document",
        "documents.marks",
        "documents.pieces",
        "tasks",
        "store",
        "models",
        "engine.build",
        "engine.compiling",
        "engine.constraint",
        "engine.echo",
        "engine.engine",
        "engine.model",
        "engine.precision_names",
        "engine.request",
        "engine.resources",
        "engine.scores",
        "engine.worker",
        "reporting.report",
    ),
    "review": (
        *GROUND,
        "documents",
        "tasks",
        "store",
        "models.grammar",  # whether a correction is of the form that was asked for
        "reporting.report",
        "answering.judging",
    ),
    "comparison": (
        *GROUND,
        "documents.columns",
        "documents.formats",
        "documents.formula",
        "documents.source",
        "pages",
        "reporting",
    ),
    "jobs": (*GROUND, "documents", "tasks", "batches", "answering", "reporting.report", "models.grammar"),
    "health": (
        *GROUND,
        "answering.backend",
        "answering.choice",
        "answering.cluster.connection",
        "answering.cluster.shares",
        "engine.cpu",  # which instructions kernels are compiled for
        "engine.model",
        "engine.resources",
        "engine.worker",
        "models",
        "store",
    ),
    "interface": (
        *GROUND,
        "documents",
        "tasks",
        "answering",
        "jobs",
        "store",
        "reporting.report",
        "models.grammar",
        "engine.worker",
    ),
    "ray": ("errors", "interface", "answering.attempts", "answering.choice", "tasks.question"),
    "cli": (
        *GROUND,
        "unforeseen",
        "documents",
        "documents.sentences",
        "tasks",
        "batches",
        "comparison",
        "store",
        "models",
        "answering",
        "answering.endpoint.address",
        "answering.endpoint.model",
        "health",
        "help",
        "jobs",
        "pages",
        "review",
        "reporting",
        "engine.precision_names",
    ),
}
"""Who knows whom, from the ground up; `llmpar/README.md` says what each room is for."""
HEAVY = {"numba", "torch", "transformers"}
# These are imported by commands that need no weights.
LATE = ("engine/build.py", "models/")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            module = node.module or ""
            # `from llmpar import errors` names a module, too.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "llmpar" else (module,)


class _WithoutFunctions(ast.NodeTransformer):
    """Leaves what runs, or may run, when a module is imported."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)


def room_of(name: str) -> str:
    """Return the room of a module, by its name without `llmpar.`."""
    parts = name.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in ROOMS else parts[0]


def knows(room: str, name: str) -> bool:
    """Tell whether a room may know a module, named without `llmpar.`; a room within another is one of its own."""
    if room_of(name) == room:
        return True
    if room == "engine" and room_of(name).startswith("engine."):
        return True  # `build` imports what it chooses
    return any(
        name == known or (name.startswith(known + ".") and room_of(name) == room_of(known)) for known in ROOMS[room]
    )


def breaches(path: str, source: str) -> list[str]:
    """Return the imports of a module, named by its path below llmpar/, that break a rule."""
    tree = ast.parse(source)
    room = room_of(path.removesuffix(".py").replace("/", "."))
    if room not in ROOMS:
        return [f"{path} stands in a room that has no row"]
    found = []
    for name in imports(tree):
        package, _, module = name.partition(".")
        if package == "llmpar" and module and not knows(room, module):
            found.append(f"{room} knows {name}")
        if package in HEAVY and not room.startswith(("engine", "models")):
            found.append(f"{path} imports {name}")
    if path.startswith(LATE):
        found += [
            f"{path} imports {name} when it is imported"
            for name in imports(_WithoutFunctions().visit(ast.parse(source)))
            if name.split(".")[0] in HEAVY
        ]
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may_know(module: Path) -> None:
    assert breaches(module.relative_to(PACKAGE).as_posix(), module.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "import llmpar.documents"),
        ("errors.py", "from llmpar import report"),
        ("documents/x.py", "from llmpar.engine.request import Request"),
        ("documents/x.py", "def f():\n    from llmpar import cli"),
        ("engine/x.py", "from llmpar.documents.document import Segment"),
        ("models/x.py", "from llmpar.engine import engine"),
        ("tasks/x.py", "from llmpar.documents.reader import TextReader"),
        ("reporting/report.py", "import llmpar.cli.main"),
        ("jobs/pipeline.py", "def f():\n    import torch.nn"),
        ("jobs/x.py", "from llmpar.engine.engine import Engine"),
        ("engine/cpu/x.py", "from llmpar.engine.cuda import kernels"),
        ("somewhere/x.py", "import json"),
        ("new.py", "import json"),
        ("documents/formats/x.py", "import transformers"),
        ("models/x.py", "import torch"),
        ("models/x.py", "class A:\n    import torch"),
        ("engine/build.py", "try:\n    from torch import nn\nexcept ImportError:\n    pass"),
    ],
)
def test_a_breach_is_found(path: str, source: str) -> None:
    assert breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tasks/x.py", "from llmpar.documents.document import Unit"),
        ("models/x.py", "def f():\n    import torch"),
        ("models/x.py", "class A:\n    def f(self):\n        import torch"),
        ("engine/build.py", "if TYPE_CHECKING:\n    import torch"),
        ("engine/x.py", "import torch"),
        ("__main__.py", "from llmpar.cli.main import main"),
    ],
)
def test_what_is_allowed_is_no_breach(path: str, source: str) -> None:
    assert breaches(path, source) == []


def test_there_are_modules() -> None:
    found = {room_of(path.relative_to(PACKAGE).as_posix().removesuffix(".py").replace("/", ".")) for path in MODULES}
    assert found == set(ROOMS), "every room has a row, and every row a room"


def test_the_top_holds_few_modules() -> None:
    top = [path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")]
    assert len(top) <= 8, "what is new belongs into a room"


def test_no_test_imports_another() -> None:
    for path in PACKAGE.parent.joinpath("tests").rglob("*.py"):
        # Not in a program that a test writes for another process, either.
        assert not re.search(r"^ *(?:import|from) (?:\w+\.)*test_", path.read_text("utf-8"), re.MULTILINE), path


def test_pages_that_the_code_names_exist() -> None:
    root = PACKAGE.parent
    for path in MODULES:
        for page in re.findall(r"[\w./-]*\w\.md\b", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""):
            places = (
                root / page,
                root / "llmpar" / page,
                path.parent / page,
                root / "tests" / page,
                root / ".github" / page,
            )
            assert any(place.exists() for place in places), f"{path} names {page}"


REPORT_FIELDS = {
    "num_documents",
    "num_unreadable",
    "num_refused",
    "num_segments_read",
    "num_bytes_read",
    "num_bytes_total",
}


def reports_written(source: str) -> list[str]:
    """Return the assignments in a module to what belongs to a report."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner = ast.unparse(node.value)
            is_report = owner.rpartition(".")[2].strip("_") == "report"
            if is_report or (node.attr in REPORT_FIELDS and owner != "self"):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_a_report_writes_a_report(module: Path) -> None:
    if module.parent.name != "reporting":
        assert reports_written(module.read_text("utf-8")) == [], "a report is told by its methods"


@pytest.mark.parametrize(
    "source",
    [
        "report.fates = None",
        "self._report.num_failed += 1",
        "run.report.num_documents -= 1",
        "given.num_refused += 1",
        "del report.fates",
        "a, report.noun = 1, 2",
    ],
)
def test_a_report_that_is_written_is_found(source: str) -> None:
    assert reports_written(source)
    assert not reports_written("self._report = report\nprint(report.num_failed)")


def options() -> set[str]:
    """Return the names of all options of all commands, `--help` left out."""
    found: set[str] = set()

    def walk(command: Any) -> None:
        for parameter in command.params:
            found.update(parameter.opts, parameter.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            walk(inner)

    walk(typer.main.get_command(app))
    return {name for name in found if name.startswith("-")} - {"--help", "-h"}


OPTIONS = options()


def options_named(source: str) -> list[str]:
    """Return the options that a module's strings name as a shell's user writes them, other than through `setting`."""
    tree = ast.parse(source)
    told = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "setting"
        for inner in ast.walk(node)
    }
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) and node not in told]
    parts = told.union(*(node.values for node in joined))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in parts]
    texts += ["".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)) for node in joined]
    told_apart = [re.sub("`[^`]*`", "", text) for text in texts if isinstance(text, str)]  # other programs' commands
    words = [word for text in told_apart if " " in text for word in re.split(r"[^\w-]+", text)]
    return [word for word in words if word in OPTIONS]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_below_the_command_line_nobody_knows_its_options(module: Path) -> None:
    if module.parent.name != "cli" and module.name not in ("errors.py", "unforeseen.py"):
        assert options_named(module.read_text("utf-8")) == [], "`errors.setting` tells each user the own way"


def test_an_option_that_is_named_is_found() -> None:
    assert options_named('raise UsageError(f"{path}: give --max-memory {size}")') == ["--max-memory"]
    assert options_named('raise UsageError("use -o FILE")') == ["-o"]
    assert options_named("""raise UsageError(f"give {setting('source', 'LANG', option='--from LANG')} now")""") == []
    assert options_named('raise UsageError("join them with `llama-gguf-split --merge`")') == []
    assert options_named('command = ["pip", "--no-deps", "--dest"]') == []


@pytest.mark.parametrize(
    ("arguments", "in_python", "in_shell"),
    [
        (("max_memory",), "max_memory", "--max-memory"),
        (("threads", "1"), "threads=1", "--threads 1"),
    ],
)
def test_a_setting_is_written_as_its_user_writes_it(arguments: tuple[str, ...], in_python: str, in_shell: str) -> None:
    assert setting(*arguments) == in_python
    assert setting("store", "False", option="--no-store") == "store=False"
    with told_in_shell():
        assert setting(*arguments) == in_shell
        assert setting("store", "False", option="--no-store") == "--no-store"
    assert setting(*arguments) == in_python
