"""Whether Redis is BUSY: somebody's script runs for longer than it waits for one.

Redis then answers everybody at once with an error, but for the connection that the script came
on: what was sent behind it there is not even read. So it is alive, and owes that one
connection a reply for as long as the script takes; as any reply to others tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from ..base import L2_REDIS
from ..wire.pipe import BUSY
from .kept_upstream import KeptUpstream

log = logging.getLogger("terrace.l2")

LASTS_S = 1.0  # after the last reply that said so
ASK_AFTER_S = 0.25  # a script owes its reply for longer: ask beside it


class Busy:
    """What Redis said of it last; it is asked with a PING on `plain`, where no script runs."""

    def __init__(self, clock: Callable[[], float], plain: KeptUpstream) -> None:
        self._clock = clock
        self._plain = plain
        self.is_now = False
        self.said_at = -inf
        self.pass_on: Callable[[bytes], None] = lambda reply: None

    def __repr__(self) -> str:
        return f"<Busy {self.is_now}>"

    def hear(self, reply: bytes) -> None:
        """An error that says something of the server: that it is busy, or what others judge."""
        if not reply.startswith(BUSY):
            self.pass_on(reply)
            return
        self.said_at = self._clock()
        if not self.is_now:
            self.is_now = True
            log.warning("%s is busy with a script: clients hear BUSY until it ends, or "
                        "SCRIPT KILL or FUNCTION KILL ends it", L2_REDIS)  # fmt: skip

    def silent_since(self, sent_at: float) -> float:
        """Since when it may be dead, for a script that was sent then."""
        return max(sent_at, self.said_at)

    def watch(self, now: float, owed_since: float) -> None:
        """Called every few ms; `owed_since` is when the oldest script that runs was sent."""
        plain = self._plain
        if now - owed_since > ASK_AFTER_S and plain.ready and not len(plain.upstream.pipe):
            plain.ping()
        if self.is_now and now - self.said_at > LASTS_S:
            self.is_now = False
            log.info("%s is not busy any more", L2_REDIS)
