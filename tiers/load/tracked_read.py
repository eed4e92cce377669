"""One GET on the tracked connection, for library use: it returns the reply and fills L1."""

from __future__ import annotations

import asyncio

from ..base import L2_REDIS
from ..errors import TierUnavailable
from ..l1.fill import Fill, with_pttl
from ..l1.memory import L1Memory
from ..l1.variants import get_variant
from ..l2.kept_upstream import KeptUpstream
from ..wire.resp import NULL3, pack


class TrackedRead:
    """Waiter for [PTTL k][GET k] on the tracked connection; fills L1.

    The absence of a mapped key is not stored: L3 may have it.
    """

    def __init__(self, l1: L1Memory, key: bytes, *, mapped: bool) -> None:
        self._fill = Fill(l1, key, get_variant(0))
        self._mapped = mapped
        self.future: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()

    def send(self, tracked: KeptUpstream) -> None:
        key = self._fill.key
        tracked.send(with_pttl(key, pack([b"GET", key])), self, replies=2)

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        fill = self._fill
        if not fill.feed(reply, sent_at):
            return
        if not (self._mapped and (fill.is_absent or reply == NULL3)):
            fill.commit()
        if not self.future.done():
            assert fill.pttl_ms is not None
            self.future.set_result((reply, fill.pttl_ms))

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self.future.done():
            self.future.set_exception(TierUnavailable(L2_REDIS, reason))
