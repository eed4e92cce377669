"""What the compiled L1 store takes of the memory: its budget, and per entry little beside data."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.tiers.twins import CArena

pytestmark = pytest.mark.skipif(CArena is None, reason="no compiled core here")

VALUE = b"x" * 64
DATA_BYTES = 15 + len(VALUE)
OVERHEAD_MAX_BYTES = 48
STATUS = Path("/proc/self/status")


def shared_bytes() -> int:
    match = re.search(r"^RssShmem:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def test_an_entry_costs_little_beside_its_data() -> None:
    """All that is inside the budget, the tables and RESP's framing too, per entry of a full one."""
    arena = CArena(24 * 1024**2)
    number = 0
    while not arena.evictions:
        name = b"key:%011d" % number
        assert arena.commit_fill(
            name, b"", b"$64\r\n%b\r\n" % VALUE, arena.begin_fill(name), 1, 1e9
        )
        number += 1
    assert arena.max_bytes / len(arena) - DATA_BYTES <= OVERHEAD_MAX_BYTES


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_the_memory_of_the_process_keeps_to_the_budget() -> None:
    source = random.Random(1)
    before = shared_bytes()
    arena = CArena(16 * 1024**2)
    for sizes in ((0, 20), (1, 400), (2000, 60_000), (0, 40)):
        for _ in range(60_000 // (1 + sizes[1] // 1000)):
            name = b"k%d" % source.randrange(500_000)
            arena.get(name, b"", 1.0)
            reply = bytes(source.randint(*sizes))
            arena.commit_fill(name, b"", reply, arena.begin_fill(name), arena.epoch, 1e9)
        assert arena.used_bytes + arena.table_bytes <= arena.max_bytes
        # Pages that are only begun (of stripes, of segments), and tables: small ones do not count.
        assert shared_bytes() - before <= arena.max_bytes * 1.03 + 256 * 1024
    arena.resize(4 * 1024**2)
    assert shared_bytes() - before <= 7 * 1024**2, "what shrinking freed is not given back"
    arena.check()
