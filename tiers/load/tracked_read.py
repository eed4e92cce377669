"""One GET on the tracked connection, for library use: the reply, and the fill of L1."""

from __future__ import annotations

import asyncio

from ..errors import TierUnavailable
from ..l1.memory import TTL_ABSENT, L1Memory, read_pttl
from ..wire.resp import NULL3


class TrackedRead:
    """Waiter for [PTTL k][GET k] on the tracked connection; fills L1.

    The absence of a mapped key is not stored: L3 may have it.
    """

    def __init__(self, l1: L1Memory, key: bytes, *, mapped: bool) -> None:
        self._l1, self._key, self._mapped = l1, key, mapped
        self._token = l1.coherence.begin_fill(key)
        self._epoch = l1.arena.epoch
        self._pttl_ms: int | None = None
        self.future: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self._pttl_ms is None:
            self._pttl_ms = read_pttl(reply)
            return
        if not (self._mapped and (self._pttl_ms == TTL_ABSENT or reply == NULL3)):
            self._l1.commit(self._key, b"", reply, self._token, self._epoch, sent_at, self._pttl_ms)
        if not self.future.done():
            self.future.set_result((reply, self._pttl_ms))

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self.future.done():
            self.future.set_exception(TierUnavailable("L2 (redis)", reason))
