"""Both cores tell the same story: random dialogues, compared line by line.

What clients get, what Redis is sent and when, and what is counted must not depend on the
core. A core is chosen per process, so each tells its stories in one of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.tiers.twins import CArena

ROOT = Path(__file__).parents[3]
SEEDS = range(1, 41)
SOAK_SEEDS = range(41, 3001)
LIMIT_S = 600


def tell(core: str, seeds: range) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.proxy.random_dialogue", str(seeds[0]), str(seeds[-1])],
        cwd=ROOT, env=os.environ | {"TERRACE_CORE": core}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def stories(seeds: range) -> tuple[list[list[str]], list[list[str]]]:
    """The lines of each dialogue, by the readable and by the compiled core."""
    tellers = tell("py", seeds), tell("c", seeds)
    (py, py_errors), (c, c_errors) = (each.communicate(timeout=LIMIT_S) for each in tellers)
    assert not py_errors
    assert not c_errors
    return _split(py), _split(c)


def _split(told: str) -> list[list[str]]:
    return [story.splitlines() for story in told.split("seed ")[1:]]


def compare(seeds: range) -> None:
    hits = 0
    for py, c in zip(*stories(seeds), strict=True):
        if py != c:
            # By random hashes two keys may share a token (one dialogue of 4,000): not twice.
            ((py,), (c,)) = stories(range(int(py[0]), int(py[0]) + 1))
        for number, (line, other) in enumerate(zip_longest(py, c), start=1):
            assert line == other, f"seed {py[0]}, line {number}"
        hits += sum(int(line.split()[1]) for line in py if line.startswith("hits"))
    assert hits > len(seeds) * 10, "L1 took little part"


pytestmark = pytest.mark.skipif(CArena is None, reason="no compiled core here")


def test_random_dialogues() -> None:
    compare(SEEDS)


@pytest.mark.soak
def test_many_random_dialogues() -> None:
    compare(SOAK_SEEDS)
