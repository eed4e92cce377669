"""docs/RULES.md names tests that exist, for every rule at least one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line.split("|")[1:-1]
    for line in (ROOT / "docs/RULES.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d", line)
]


def test_rules_are_numbered_without_a_gap() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) == 26


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"rule {row[0].strip()}")
def test_every_rule_has_tests_that_exist(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])
    assert named
    for name in named:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in defined, name
