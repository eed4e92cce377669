"""No function of the product is too long to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_LINES = 60  # without the docstring


def sizes() -> Iterator[tuple[str, int]]:
    for top in ("proxy", "tiers"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert node.end_lineno is not None
                    lines = node.end_lineno - node.lineno + 1
                    if ast.get_docstring(node) is not None:
                        docstring = node.body[0]
                        assert docstring.end_lineno is not None
                        lines -= docstring.end_lineno - docstring.lineno + 1
                    yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}", lines


def test_functions_are_short() -> None:
    found = dict(sizes())
    assert len(found) > 1000
    assert {name: lines for name, lines in found.items() if lines > MOST_LINES} == {}
