"""Where tests and helpers lie, and what a test may know of a module."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import helpers

ROOT = Path(__file__).parent
OTHER_NAMES = {"triton_long_rows": "test_triton_compiled"}
"""Modules whose own tests have another name."""
SHARED = {("conftest.py", "fastprune.pruning.method._REGISTRY")}
"""What one fixture touches so that no test must: methods can be registered, and not taken back."""


def test_no_two_test_files_share_a_name() -> None:
    """Pytest imports them by their names alone."""
    names = Counter(path.name for path in ROOT.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_every_helper_is_listed() -> None:
    modules = {path.stem for path in Path(helpers.__file__).parent.glob("*.py")} - {"__init__", "test_combinations"}
    assert helpers.__doc__ is not None
    assert {name for name in modules if f"`{name}`" not in helpers.__doc__} == set()


def test_what_a_module_keeps_to_itself_is_known_to_its_own_tests_alone() -> None:
    """The C++ core apart: its names are private to users, and it has no other ones."""
    known = {
        (path.name, f"{module}.{name}")
        for path in ROOT.rglob("*.py")
        for module, name in private_names(ast.parse(path.read_text()))
        if name != "_core" and not own_tests(path.stem, module.rpartition(".")[2])
    }
    assert known == SHARED


def own_tests(stem: str, module: str) -> bool:
    return module in stem or OTHER_NAMES.get(module) == stem


def private_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file takes from modules of fastprune that begins with an underscore."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fastprune":
            for alias in node.names:
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if alias.name.startswith("_"):
                    yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            if node.attr.startswith("_") and not node.attr.startswith("__"):
                yield modules[node.value.id], node.attr
