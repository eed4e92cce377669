"""The gate for connections to a Redis node: the node's breaker and a token bucket.

All connections to one node share one gate. A lost connection proves nothing about the
node, but a failed handshake does. So handshakes, and requests without an answer in time,
change the breaker, and an open breaker prevents all attempts to connect to a node that is
down. The bucket limits the rate of new connections to a node that is up: ten thousand
clients that return with a BLPOP must not hit Redis at once.
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
    """`take` takes a token if there is one. `take_s` always takes one, and returns the time to
    wait before its use."""

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
    """The gate of one node. It calls `on_failure` with the reason when the node is out of
    reach, and `on_open` when the node is back; both synchronously."""

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
        self.delayed = 0  # connection attempts that the bucket delayed
        self._clock = clock
        self._bucket = TokenBucket(clock, options.connect_rate, options.connect_rate)
        self._opened = asyncio.Event()
        self._opened.set()
        self._down_since = 0.0
        self._logged = ""

    def __repr__(self) -> str:
        return f"<ConnectGate {self.node} {self.breaker!r}>"

    def check(self) -> None:
        """Raise TierUnavailable while an attempt to connect is futile. Otherwise, as after
        `wait_turn`, the caller must report the result of its attempt."""
        if not self.breaker.admits():
            raise TierUnavailable(L2_REDIS, self.breaker.reason)

    def take_token(self) -> bool:
        """Whether the caller may connect now. A caller that has to wait queues elsewhere: a
        token taken in advance would be lost if its client leaves."""
        return self._bucket.take()

    async def wait_turn(self) -> None:
        """Wait until a shared connection may be made; the caller must report the result.

        There are few shared connections and all clients wait for them, so they go first.
        """
        while not self.breaker.admits():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.breaker.wait_s()):
                    await self._opened.wait()
        await self.pace()

    async def pace(self) -> None:
        """Wait for a token, ahead of private connections."""
        if delay_s := self._bucket.take_s():
            self.delayed += 1
            await asyncio.sleep(delay_s)

    # Results of attempts

    def succeeded(self) -> None:
        self.breaker.on_success()

    def failed(self, failure: TierUnavailable) -> None:
        if failure.timed_out:
            self.breaker.on_soft_failure(failure.reason)
        else:
            self.breaker.on_hard_failure(failure.reason)
        self.on_failure(failure.reason)
        if not self.breaker.is_closed and failure.reason != self._logged:
            log.warning("%s %s is down: %s", L2_REDIS, self.node, failure.reason)
            self._logged = failure.reason

    def _on_transition(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            self._logged = ""
            log.info(
                "%s %s is back after %.1f s", L2_REDIS, self.node, self._clock() - self._down_since
            )
            self._opened.set()
            self.on_open()
        elif old is State.CLOSED:
            self._down_since = self._clock()
            self._opened.clear()
