"""The bound on all memory of this process (`limits.memory_bytes`), and its return to the system.

What counts is what the system counts, since that is what ends a process: its resident
pages, without those of the shared mapping of L1, whose whole budget is set apart. Beyond
the bound new clients are refused, and those who make us hold most are closed, until
enough is freed.

Freed memory is often scattered over pages that are kept: after many clients have left,
or much was freed, `malloc_trim` gives these back, in some milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

log = logging.getLogger("terrace")

MiB = 1024**2
SWEEP_S = 0.1
SMALLEST_VICTIM_BYTES = MiB  # who holds less is not what is wrong
CALM_SHARE = 0.95  # of the bound: below it clients are welcome again
AUTOMATIC_SHARE = 0.9  # of what the host or container has
LEAST_BYTES = 128 * MiB  # for a process, beside L1
TRIM_CLIENTS = 500  # so many have left since memory was last given back
TRIM_BYTES = 32 * MiB  # or so much was freed
TRIM_PAUSE_SWEEPS = 20
PAGE_BYTES = 4096


class Holder(Protocol):
    """A client."""

    @property
    def held_bytes(self) -> int: ...

    def abort(self, reason: str) -> None: ...


def private_bytes(path: Path = Path("/proc/self/statm")) -> int:
    """Resident pages that are this process' own; 0 where the system does not tell."""
    try:
        _, resident, shared, *_ = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def share_bytes(limit_bytes: int, host_bytes: int, l1_bytes: int, workers: int) -> int:
    """What one process may have for itself; 0 is no bound.

    `limit_bytes` 0 stands for most of `host_bytes`. `l1_bytes` is set apart.
    """
    total_bytes = limit_bytes or int(host_bytes * AUTOMATIC_SHARE)
    if not total_bytes:
        return 0
    return max(LEAST_BYTES, (total_bytes - l1_bytes) // workers)


class MemoryGuard:
    """Looks every SWEEP_S; `shedding` while there is too much."""

    def __init__(
        self,
        max_bytes: int,
        clients: Collection[Holder],
        measure: Callable[[], int] = private_bytes,
        trim: Callable[[], None] | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = measure()
        self.shedding = False
        self.closed = 0
        self._clients = clients
        self._measure = measure
        self._trim = _give_back if trim is None else trim
        self._most_clients = 0
        self._most_bytes = self.used_bytes
        self._pause_sweeps = 0

    def __repr__(self) -> str:
        return f"<MemoryGuard {self.used_bytes} of {self.max_bytes} bytes>"

    def sweep(self) -> None:
        self.used_bytes = self._measure()
        self._give_back_what_was_freed()
        if not self.max_bytes:
            return
        if self.used_bytes > self.max_bytes:
            self._begin()
            self._shed()
        elif self.shedding and self.used_bytes < self.max_bytes * CALM_SHARE:
            self.shedding = False
            log.info("memory: %d MiB in use, clients are welcome again", self.used_bytes // MiB)

    def _give_back_what_was_freed(self) -> None:
        count = len(self._clients)
        self._most_clients = max(self._most_clients, count)
        self._most_bytes = max(self._most_bytes, self.used_bytes)
        left, freed_bytes = self._most_clients - count, self._most_bytes - self.used_bytes
        if self._pause_sweeps:
            self._pause_sweeps -= 1
        elif left >= TRIM_CLIENTS or freed_bytes >= TRIM_BYTES:
            self._trim()
            self.used_bytes = self._measure()
            self._most_clients, self._most_bytes = count, self.used_bytes
            self._pause_sweeps = TRIM_PAUSE_SWEEPS

    def _begin(self) -> None:
        if self.shedding:
            # Perhaps it is only kept for later use.
            self._trim()
            self.used_bytes = self._measure()
            return
        self.shedding = True
        log.warning(
            "memory: %d MiB in use, more than the %d MiB that limits.memory_bytes leaves beside "
            "L1: new clients are refused, those that hold most are closed",
            self.used_bytes // MiB, self.max_bytes // MiB,
        )  # fmt: skip

    def _shed(self) -> None:
        excess_bytes = self.used_bytes - self.max_bytes
        holders = [(client.held_bytes, client) for client in self._clients]
        for held_bytes, client in sorted(holders, key=lambda item: -item[0]):
            if excess_bytes <= 0 or held_bytes < SMALLEST_VICTIM_BYTES:
                break
            excess_bytes -= held_bytes
            self.closed += 1
            client.abort("memory is short (limits.memory_bytes), and it makes us hold most")


def _give_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not the GNU libc
        ctypes.CDLL(None).malloc_trim(0)
