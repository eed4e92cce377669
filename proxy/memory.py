"""Limits the memory of this process (`limits.memory_bytes`) and returns freed memory.

The measure is that of the system, which ends a process by it: its resident pages. The
pages of the shared L1 do not count; its whole budget is reserved. Above the limit, new
clients are refused, and the clients that use the most memory are closed, until enough is
free.

Freed memory is often scattered over pages that stay allocated: after many clients have
left, or much was freed, `malloc_trim` returns such pages, in some milliseconds.
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
SMALLEST_VICTIM_BYTES = MiB  # a client with less is not the cause
CALM_SHARE = 0.95  # of the limit: below it clients are accepted again
AUTOMATIC_SHARE = 0.9  # of the memory of the host or container
LEAST_BYTES = 128 * MiB  # for a process, without L1
TRIM_CLIENTS = 500  # trim after so many clients have left
TRIM_BYTES = 32 * MiB  # or after so much was freed
TRIM_PAUSE_SWEEPS = 20
PAGE_BYTES = 4096


class Holder(Protocol):
    """A client that uses memory."""

    @property
    def held_bytes(self) -> int: ...

    def abort(self, reason: str) -> None: ...


def private_bytes(path: Path = Path("/proc/self/statm")) -> int:
    """The private resident bytes of this process; 0 if unknown."""
    try:
        _, resident, shared, *_ = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def share_bytes(limit_bytes: int, host_bytes: int, l1_bytes: int, workers: int) -> int:
    """The memory limit of one process; 0: unlimited.

    `limit_bytes` 0 means AUTOMATIC_SHARE of `host_bytes`. `l1_bytes` is reserved.
    """
    total_bytes = limit_bytes or int(host_bytes * AUTOMATIC_SHARE)
    if not total_bytes:
        return 0
    return max(LEAST_BYTES, (total_bytes - l1_bytes) // workers)


class MemoryGuard:
    """Checks the memory every SWEEP_S; `shedding` while it is above the limit."""

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
            log.info("memory: %d MiB in use, clients are accepted again", self.used_bytes // MiB)

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
            # The allocator may only keep it for later use.
            self._trim()
            self.used_bytes = self._measure()
            return
        self.shedding = True
        log.warning(
            "memory: %d MiB in use, more than the %d MiB that limits.memory_bytes leaves beside "
            "L1: new clients are refused, the clients that use the most are closed",
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
            client.abort("memory is short (limits.memory_bytes), and this client uses the most")


def _give_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # not the GNU libc
        ctypes.CDLL(None).malloc_trim(0)
