"""Refresh on write: reads a hot key into L1 again as soon as its write is acknowledged.

The refill is an ordinary tracked read, under an ordinary token: the written value itself is
never stored, because Redis tracks a key for us only when we read it. The refill replaces the
miss of the next reader, at the same cost; a key without a read between two writes is
refreshed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..l1.fill import Fill, with_pttl
from ..l1.memory import L1Memory
from ..l1.variants import get_variant
from ..l2.kept_upstream import KeptUpstream
from ..wire.resp import pack


class Refill:
    """Waits for [PTTL k][GET k], which no client sent. `on_end` is called when the reply has come,
    or will not come."""

    __slots__ = ("_fill", "_on_end")

    def __init__(self, fill: Fill, on_end: Callable[[], object] | None = None) -> None:
        self._fill = fill
        self._on_end = on_end

    def send(self, tracked: KeptUpstream, db: int = 0) -> None:
        key = self._fill.key
        tracked.read(with_pttl(key, pack([b"GET", key])), self, db, 2)

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        fill = self._fill
        if not fill.feed(reply, sent_at):
            return
        if not fill.is_absent:  # L3 may have a key that L2 lacks
            fill.commit()
        if self._on_end is not None:
            self._on_end()

    def on_lost(self, reason: str, sent: bool) -> None:
        if self._on_end is not None:
            self._on_end()


def hot(l1: L1Memory, keys: Iterable[bytes], db: int, now: float) -> list[bytes]:
    """The keys that clients read by GET; call it before their write begins."""
    return [key for key in keys if l1.is_hot(key, get_variant(db), now)]


def refill(l1: L1Memory, tracked: KeptUpstream, keys: Iterable[bytes], db: int) -> None:
    """Read the keys into L1 again; call it when their write has ended.

    The reads start a little later: the invalidation of a write comes right behind its reply,
    and would undo a fill that began before it.
    """
    tracked.upstream.soon(_refill, l1, tracked, keys, db)


def _refill(l1: L1Memory, tracked: KeptUpstream, keys: Iterable[bytes], db: int) -> None:
    if not tracked.ready:
        return
    for key in keys:
        Refill(Fill(l1, key, get_variant(db), unasked=True)).send(tracked, db)
