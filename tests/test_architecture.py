"""Who may import whom (ARCHITECTURE.md): the rules, held against every module's syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmpar"
MODULES = sorted(PACKAGE.rglob("*.py"))
ALLOWED = {
    "errors": (),
    "paths": ("llmpar.errors",),
    "checksums": (),
    "foundation": ("llmpar.checksums", "llmpar.errors"),
    "visible": (),
    "smallfile": ("llmpar.errors", "llmpar.visible"),
    "unforeseen": (),
    "interrupts": ("llmpar.errors",),
    "store": ("llmpar.errors", "llmpar.interrupts", "llmpar.paths", "llmpar.visible", "llmpar.store"),
    "documents": ("llmpar.errors", "llmpar.interrupts", "llmpar.visible", "llmpar.documents"),
    "batches": ("llmpar.errors", "llmpar.visible", "llmpar.batches"),
    # What lies in files is looked at where it is read:
    "engine": ("llmpar.errors", "llmpar.engine", "llmpar.paths", "llmpar.checksums", "llmpar.foundation"),
    # What a model is loaded as, and how memory says that it is full:
    "models": (
        "llmpar.errors",
        "llmpar.paths",
        "llmpar.checksums",
        "llmpar.foundation",
        "llmpar.models",
        "llmpar.engine.cpu",
        "llmpar.engine.cuda",
        "llmpar.engine.finite",
        "llmpar.engine.parts",
        "llmpar.engine.resources",
    ),
    "tasks": (
        "llmpar.errors",
        "llmpar.paths",
        "llmpar.smallfile",
        "llmpar.visible",
        "llmpar.tasks",
        "llmpar.documents.document",
        "llmpar.documents.language",
    ),
}
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


def breaches(path: str, source: str) -> list[str]:
    """Return the imports of a module, named by its path below llmpar/, that break a rule."""
    tree = ast.parse(source)
    room = Path(path).parts[0].removesuffix(".py")
    found = []
    for name in imports(tree):
        if (
            name.split(".")[0] == "llmpar"
            and room in ALLOWED
            and not any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED[room])
        ):
            found.append(f"{room} knows {name}")
        if (name == "llmpar.cli" or name.startswith("llmpar.cli.")) and room not in ("cli", "__main__"):
            found.append(f"{path} imports the command line")
        if name.split(".")[0] in HEAVY and room not in ("engine", "models"):
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
        ("tasks/x.py", "from llmpar.documents.reader import Reader"),
        ("report.py", "import llmpar.cli.main"),
        ("pipeline.py", "def f():\n    import torch.nn"),
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
    assert {path.relative_to(PACKAGE).parts[0] for path in MODULES} >= {"documents", "engine", "models", "tasks", "cli"}
