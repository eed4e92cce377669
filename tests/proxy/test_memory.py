"""The bound on all memory: who is closed, who is refused, and that each change is told once."""

import logging
from pathlib import Path

import pytest

from proxy.memory import (
    LEAST_BYTES,
    TRIM_CLIENTS,
    TRIM_PAUSE_SWEEPS,
    MemoryGuard,
    private_bytes,
    share_bytes,
)

MiB = 1024**2


class Client:
    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.closed = ""

    def abort(self, reason: str) -> None:
        self.closed, self.held_bytes = reason, 0


class World:
    """A process that uses `used_bytes`, of which clients hold some."""

    def __init__(self, *held_mib: int) -> None:
        self.used_bytes = 0
        self.trims = 0
        self.clients = [Client(mib * MiB) for mib in held_mib]
        self.guard = MemoryGuard(100 * MiB, self.clients, lambda: self.used_bytes, self.trim)

    def trim(self) -> None:
        self.trims += 1

    def sweep(self, used_mib: int) -> None:
        self.used_bytes = used_mib * MiB
        self.guard.sweep()

    @property
    def closed(self) -> list[bool]:
        return [bool(client.closed) for client in self.clients]


def test_nothing_happens_below_the_bound() -> None:
    world = World(50, 40)
    world.sweep(100)
    assert world.closed == [False, False]
    assert not world.guard.shedding


def test_the_largest_go_until_enough_is_free() -> None:
    world = World(5, 30, 20, 10)
    world.sweep(140)
    assert world.closed == [False, True, True, False]
    assert world.guard.shedding
    assert world.guard.closed == 2


def test_who_holds_little_stays_however_bad_it_is() -> None:
    world = World(0, 0, 1)
    world.sweep(1000)
    assert world.closed == [False, False, True]


def test_clients_are_welcome_again_some_way_below_the_bound() -> None:
    world = World()
    world.sweep(101)
    world.sweep(96)
    assert world.guard.shedding
    world.sweep(94)
    assert not world.guard.shedding


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "terrace")
    world = World()
    for used_mib in (90, 110, 120, 99, 90, 80):
        world.sweep(used_mib)
    first, second = [record.getMessage() for record in caplog.records]
    assert "110 MiB in use" in first
    assert "limits.memory_bytes" in first
    assert "accepted again" in second


def test_without_a_bound_it_only_looks() -> None:
    world = World(50)
    world.guard.max_bytes = 0
    world.sweep(10_000)
    assert world.closed == [False]
    assert world.guard.used_bytes == 10_000 * MiB


def test_memory_is_given_back_once_when_many_have_left() -> None:
    world = World(*[0] * (TRIM_CLIENTS + 10))
    world.sweep(50)
    del world.clients[20:]
    world.sweep(50)
    assert world.trims == 0
    del world.clients[10:]
    world.sweep(50)
    world.sweep(50)
    assert world.trims == 1


def test_memory_is_given_back_after_much_was_freed_but_not_all_the_time() -> None:
    world = World()
    world.sweep(90)
    world.sweep(60)
    assert world.trims == 0
    world.sweep(50)
    assert world.trims == 1
    for _ in range(TRIM_PAUSE_SWEEPS // 2):
        world.sweep(95)
        world.sweep(50)
    assert world.trims == 1
    world.sweep(50)
    assert world.trims == 2


@pytest.mark.parametrize(
    ("limit", "host", "l1", "workers", "expected"),
    [
        (1000, 4000, 200, 1, 800),
        (1000, 4000, 200, 2, 400),
        (0, 4000, 200, 1, 3400),
        (0, 0, 200, 1, 0),
        (0, 300, 250, 4, LEAST_BYTES // MiB),
    ],
)
def test_the_share_of_a_process(
    limit: int, host: int, l1: int, workers: int, expected: int
) -> None:
    assert share_bytes(limit * MiB, host * MiB, l1 * MiB, workers) == expected * MiB


def test_what_the_system_tells(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("5000 3000 1000 7 0 2000 0\n")
    assert private_bytes(statm) == 2000 * 4096
    assert private_bytes(tmp_path / "none") == 0
    statm.write_text("nonsense")
    assert private_bytes(statm) == 0
