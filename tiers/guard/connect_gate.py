"""Who may connect to a Redis node, and when: the node's breaker and a token bucket.

All connections to one node share one gate. A lost connection is no verdict on the
node; an attempt to connect is. So the breaker is moved by handshakes, and by requests
that were not answered in time, and keeps everybody from connecting to a node that is
known to be down. The bucket bounds how fast connections are made to one that is up:
ten thousand clients that all come back with a BLPOP must not hit Redis at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ..base import L2_REDIS
from ..errors import TierUnavailable
from ..options import L2Options
from .breaker import Breaker, State

log = logging.getLogger("terrace.l2")


class TokenBucket:
    """`take` takes a token if there is one. `take_s` always does, and says how long to wait
    before using it."""

    def __init__(self, clock: Callable[[], float], per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at = clock()

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:.1f} of {self._burst:g}, {self._per_second:g}/s>"

    def take(self) -> bool:
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def take_s(self) -> float:
        self._fill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_second)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now


class ConnectGate:
    """The gate of one node. `on_failure` hears why the node cannot be reached, `on_open`
    that it can be again; both synchronously."""

    def __init__(self, node: str, options: L2Options, clock: Callable[[], float]) -> None:
        self.node = node
        self.breaker = Breaker(
            clock,
            pause_min_s=options.backoff_min_s,
            pause_max_s=options.backoff_max_s,
            on_transition=self._on_transition,
        )
        self.on_failure: Callable[[str], None] = lambda reason: None
        self.on_open: Callable[[], None] = lambda: None
        self.delayed = 0  # connects that the bucket held back
        self._clock = clock
        self._bucket = TokenBucket(clock, options.connect_rate, options.connect_rate)
        self._opened = asyncio.Event()
        self._opened.set()
        self._down_since = 0.0
        self._told = ""

    def __repr__(self) -> str:
        return f"<ConnectGate {self.node} {self.breaker!r}>"

    def check(self) -> None:
        """Raises TierUnavailable while it would be in vain to connect; else, as for
        `wait_turn`, the caller must report how it ended."""
        if not self.breaker.admits():
            raise TierUnavailable(L2_REDIS, self.breaker.reason)

    def take_token(self) -> bool:
        """Whether a connection may be made now. Whoever has to wait keeps its own place: one
        that is drawn in advance would stay in the way when its client has left."""
        return self._bucket.take()

    async def wait_turn(self) -> None:
        """Until a shared connection may be made; its caller must report how that ended.

        There are a few of them, all clients wait for them: they go before private ones.
        """
        while not self.breaker.admits():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.breaker.wait_s()):
                    await self._opened.wait()
        await self.pace()

    async def pace(self) -> None:
        """Wait for a token, before private connections."""
        if delay_s := self._bucket.take_s():
            self.delayed += 1
            await asyncio.sleep(delay_s)

    # How an attempt ended

    def succeeded(self) -> None:
        self.breaker.on_success()

    def failed(self, failure: TierUnavailable) -> None:
        if failure.timed_out:
            self.breaker.on_soft_failure(failure.reason)
        else:
            self.breaker.on_hard_failure(failure.reason)
        self.on_failure(failure.reason)
        if not self.breaker.is_closed and failure.reason != self._told:
            log.warning("%s %s is down: %s", L2_REDIS, self.node, failure.reason)
            self._told = failure.reason

    def _on_transition(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            self._told = ""
            log.info(
                "%s %s is back after %.1f s", L2_REDIS, self.node, self._clock() - self._down_since
            )
            self._opened.set()
            self.on_open()
        elif old is State.CLOSED:
            self._down_since = self._clock()
            self._opened.clear()
