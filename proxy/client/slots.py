"""Reply slots: one per request, filled in any order, released in arrival order.

A slot is also the waiter (`tiers.wire.pipe.Waiter`) of its request upstream, so that a
reply reaches its client with one call. Each kind of slot has the coherence steps of its
kind of command; they run when the reply is parsed, before the reply can be released.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

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

    def __init__(self, session: Session, rule: str, keys: list[bytes]) -> None:
        super().__init__(session, rule)
        session.wrote_at = session.clock()
        l1 = session.stack.l1
        coherence = self.coherence = l1.coherence if l1 is not None else None
        self.keys = keys
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
    it executes the command. `unknown` false: it writes known keys only, and needs no PING.
    """

    __slots__ = ("_flushes", "_held", "_tracked", "_unknown")

    def __init__(
        self,
        session: Session,
        rule: str,
        keys: list[bytes],
        *,
        unknown: bool = True,
        flushes: bool = False,
    ) -> None:
        super().__init__(session, rule, keys)
        coherence = self.coherence
        tracked = self._tracked = session.stack.l2.tracked if unknown else None
        # Without tracking the written keys are unknown: any entry of L1 may be wrong.
        untracked = tracked is not None and coherence is not None and not coherence.tracks
        self._flushes = flushes or untracked
        self._held: bytes | None = None
        self._unknown = unknown
        session.opaque_in_flight += unknown
        if self._flushes and coherence is not None:
            coherence.flush()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self._held is None:
            self._held = to_resp2(reply, self.rule) if self.rule else reply
            if self.end_writes():
                return
        self.release(self._held)

    def end_writes(self) -> bool:
        """The reply of the command was parsed. Return whether to wait for the reply to a PING."""
        coherence, tracked = self.coherence, self._tracked
        if coherence is not None:
            coherence.end_write(self.keys)
            if self._flushes:
                coherence.flush()
            elif tracked is not None:
                coherence.end_opaque_write(self.session.clock())
                self.session.stack.swapdb.suspect()
        if tracked is None:
            return False
        if tracked.ready:
            tracked.ping(self)
            return True
        self.end_untracked()
        return False

    def end_untracked(self) -> None:
        """The tracked connection is lost with its epoch, or takes no more requests: the written
        keys stay unknown. Entries from before this write must not be hit."""
        if self.coherence is not None:
            self.coherence.flush()

    def on_lost(self, reason: str, sent: bool) -> None:
        if self._held is not None:
            self.end_untracked()
            self.release(self._held)
            return
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
            if self._flushes:
                self.coherence.flush()
        self.release(self.session.lost_write(reason, sent))

    def release(self, reply: bytes) -> None:
        self.session.opaque_in_flight -= self._unknown
        self.settle(reply)
