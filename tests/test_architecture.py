"""The house: imports go one way, nothing goes in circles, and what a person reads at once stays short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ecgscan_lite"

#: From the ground up: a folder, or a module of the package's root, imports from those before it alone.
ORDER = (
    "files", "memory", "precision", "executors", "toml_tables", "ecg", "settings", "datasets", "corpus", "rendering",
    "digitization", "models", "losses", "training", "evaluation", "experiments", "reporting", "cli_pages", "cli",
)  # fmt: skip
MAX_FLOORS, MAX_MODULE_LINES, MAX_FUNCTION_LINES = 10, 320, 50


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without the package's."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str) -> set[str]:
    """Modules of the package that a module imports, inside functions too; not those that type checkers alone see."""

    def statements(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
                yield child
                yield from statements(child)

    found = set()
    for node in statements(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            base = node.module.partition(".")[2]
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            found |= {name if name in modules() else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith(f"{PACKAGE}.")}
    return found - {module, ""}


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_a_module_imports_only_from_rooms_before_its_own(module: str) -> None:
    above = [name for name in imports(module) if ORDER.index(room(name)) > ORDER.index(room(module))]
    assert not above, f"{module} imports {', '.join(above)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    tuple(TopologicalSorter({name: imports(name) for name in modules()}).static_order())  # raises CycleError


def test_the_house_has_at_most_ten_floors() -> None:
    """A room stands on the highest of those that it imports from."""
    rooms = {name: set() for name in ORDER}
    for module in modules():
        if module:
            rooms[room(module)] |= {room(name) for name in imports(module)} - {room(module)}
    floors: dict[str, int] = {}
    for name in TopologicalSorter(rooms).static_order():
        floors[name] = 1 + max((floors[other] for other in rooms[name]), default=0)
    assert max(floors.values()) <= MAX_FLOORS, floors


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_modules_and_functions_are_short(module: str) -> None:
    source = modules()[module].read_text(encoding="utf-8")
    assert source.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            assert node.end_lineno - first < MAX_FUNCTION_LINES, f"{node.name} has {node.end_lineno - first + 1} lines"


def test_settings_load_neither_torch_nor_rendering() -> None:
    script = "import sys, ecgscan_lite.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert not {"torch", "ecgscan_lite.rendering", "timm", "matplotlib"} & set(loaded.stdout.split())
