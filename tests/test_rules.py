"""docs/RULES.md names tests that exist, for every rule; and each fails when its rule is broken."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutation import started
from tests.rule_mutants import MUTANTS

ROOT = Path(__file__).parent.parent
ROWS = [
    line.split("|")[1:-1]
    for line in (ROOT / "docs/RULES.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d", line)
]
NAMED = {int(number): re.findall(r"`([^`]+)`", tests) for number, _, tests in ROWS}
RUN_S = 300


def test_rules_are_numbered_without_a_gap() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) == 26


@pytest.mark.parametrize("rule", NAMED, ids=lambda rule: f"rule {rule}")
def test_every_rule_has_tests_that_exist(rule: int) -> None:
    assert NAMED[rule]
    for name in NAMED[rule]:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in defined, name


def test_every_named_test_has_a_mutant_and_every_mutant_can_be_made() -> None:
    killed = {(mutant.rule, name) for mutant in MUTANTS for name in mutant.kills}
    assert killed == {(rule, name.split("::")[1]) for rule in NAMED for name in NAMED[rule]}
    for mutant in MUTANTS:
        for change in mutant.changes:
            change.check()


@pytest.mark.soak
@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=lambda number: str(MUTANTS[number]))
def test_a_broken_rule_is_noticed(number: int, tmp_path: Path) -> None:
    mutant = MUTANTS[number]
    for name in NAMED[mutant.rule]:
        if name.split("::")[1] in mutant.kills:
            command = ["-m", "pytest", "-x", "-p", "no:cacheprovider", name]
            done = started(number, command, tmp_path, RUN_S)
            assert done.returncode == 1, done.stdout  # a test failed; nothing else went wrong
