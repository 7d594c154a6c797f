"""The failpoints that the source names."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE: Final = {"migration": "tests/store/test_migrations.py"}
"""Rooms whose failpoints a test of their own kills at: no campaign comes past them."""
_ROOMS = (_ROOT / "indexer", _ROOT / "server")


def failpoints_in_source() -> list[tuple[str, str]]:
    """Name and place (file and line) of every call of `failpoints.reached`, in order.

    Raises:
        ValueError: A name is no literal.
    """
    return sorted(
        found for room in _ROOMS for path in room.rglob("*.py") for found in _failpoints(path)
    )


def names_to_kill_at() -> list[str]:
    """The names that a campaign has to reach."""
    names = {name for name, _ in failpoints_in_source()}
    return sorted(name for name in names if name.partition(".")[0] not in ELSEWHERE)


def _failpoints(path: Path) -> Iterator[tuple[str, str]]:
    if path.name == "failpoints.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _called(node.func) == "reached":
            place = f"{path.relative_to(_ROOT)}:{node.lineno}"
            name = node.args[0]
            if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                raise ValueError(f"the failpoint in {place} has no literal name")
            yield name.value, place


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
