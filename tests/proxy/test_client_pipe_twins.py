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

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 41)
SOAK_SEEDS = range(41, 3001)
LIMIT_S = 600


def tell(core: str, seeds: range) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.proxy.random_dialogue", str(seeds[0]), str(seeds[-1])],
        cwd=ROOT, env=os.environ | {"TERRACE_CORE": core}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def compare(seeds: range) -> None:
    tellers = tell("py", seeds), tell("c", seeds)
    (story, py_errors), (same, c_errors) = (each.communicate(timeout=LIMIT_S) for each in tellers)
    assert not py_errors
    assert not c_errors
    seed = ""
    for number, (line, other) in enumerate(
        zip_longest(story.splitlines(), same.splitlines()), start=1
    ):
        if line and line.startswith("seed"):
            seed = line
        assert line == other, f"{seed}, line {number}"
    hits = sum(int(line.split()[1]) for line in story.splitlines() if line.startswith("hits"))
    assert hits > len(seeds) * 10, "L1 took little part"


pytestmark = pytest.mark.skipif(CArena is None, reason="no compiled core here")


def test_random_dialogues() -> None:
    compare(SEEDS)


@pytest.mark.soak
def test_many_random_dialogues() -> None:
    compare(SOAK_SEEDS)
