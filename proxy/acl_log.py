"""ACL LOG: refused commands and failed logins, newest first, bounded, in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

GROUPING_S = 60.0  # the same event within this time is counted, not listed again

Reason = Literal["command", "key", "channel", "auth"]
Context = Literal["toplevel", "multi"]


@dataclass(slots=True)
class LogEntry:
    reason: Reason
    context: Context
    about: bytes
    username: bytes
    client_info: str
    at: float
    count: int = 1

    def is_same_as(self, other: LogEntry) -> bool:
        return (self.reason, self.context, self.about, self.username) == (
            other.reason, other.context, other.about, other.username,
        ) and abs(self.at - other.at) <= GROUPING_S  # fmt: skip


class AclLog:
    def __init__(self, length_max: int, clock: Callable[[], float]) -> None:
        self._length_max = length_max
        self._clock = clock
        self._entries: list[LogEntry] = []

    def __repr__(self) -> str:
        return f"<AclLog {len(self._entries)} entries>"

    def record(
        self, reason: Reason, context: Context, about: bytes, username: bytes, client_info: str
    ) -> None:
        entry = LogEntry(reason, context, about, username, client_info, self._clock())
        for at, known in enumerate(self._entries):
            if known.is_same_as(entry):
                entry.count += known.count
                del self._entries[at]
                break
        self._entries.insert(0, entry)
        del self._entries[self._length_max :]

    def newest(self, count: int) -> list[tuple[LogEntry, float]]:
        """Entries and their ages in seconds."""
        now = self._clock()
        return [(entry, max(0.0, now - entry.at)) for entry in self._entries[: max(0, count)]]

    def reset(self) -> None:
        self._entries.clear()
