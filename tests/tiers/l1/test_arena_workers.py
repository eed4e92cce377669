"""The compiled L1 store shared by workers: whose entries count, who is cleared, what adds up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiers.twins import CArena

pytestmark = pytest.mark.skipif(CArena is None, reason="no compiled core here")

ROOT = Path(__file__).parents[3]
NOW = 100.0
LATER = 200.0


@pytest.fixture
def arena() -> Any:
    """Of three workers; `attach` makes this process one after the other."""
    return CArena(10**6, workers=3)


def put(arena: Any, key: bytes) -> bool:
    return bool(arena.commit_fill(key, b"", b"+v", arena.begin_fill(key), arena.epoch, LATER))


def test_a_worker_reads_what_another_filled_until_that_one_lost_its_stream(arena: Any) -> None:
    arena.attach(1)
    assert put(arena, b"k")
    arena.attach(2)
    assert arena.get(b"k", b"", NOW) == b"+v"
    arena.bump_epoch()
    assert arena.get(b"k", b"", NOW) == b"+v", "that was another stream"
    arena.attach(1)
    arena.bump_epoch()
    arena.attach(2)
    assert arena.get(b"k", b"", NOW) is None


def test_an_entry_is_as_stale_as_the_watermark_of_its_filler(arena: Any) -> None:
    arena.max_staleness_s = 0.05
    arena.attach(1)
    put(arena, b"k")
    arena.attach(2)
    assert arena.get(b"k", b"", NOW) is None, "nobody vouches for it"
    arena.attach(1)
    arena.live, arena.asof = True, NOW
    arena.attach(2)
    assert arena.get(b"k", b"", NOW + 0.05) == b"+v"
    assert arena.get(b"k", b"", NOW + 0.0501) is None
    arena.attach(1)
    arena.live = False
    arena.attach(2)
    assert arena.get(b"k", b"", NOW) is None


def test_who_looks_at_an_entry_that_grows_old_says_so_to_its_filler(arena: Any) -> None:
    arena.max_staleness_s = 0.06
    arena.attach(1)
    put(arena, b"k")
    arena.live, arena.asof = True, NOW
    arena.attach(0)
    arena.get(b"k", b"", NOW + 0.01)
    arena.attach(1)
    assert arena.wanted_at == 0.0
    arena.attach(0)
    arena.get(b"k", b"", NOW + 0.03)
    arena.attach(1)
    assert arena.wanted_at == NOW + 0.03


def test_no_fill_while_another_worker_writes(arena: Any) -> None:
    arena.attach(1)
    token = arena.begin_fill(b"k")
    arena.attach(2)
    arena.begin_write(b"k")
    arena.attach(1)
    assert arena.begin_fill(b"k") == 0
    assert not arena.commit_fill(b"k", b"", b"+v", token, arena.epoch, LATER)
    arena.clear_worker(2)
    assert not arena.commit_fill(b"k", b"", b"+v", token, arena.epoch, LATER)
    assert put(arena, b"k")


def test_thousands_of_writes_in_flight_to_one_slot_are_counted(arena: Any) -> None:
    for _ in range(70_000):
        arena.begin_write(b"k")
    assert arena.writes_in_flight == 70_000
    for _ in range(70_000):
        assert arena.begin_fill(b"k") == 0
        arena.end_write(b"k")
    assert arena.begin_fill(b"k")


def test_a_worker_that_died_is_cleared_and_its_number_goes_on(arena: Any) -> None:
    arena.attach(1)
    put(arena, b"of 1")
    arena.live = True
    arena.attach(2)
    put(arena, b"of 2")
    before = arena.begin_fill(b"of 2")
    arena.clear_worker(1)
    assert arena.get(b"of 1", b"", NOW) is None
    assert arena.get(b"of 2", b"", NOW) == b"+v"
    assert arena.begin_fill(b"of 2") == before
    arena.attach(1)
    assert not arena.live
    assert put(arena, b"of 1")
    assert arena.get(b"of 1", b"", NOW) == b"+v"


def test_counters_add_up_over_workers(arena: Any) -> None:
    from tiers.l1._arena import COUNTERS, OWN_COUNTERS

    for worker in range(3):
        arena.attach(worker)
        put(arena, b"k%d" % worker)
        arena.count(OWN_COUNTERS, 10)
    assert arena.counter(OWN_COUNTERS) == 30
    assert arena.counter(OWN_COUNTERS, worker=1) == 10
    for wrong in (-1, OWN_COUNTERS - 1, COUNTERS):
        with pytest.raises(ValueError, match="counter"):
            arena.count(wrong)


def test_a_budget_of_more_than_was_reserved_is_refused() -> None:
    arena = CArena(10**6, reserve_bytes=2 * 10**6)
    arena.resize(2 * 10**6)
    with pytest.raises(ValueError, match="2000001 bytes: 2000000 are reserved"):
        arena.resize(2 * 10**6 + 1)


def test_what_no_host_has_is_an_error_not_a_crash() -> None:
    with pytest.raises(MemoryError, match="no room for an L1 of"):
        CArena(2**60)
    for wrong in ({"worker": 1, "workers": 1}, {"workers": 256}, {"worker": -1}, {"slots": 3}):
        with pytest.raises(ValueError, match=r"workers|slots"):
            CArena(10**6, **wrong)


def test_keys_and_variants_of_any_length_are_kept_or_refused() -> None:
    arena = CArena(10 * 1024**2)
    for length in (0, 1, 65_535, 65_536, 10**6, 2 * 10**6):
        name = bytes(length)
        kept = arena.commit_fill(name, b"", b"+v", arena.begin_fill(name), 1, LATER)
        assert kept is (length <= 65_535)
        assert arena.get(name, b"", NOW) == (b"+v" if kept else None)
        assert arena.commit_fill(b"k", name, b"+v", arena.begin_fill(b"k"), 1, LATER) is kept
    arena.check()


def stress(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tiers.arena_stress", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_workers_never_read_torn_or_outdated_values() -> None:
    stress("--seconds", "1.5", "--workers", "4")


def test_killing_workers_costs_others_nothing() -> None:
    assert " 0 killed" not in stress("--seconds", "2", "--workers", "4", "--kill")


def test_a_flush_beside_fills_leaves_no_slot_without_an_entry() -> None:
    for _ in range(4):
        stress("--seconds", "0.3", "--workers", "4", "--flushing", "0.2")


@pytest.mark.soak
@pytest.mark.parametrize("max_bytes", [20_000, 400_000, 20_000_000])
def test_killing_workers_for_long(max_bytes: int) -> None:
    stress("--seconds", "20", "--workers", "8", "--kill", "--max-bytes", str(max_bytes))
