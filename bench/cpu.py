"""Cores and CPU time of processes, from /proc (Linux only)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of each role. With fewer than three cores, roles share a core."""

    server: int
    generator: int
    behind: int
    everything: frozenset[int]

    @classmethod
    def plan(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(
            server=usable[-1],
            generator=usable[0],
            behind=usable[len(usable) // 2] if len(usable) > 2 else usable[-1],
            everything=frozenset(usable),
        )


@dataclass(frozen=True, slots=True)
class CpuTime:
    user_us: float
    system_us: float

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.user_us - earlier.user_us, self.system_us - earlier.system_us)


def pin(pid: int, *cores: int) -> None:
    """Keep the process, its children and all their threads on `cores`."""
    for member in _family(pid):
        for task in _entries(_PROC / str(member) / "task"):
            try:
                os.sched_setaffinity(int(task.name), cores)
            except ProcessLookupError:
                continue  # the thread has ended


def cpu_time(pid: int) -> CpuTime:
    """The CPU time of the process and its children (workers) so far."""
    user = system = 0
    for member in _family(pid):
        stat = (_PROC / str(member) / "stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may have blanks
        user += int(fields[11])
        system += int(fields[12])
    return CpuTime(user * _TICK_US, system * _TICK_US)


def resident_bytes(pid: int) -> int:
    """Memory of the process in RAM, shared mappings included."""
    return _status_bytes(pid, "VmRSS")


def most_resident_bytes(pid: int) -> int:
    """The peak memory of the process in RAM."""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no {name}")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in _entries(_PROC / str(pid) / "task"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
