"""Docstrings tell what a reader of arrays needs: their shapes. (That there are docstrings at all, ruff tells.)"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmpar"
MODULES = sorted(PACKAGE.rglob("*.py"))
KERNELS = {
    *("engine/cpu/attention.py", "engine/cpu/draws.py", "engine/cpu/kernels.py", "engine/cpu/product.py"),
    *("engine/cuda/codes_kernels.py", "engine/cuda/kernels.py", "engine/cuda/short_keys_kernels.py"),
}
"""Their arguments have no types: compilers give them some."""
ARRAYS = re.compile(r"\b(Tensor|ndarray|NDArray|Array|Floats|WeightRows|Mask)\b")
SHAPE = re.compile(r"\((?:[\w/.'· …-]+,)+[^()]*\)|\bany shape|\bsame shape")
"""`(rows, columns)`, `(V,)`, `(…, V / 32)`, or that any will do."""


def functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods that others may call."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and not inner.name.startswith("_"):
            if isinstance(inner, ast.FunctionDef):
                yield inner
            else:
                yield from functions(inner)


def takes_arrays(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    types = [function.returns, *(argument.annotation for argument in arguments)]
    return any(ARRAYS.search(ast.unparse(type_)) for type_ in types if type_)


def without_shapes(source: str, *, is_kernels: bool = False) -> list[str]:
    """Return the functions over arrays in a module whose docstrings have no shape."""
    return [
        function.name
        for function in functions(ast.parse(source))
        if takes_arrays(function) or is_kernels
        if not SHAPE.search(ast.get_docstring(function) or "")
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_shapes_of_arrays_are_told(module: Path) -> None:
    place = module.relative_to(PACKAGE).as_posix()
    assert without_shapes(module.read_text("utf-8"), is_kernels=place in KERNELS) == []


def test_there_are_kernels() -> None:
    assert all((PACKAGE / place).exists() for place in KERNELS)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f(x: torch.Tensor) -> int:\n    """Return it (of x)."""', ["f"]),
        ('def f(x: torch.Tensor) -> int:\n    """Return it of x (rows, columns)."""', []),
        ('def f() -> dict[str, Floats]:\n    """Return some."""', ["f"]),
        ('def f() -> Floats:\n    """Return angles (length, R / 2)."""', []),
        ('class A:\n    def f(self, x: Array) -> None:\n        """Take one."""', ["f"]),
        ('class _A:\n    def f(self, x: Array) -> None:\n        """Take one."""', []),
        ("def f(x: int) -> int:\n    return 1", []),
    ],
)
def test_one_that_is_not_told_is_found(source: str, found: list[str]) -> None:
    assert without_shapes(source) == found
