"""Every background task has an owner: `tiers.tasks.TaskSet` starts it, nothing else does."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWNER = "tiers/tasks.py"
STARTERS = ("create_task", "ensure_future")


def unowned_tasks(source: str) -> list[int]:
    """Lines that start a task or import what does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in STARTERS:
            found.append(node.lineno)
        if isinstance(node, ast.ImportFrom):
            found += [node.lineno for alias in node.names if alias.name in STARTERS]
    return found


def test_every_task_has_an_owner() -> None:
    files = [path for top in ("proxy", "tiers") for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 100
    broken = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        if path != ROOT / OWNER
        for line in unowned_tasks(path.read_text(encoding="utf-8"))
    ]
    assert broken == [], "use tiers.tasks.TaskSet.start"


@pytest.mark.parametrize(
    "source",
    ["asyncio.create_task(f())", "loop.create_task(f())", "from asyncio import ensure_future"],
)
def test_an_unowned_task_is_noticed(source: str) -> None:
    assert unowned_tasks(source) == [1]
