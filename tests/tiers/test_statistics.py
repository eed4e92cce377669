"""`statistics()` has one form: a frozen record, named for what it describes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def nodes() -> Iterator[ast.AST]:
    for top in ("proxy", "tiers"):
        for path in (ROOT / top).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def test_statistics_are_frozen_records() -> None:
    records = {}
    returned = set()
    for node in nodes():
        if isinstance(node, ast.ClassDef) and node.name.endswith("Statistics"):
            records[node.name] = " ".join(map(ast.unparse, [*node.decorator_list, *node.bases]))
        elif isinstance(node, ast.FunctionDef) and node.name == "statistics":
            returned.add(ast.unparse(node.returns) if node.returns is not None else "nothing")
    assert returned <= records.keys()
    assert len(returned) >= 8
    broken = {n for n, how in records.items() if "frozen=True" not in how and how != "NamedTuple"}
    assert broken == set()
