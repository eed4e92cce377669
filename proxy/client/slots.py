"""Reply slots: one per request, filled in any order, released in arrival order.

A slot is also the waiter (`tiers.wire.pipe.Waiter`) of its request upstream, so that a
reply reaches its client with one call. Each kind of slot has the coherence steps of its
kind of command; they run when the reply is parsed, before the reply can be released.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tiers import Coherence, KeptUpstream
from tiers.wire.resp import to_resp2

if TYPE_CHECKING:
    from .session import Session


class Slot:
    """A future reply: forwarded unchanged, or rewritten by `rule`."""

    __slots__ = ("reply", "rule", "session")

    def __init__(self, session: Session, rule: str = "") -> None:
        self.session = session
        self.reply: bytes | None = None
        self.rule = rule  # "": unchanged; else the rule for to_resp2

    @property
    def reply_max_bytes(self) -> int:
        """A larger reply is replaced by an error (`tiers.wire.pipe`)."""
        return self.session.lane.output_max_bytes

    # twin: _in_flight._convert
    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.finish(to_resp2(reply, self.rule) if self.rule else reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        self.finish(self.session.read_failed(reason))

    def finish(self, reply: bytes) -> None:
        self.reply = reply
        self.session.finished(len(reply))


class WriteSlot(Slot):
    """A write with known keys: no hit and no fill for them until its reply is parsed.

    If it writes strict keys (`strict_s`, their largest bound), the reply is held until no
    Terrace can serve their old values. `hot` keys are read into L1 again.
    """

    __slots__ = ("coherence", "db", "hot", "keys", "strict_s")

    def __init__(
        self, session: Session, rule: str, keys: list[bytes], coherence: Coherence | None
    ) -> None:
        super().__init__(session, rule)
        session.wrote_at = session.clock()
        self.keys = keys
        self.coherence = coherence
        self.strict_s = session.stack.namespaces.strict_s(keys)
        self.db = session.db
        self.hot = session.stack.hot(keys, session.db)
        if coherence is not None:
            coherence.begin_write(keys)

    # twin: _in_flight._end_write
    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
        if self.hot:
            self.session.stack.refill(self.hot, self.db)
        self.settle(to_resp2(reply, self.rule) if self.rule else reply)

    def settle(self, reply: bytes) -> None:
        if self.strict_s:
            self.session.stack.strict.hold(self.strict_s, partial(self.finish, reply))
        else:
            self.finish(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
        self.finish(self.session.lost_write(reason, sent))


class BarrierSlot(WriteSlot):
    """A command that may write any key (`keys`: the known ones).

    Its reply is held until the reply to a later PING on the tracked connection: by then all
    invalidations of the command are parsed, because Redis queues them on that connection when
    it executes the command.
    """

    __slots__ = ("_held", "flushes", "tracked")

    def __init__(
        self,
        session: Session,
        rule: str,
        keys: list[bytes],
        coherence: Coherence | None,
        tracked: KeptUpstream | None,
        *,
        flushes: bool = False,
    ) -> None:
        super().__init__(session, rule, keys, coherence)
        self.tracked = tracked
        # Without tracking the written keys are unknown: any entry of L1 may be wrong.
        untracked = tracked is not None and coherence is not None and not coherence.tracks
        self.flushes = flushes or untracked
        flushes = self.flushes
        self._held: bytes | None = None
        session.opaque_in_flight += 1
        if flushes and coherence is not None:
            coherence.flush()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self._held is not None:
            self._release(self._held)
            return
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
            if self.flushes:
                self.coherence.flush()
            elif self.tracked is not None:
                self.coherence.end_opaque_write(self.session.clock())
                self.session.stack.swapdb.suspect()
        self._held = to_resp2(reply, self.rule) if self.rule else reply
        if self.tracked is None:  # only known keys
            self._release(self._held)
        elif self.tracked.ready:
            self.tracked.ping(self)
        else:
            # Not tracking: no hits before a new epoch, but suspect entries could be served.
            if self.coherence is not None:
                self.coherence.flush()
            self._release(self._held)

    def on_lost(self, reason: str, sent: bool) -> None:
        if self._held is not None:
            # The tracked connection died: the epoch ended with it. Or it accepts no more
            # requests: then entries from before this write must not be hit.
            if self.coherence is not None:
                self.coherence.flush()
            self._release(self._held)
            return
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
            if self.flushes:
                self.coherence.flush()
        self._release(self.session.lost_write(reason, sent))

    def _release(self, reply: bytes) -> None:
        self.session.opaque_in_flight -= 1
        self.settle(reply)
