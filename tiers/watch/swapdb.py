"""Detects SWAPDB by other clients: Redis does not announce it to tracking clients.

Redis counts the command. While L1 is in use, Terrace reads the counter every few seconds,
and flushes L1 if it has changed. So after a swap past Terrace, L1 is wrong for at most the
interval, and not until the entries' deadlines. Swaps through Terrace are exact without this,
except those in a script: after a script Terrace reads the counter at once, or `SOONEST_S`
after the last read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re

from ..errors import ServerError, TierUnavailable
from ..l2.redis import L2Redis

log = logging.getLogger("terrace.l2")

SOONEST_S = 0.05  # INFO commandstats is some 100 us of the server's time
_CALLS = re.compile(r"cmdstat_swapdb:calls=(\d+)")


class SwapdbWatch:
    """Flushes L1 if Redis has executed a SWAPDB since the last check.

    The first count of a connection is part of its handshake, before any fill.
    """

    def __init__(self, l2: L2Redis, interval_s: float) -> None:
        self._l2 = l2
        self._interval_s = interval_s
        self._suspected = asyncio.Event()
        self._handshake: object = None  # the handshake with the first count
        self._calls = 0
        self._seen_sent_at = 0.0
        self.flushes = 0

    def __repr__(self) -> str:
        return f"<SwapdbWatch {self._calls} calls, {self.flushes} flushes>"

    def suspect(self) -> None:
        """A script of a client has run; it may have swapped databases."""
        self._suspected.set()

    async def keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._suspected.wait()
            if self._suspected.is_set():
                self._suspected.clear()
                await self.check()
                await asyncio.sleep(SOONEST_S)
            elif self._in_use():
                await self.check()

    def _in_use(self) -> bool:
        """Whether the tracked connection has sent anything since the last check: hits make it
        send PINGs."""
        tracked = self._l2.tracked
        if tracked is None or not tracked.ready:
            return False
        before, self._seen_sent_at = self._seen_sent_at, tracked.upstream.pipe.last_sent_at
        return before != self._seen_sent_at

    async def check(self) -> None:
        try:
            text = await self._l2.call(b"INFO", b"commandstats")
        except (TierUnavailable, ServerError):
            return
        handshake = self._l2.command_counts
        if handshake is not self._handshake:
            self._handshake, self._calls = handshake, _swaps(handshake)
        calls, before = _swaps(text), self._calls
        self._calls = calls
        if calls != before and calls and self._l2.coherence is not None:  # 0: CONFIG RESETSTAT
            self.flushes += 1
            self._l2.coherence.flush()
            log.info("L1 flushed: SWAPDB count is %d, it was %d", calls, before)


def _swaps(command_counts: object) -> int:
    found = _CALLS.search(str(command_counts))
    return int(found[1]) if found else 0
