"""ACL LOG: refused commands and failed logins, newest first, bounded, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

GROUPING_S = 60.0  # the same event within this time increments a count
SHOWN_MAX_BYTES = 1024  # of a key, a channel or a name: the log outlives the request

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
        about, username = about[:SHOWN_MAX_BYTES], username[:SHOWN_MAX_BYTES]
        entry = LogEntry(reason, context, about, username, client_info, self._clock())
        for at, known in enumerate(self._entries):
            if known.is_same_as(entry):
                entry.count += known.count
                del self._entries[at]
                break
        self._entries.insert(0, entry)
        del self._entries[self._length_max :]

    def newest(self, count: int, others: Iterable[LogEntry] = ()) -> list[tuple[LogEntry, float]]:
        """Entries and their ages in seconds. `others`: from other workers, with the same clock."""
        now = self._clock()
        kept = _merged([*self._entries, *others])
        return [(entry, max(0.0, now - entry.at)) for entry in kept[: max(0, count)]]

    def packed(self) -> list[dict[str, Any]]:
        """All entries, in a form for JSON."""
        return [
            asdict(entry)
            | {"about": entry.about.decode("latin-1"), "username": entry.username.decode("latin-1")}
            for entry in self._entries
        ]

    def reset(self) -> None:
        self._entries.clear()


def unpacked(packed: Iterable[dict[str, Any]]) -> list[LogEntry]:
    """The entries of another worker's `AclLog.packed`."""
    return [
        LogEntry(
            **each
            | {
                "about": each["about"].encode("latin-1"),
                "username": each["username"].encode("latin-1"),
            }
        )
        for each in packed
    ]


def _merged(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """The entries newest first, each event once."""
    kept: list[LogEntry] = []
    for entry in sorted(entries, key=lambda entry: -entry.at):
        same = next((at for at, known in enumerate(kept) if known.is_same_as(entry)), None)
        if same is None:
            kept.append(entry)
        else:
            kept[same] = replace(kept[same], count=kept[same].count + entry.count)
    return kept
