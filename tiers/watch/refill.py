"""Refresh on write: a key that was hot is read again as soon as its write is acknowledged.

An ordinary tracked read, under an ordinary token: the written value itself is never
stored, because Redis tracks a key for us only when we read it. It takes the place of the
miss that the next reader would be, at the same cost; a key that nobody reads between two
writes is refreshed once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..l1.memory import TTL_ABSENT, L1Memory, get_variant, read_pttl
from ..l2.kept_upstream import KeptUpstream
from ..wire.resp import pack


class Refill:
    """Waits for [PTTL k][GET k] on behalf of nobody."""

    __slots__ = ("_db", "_epoch", "_key", "_l1", "_pttl_ms", "_token")

    def __init__(self, l1: L1Memory, key: bytes, db: int) -> None:
        self._l1, self._key, self._db = l1, key, db
        self._token = l1.coherence.begin_fill(key)
        self._epoch = l1.arena.epoch
        self._pttl_ms: int | None = None

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self._pttl_ms is None:
            self._pttl_ms = read_pttl(reply)
        elif self._pttl_ms != TTL_ABSENT:  # a mapped key may be absent here only
            self._l1.commit(
                self._key, get_variant(self._db), reply, self._token, self._epoch, sent_at,
                self._pttl_ms, unasked=True,
            )  # fmt: skip

    def on_lost(self, reason: str, sent: bool) -> None:
        pass


def hot(l1: L1Memory, keys: Iterable[bytes], db: int, now: float) -> list[bytes]:
    """Those of the keys that clients read by GET: to be asked before their write begins."""
    return [key for key in keys if l1.is_hot(key, get_variant(db), now)]


def refill(l1: L1Memory, tracked: KeptUpstream, keys: Iterable[bytes], db: int) -> None:
    """Read the keys into L1 again; to be called when their write has ended.

    Soon, not now: the invalidation that a write causes comes right behind its reply, and would
    undo a fill begun before.
    """
    tracked.upstream.soon(_refill, l1, tracked, keys, db)


def _refill(l1: L1Memory, tracked: KeptUpstream, keys: Iterable[bytes], db: int) -> None:
    if not tracked.ready:
        return
    for key in keys:
        read = Refill(l1, key, db)
        tracked.read(pack([b"PTTL", key]), read, db)
        tracked.read(pack([b"GET", key]), read, db)
