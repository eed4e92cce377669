"""Numbers of clients of several workers, kept in the arena that they share."""

from __future__ import annotations

import pytest

from proxy.workers.worker import OwnNumbers, SharedNumbers, forget_clients
from tiers import L1Options
from tiers.proxy_door import CORE, SharedArena, share_arena

WORKERS = 3

needs_compiled = pytest.mark.skipif(CORE != "c", reason="several workers need the compiled core")


@pytest.fixture
def arena() -> SharedArena:
    return share_arena(L1Options(), WORKERS)


def opened(arena: SharedArena, number: int, count: int) -> list[int]:
    arena.attach(number)
    numbers = SharedNumbers(arena)
    return [numbers.open() for _ in range(count)]


def test_alone() -> None:
    numbers = OwnNumbers()
    assert [numbers.open(), numbers.open()] == [1, 2]
    numbers.close()
    assert (numbers.connected, numbers.open()) == (1, 3)


@needs_compiled
def test_ids_of_all_differ_and_tell_the_worker(arena: SharedArena) -> None:
    seen = []
    for number in (0, 1, 2, 1):
        idents = opened(arena, number, 10)
        assert {(ident - 1) % WORKERS for ident in idents} == {number}
        seen += idents
    assert len(set(seen)) == len(seen)
    assert min(seen) == 1


@needs_compiled
def test_each_counts_the_clients_of_all(arena: SharedArena) -> None:
    opened(arena, 0, 3)
    opened(arena, 1, 2)
    numbers = SharedNumbers(arena)
    numbers.close()
    assert numbers.connected == 4


@needs_compiled
def test_clients_of_a_dead_worker_are_gone_at_once_and_their_ids_for_ever(
    arena: SharedArena,
) -> None:
    before = opened(arena, 0, 3)
    opened(arena, 1, 2)
    forget_clients(arena, 0)
    assert SharedNumbers(arena).connected == 2
    assert not set(opened(arena, 0, 3)) & set(before)
    assert SharedNumbers(arena).connected == 5
