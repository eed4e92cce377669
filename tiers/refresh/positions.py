"""Where in a view's history one stands: how many changes, and which one was the last.

The number alone would say nothing after a database was restored: it counts up again to
where it has been, and other changes have the old numbers. So each change has a mark that
no other one has, and each knows the mark before it. No IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

PUSHES = ""  # the pushed keys have a history, too, in the place of a view


class Position(NamedTuple):
    """`mark` is "" where changes had none yet, None where it is not known."""

    epoch: int
    mark: str | None

    def __bytes__(self) -> bytes:
        return f"{self.epoch} {self.mark or '-'}".encode()


START = Position(0, "")  # of a view that never changed, and of a Redis that was never told


class Told(NamedTuple):
    """How far a Redis was told, and what it says itself, which an older Terrace did not."""

    position: Position = START
    said: Position = START


def parse_position(text: bytes) -> Position | None:
    """What `bytes` made, whatever follows it. A number alone is of an older Terrace."""
    parts = text.decode("ascii", "replace").split(" ")
    if not parts[0].isdecimal() or not parts[0].isascii():
        return None
    mark = parts[1] if len(parts) > 1 else "-"
    return Position(int(parts[0]), "" if mark == "-" else mark)


@dataclass(frozen=True, slots=True)
class Change:
    """What led from one position of a view to another."""

    view: str
    before: Position
    after: Position
    keys: list[bytes] | None  # None: any key of the view

    @property
    def epoch(self) -> int:
        return self.after.epoch


class Logged(NamedTuple):
    """One row of the log."""

    after: Position
    before_mark: str
    keys: Sequence[str] | None


def merged(view: str, seen: Position, now: Position, log: Iterable[Logged]) -> Change | None:
    """All that happened after `seen` as one change; None if nothing did.

    `log` has the rows after `seen` in order, up to `now` at least where none was trimmed.
    Where the history does not lead from the one to the other, anything may have changed.
    """
    if seen == now or (seen.mark is None and seen.epoch == now.epoch):
        return None
    at, is_whole = seen, False
    keys: dict[bytes, None] | None = {}
    for row in log:
        if row.after.epoch != at.epoch + 1 or at.mark not in (None, row.before_mark):
            break
        at = row.after
        is_whole = is_whole or at == now
        if row.keys is None:
            keys = None
        elif keys is not None:
            keys.update((key.encode(), None) for key in row.keys)
    if not is_whole:
        return Change(view, seen, now, None)
    return Change(view, seen, at, None if keys is None else list(keys))
