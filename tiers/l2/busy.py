"""Detects that Redis is BUSY: a script runs for longer than Redis waits for it.

Redis then answers at once with an error on all connections but the one that sent the script,
and reads nothing more from that one. So Redis is alive, and its reply to the script is late
for as long as the script runs. The replies on other connections prove that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from ..base import L2_REDIS
from ..wire.pipe import BUSY
from .kept_upstream import KeptUpstream

log = logging.getLogger("terrace.l2")

LASTS_S = 1.0  # after the last BUSY reply
ASK_AFTER_S = 0.25  # the reply to a script is late: send a PING on another connection


class Busy:
    """The last news from Redis; a PING on `plain`, where no script runs, asks for more."""

    def __init__(self, clock: Callable[[], float], plain: KeptUpstream) -> None:
        self._clock = clock
        self._plain = plain
        self.is_now = False
        self.said_at = -inf
        self.pass_on: Callable[[bytes], None] = lambda reply: None

    def __repr__(self) -> str:
        return f"<Busy {self.is_now}>"

    def hear(self, reply: bytes) -> None:
        """Take an error that describes the server: BUSY, or one for `pass_on`."""
        if not reply.startswith(BUSY):
            self.pass_on(reply)
            return
        self.said_at = self._clock()
        if not self.is_now:
            self.is_now = True
            log.warning("%s is busy with a script: clients get BUSY until it ends, or "
                        "SCRIPT KILL or FUNCTION KILL ends it", L2_REDIS)  # fmt: skip

    def silent_since(self, sent_at: float) -> float:
        """Since when Redis may be dead, as seen by a script sent at `sent_at`."""
        return max(sent_at, self.said_at)

    def watch(self, now: float, owed_since: float) -> None:
        """Called every few ms; `owed_since`: when the oldest unanswered script was sent."""
        plain = self._plain
        if now - owed_since > ASK_AFTER_S and plain.ready and not len(plain.upstream.pipe):
            plain.ping()
        if self.is_now and now - self.said_at > LASTS_S:
            self.is_now = False
            log.info("%s is no longer busy", L2_REDIS)
