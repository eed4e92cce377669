"""Positions in the history of a view: the number of changes, and the mark of the last one.

The number alone is not enough after a database was restored: it counts up again, and
other changes get the old numbers. So each change has a unique mark, and each row of the
log holds the mark before it. No IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

PUSHES = ""  # the pushed keys have a history of their own; it takes the place of a view


class Position(NamedTuple):
    """`mark` is "" before the first change and for changes without marks, None if unknown."""

    epoch: int
    mark: str | None

    def __bytes__(self) -> bytes:
        return f"{self.epoch} {self.mark or '-'}".encode()


START = Position(0, "")  # of a view that never changed, and of a Redis without announcements


class Announced(NamedTuple):
    """How far a view was announced to a Redis, and the position that this Redis stores."""

    position: Position = START
    stored: Position = START


def parse_position(text: bytes) -> Position | None:
    """The position at the start of what `bytes` made. An older Terrace wrote a number only."""
    parts = text.decode("ascii", "replace").split(" ")
    if not parts[0].isdecimal() or not parts[0].isascii():
        return None
    mark = parts[1] if len(parts) > 1 else "-"
    return Position(int(parts[0]), "" if mark == "-" else mark)


@dataclass(frozen=True, slots=True)
class Change:
    """The step from one position of a view to another, with the changed keys."""

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
    """Everything after `seen` as one change; None if the view did not change.

    `log` has the rows after `seen` in order, and reaches `now` unless rows were trimmed.
    If the rows do not lead from `seen` to `now`, any key may have changed.
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
