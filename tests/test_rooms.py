"""The rooms of the package and the direction of imports: downwards only, those inside functions too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnrepro

HOME = Path(bnrepro.__file__).parent
# Each room may import those named here, itself, and nothing else of the package.
BELOW = {
    "core": set(),
    "norms": set(),
    "data": {"core"},
    "gradients": {"core"},
    "models": {"core", "norms", "gradients"},
    "train": {"core", "norms", "data", "models", "gradients"},
    "plan": {"core", "data", "models", "train"},
    "draw": {"core"},
    "report": {"core", "gradients", "draw"},
    "evidence": {"core", "draw", "plan"},
}
EVERYWHERE_ELSE = {"cli.py", "__init__.py", "__main__.py"}
FILES = sorted(path for path in HOME.rglob("*.py") if path.parent != HOME)


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports from the package, also inside functions and where only types are checked."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "bnrepro")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bnrepro":
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_the_package_has_the_rooms_of_the_order_and_few_files_beside_them():
    entries = {path.name for path in HOME.iterdir()} - {"__pycache__"}
    assert set(BELOW) <= entries and len(entries) <= 14
    assert {name for name in entries if name.endswith(".py")} == EVERYWHERE_ELSE


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_imports_run_downwards_only(path):
    room = path.relative_to(HOME).parts[0]
    allowed = BELOW[room] | {room}
    upwards = [name for name in imports(path) if name.split(".")[1] not in allowed]
    assert not upwards


@pytest.mark.parametrize("room", BELOW)
def test_a_room_says_what_lives_there(room):
    text = ast.get_docstring(ast.parse((HOME / room / "__init__.py").read_text()))
    assert text and len(text) > 100


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda path: str(path.relative_to(HOME)))
def test_no_module_and_no_class_is_too_long_to_be_read(path):
    text = path.read_text()
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    assert len(text.splitlines()) <= 300
    assert all((node.end_lineno or 0) - node.lineno < 150 for node in classes)
