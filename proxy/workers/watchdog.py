"""Which workers are hung: their loops make no turn any more. For the supervisor; it decides.

A worker counts beats in the memory that all share. Silence is added up from one look of the
supervisor to the next, and a look counts for no more than two of their distances: when the
supervisor, or the whole machine, was stopped for an hour, no worker is to blame for it.
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
    """Of one process, when it was last heard."""

    beats: int
    cpu_s: float
    looked_at: float
    silent_s: float = 0.0


class Watchdog:
    """`beats` counts those of a worker, by its number."""

    def __init__(self, beats: Callable[[int], int]) -> None:
        self.look_at = 0.0
        self._beats = beats
        self._pulses: dict[int, _Pulse] = {}  # by process

    def hung(self, now: float, serving: Iterable[tuple[int, int]]) -> Iterator[tuple[int, str]]:
        """Of those that serve, number and process: who is hung (process), and what it does.

        To be asked at `look_at`; before, nobody is.
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
                yield pid, f"no turn of its loop for {pulse.silent_s:.0f} s, {_doing(pid, pulse)}"


def _doing(pid: int, pulse: _Pulse) -> str:
    """As far as one can see from outside."""
    if _state(pid) in ("T", "t"):
        return "stopped by a signal or a debugger"
    if _state(pid) == "D":
        return "waiting for a disk"
    used_s = max(0.0, _cpu_s(pid) - pulse.cpu_s)
    doing = "computing" if used_s > pulse.silent_s / 2 else "waiting"
    return f"{doing} ({used_s:.1f} s of processor time)"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; nothing where there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if len(fields) > 12 else 0.0
