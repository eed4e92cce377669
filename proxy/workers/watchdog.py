"""Detects hung workers, whose event loops no longer run, for the supervisor.

A worker increments a heartbeat in shared memory. The supervisor looks at every beat
interval and adds up silence; one look counts for at most two intervals. So workers are
not blamed when the supervisor, or the whole machine, was stopped for an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

BEAT_S = 0.5  # between two beats, and two looks
HUNG_S = 15.0  # of silence: far more than any turn of the loop may last
_TICKS_PER_S = 100  # USER_HZ of every Linux


@dataclass(slots=True)
class _Pulse:
    """The last heartbeat of one process."""

    beats: int
    cpu_s: float
    looked_at: float
    silent_s: float = 0.0


class Watchdog:
    """Detects hung workers; `beats` returns the heartbeat count of a worker number."""

    def __init__(self, beats: Callable[[int], int]) -> None:
        self.look_at = 0.0
        self._beats = beats
        self._pulses: dict[int, _Pulse] = {}  # by process

    def hung(self, now: float, serving: Iterable[tuple[int, int]]) -> Iterator[tuple[int, str]]:
        """The hung processes with their state, from (number, process) of those that serve.

        Call it at `look_at`; an earlier call returns nothing.
        """
        if now < self.look_at:
            return
        self.look_at = now + BEAT_S
        before, self._pulses = self._pulses, {}
        for number, pid in serving:
            beats = self._beats(number)
            pulse = before.get(pid)
            if pulse is None or pulse.beats != beats:
                pulse = _Pulse(beats, _cpu_s(pid), now)
            else:
                pulse.silent_s += min(now - pulse.looked_at, 2 * BEAT_S)
                pulse.looked_at = now
            self._pulses[pid] = pulse
            if pulse.silent_s >= HUNG_S:
                yield pid, f"its loop has not run for {pulse.silent_s:.0f} s, {_doing(pid, pulse)}"


def _doing(pid: int, pulse: _Pulse) -> str:
    """The state of the process, as seen from outside."""
    if _state(pid) in ("T", "t"):
        return "stopped by a signal or a debugger"
    if _state(pid) == "D":
        return "waiting for a disk"
    used_s = max(0.0, _cpu_s(pid) - pulse.cpu_s)
    doing = "computing" if used_s > pulse.silent_s / 2 else "waiting"
    return f"{doing} ({used_s:.1f} s of processor time)"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; none if there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if len(fields) > 12 else 0.0
