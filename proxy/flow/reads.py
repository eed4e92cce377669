"""Cached reads that miss L1: forwards, fills L1, faults in mapped keys, degrades.

The slots here wait for [PTTL key][command], sent together. PTTL gives the deadline of
the L1 entry; as it is tracked itself, no change between the two replies is missed. For a
mapped key its -2 means that L2 lacks the key. A mapped key may also vanish from L2
between the two. So a reply that an absent key would also give is read once more, with a
check of the presence of the key (`guarded`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import Kind as OutcomeKind
from tiers import Outcome
from tiers.proxy_door import Fill, Mapped, Via, with_pttl
from tiers.wire.resp import NIL, Request, decode, to_resp2

from .. import errors
from ..client.slots import Slot
from ..commands.command import Command
from .field_fills import commit
from .guarded import Guarded
from .rows import looks_absent, reply_from_row

if TYPE_CHECKING:
    from ..client.host import TakenRead
    from ..client.session import Session

# Looked up once: the look-up of an enum member takes several steps, and every row needs them.
_HIT, _MISS, _NEGATIVE, _UNAVAILABLE = (
    OutcomeKind.HIT, OutcomeKind.MISS, OutcomeKind.NEGATIVE, OutcomeKind.UNAVAILABLE
)  # fmt: skip
RERUNS = 2  # attempts for a key that appears and disappears meanwhile


class ReadSlot(Slot):
    """One cached read of one key, with a possible fault-in.

    `fill` is set with a PTTL: for the deadline in L1, or for the presence of the key in L2.
    """

    __slots__ = (
        "certain", "command", "db", "fill", "key", "lost", "mapping", "proto", "request",
        "reruns", "started", "variant",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        rule: str,
        command: Command,
        request: Request,
        variant: bytes,
        mapping: Mapped | None,
        now: float,
    ) -> None:
        super().__init__(session, rule)
        self.command = command
        self.request = request
        self.key = request[0][1]
        self.variant = variant
        self.mapping = mapping
        self.proto = session.proto
        self.db = session.db
        self.started = now
        self.fill: Fill | None = None
        self.lost = False  # one of the pair failed, and the client has its answer
        self.reruns = RERUNS
        self.certain = False  # L2 had the key at its reply, or no tier has it
        if mapping is not None:
            session.mapped_in_flight += 1

    def on_unsure(self, pttl_ms: int, reply: bytes, sent_at: float) -> None:
        """Continue as `on_reply` if L2 lacks the key or may lack it."""
        assert self.fill is not None
        self.fill.pttl_ms, self.fill.sent_at = pttl_ms, sent_at
        if self.fill.is_absent:
            self.reply_if_absent(reply)
        else:
            self.rerun()

    # twin: _in_flight.replied
    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.lost:
            return
        fill = self.fill
        if fill is not None and not fill.feed(reply, sent_at):
            return
        absent = fill is not None and fill.is_absent
        if self.certain:
            if absent:
                self.fill = None  # the lifetime of an absence is unknown here
        elif absent:
            self.session.stats.l2.misses += 1
            if self.mapping is not None and reply[0] != 0x2D:  # '-': a data error stays an error
                self.reply_if_absent(reply)
                return
        else:
            l2 = self.session.stats.l2
            l2.hits += 1
            l2.seconds.observe(self.session.clock() - self.started)
            if self.mapping is not None and looks_absent(reply):
                self.rerun()
                return
        converted = to_resp2(reply, self.rule) if self.rule else reply
        self.commit(reply, converted)
        self.finish(converted)

    def commit(self, raw: bytes, converted: bytes) -> None:
        fill = self.fill
        if fill is None or not fill.token:
            return
        # GET is stored in its RESP3 form, once for both protocols; other reads per protocol.
        fill.reply = raw if self.command.name == "GET" else converted
        commit(self.session, self.command, self.request[0], raw, fill)

    # twin: _in_flight._hand_over
    def reply_if_absent(self, reply: bytes) -> None:
        """L2 lacks a mapped key: `reply` is right only if L3 lacks it too."""
        assert self.mapping is not None
        mapping = self.mapping

        def on_loaded(outcome: Outcome) -> None:
            if outcome.kind is _NEGATIVE:
                self.session.stats.l3.misses += 1
                converted = to_resp2(reply, self.rule) if self.rule else reply
                # A change during the load removed the absence, and L1 will get no further
                # invalidation for it.
                known_s = self.session.stack.absence_s(self.key)
                if known_s and self.fill is not None:
                    self.fill.max_age_s = min(known_s, mapping.negative_ttl_s)
                    self.commit(reply, converted)
                self.finish(converted)
            else:
                self.on_row(outcome)

        self.session.stack.load(mapping, self.key, on_loaded)

    def on_row(self, outcome: Outcome) -> None:
        session = self.session
        level = session.stats.l3
        kind, value, _, _, _ = outcome
        if kind is _UNAVAILABLE:
            self.fail_l3(outcome)
            return
        if kind is not _MISS:
            if kind is _HIT:
                level.hits += 1
                level.seconds.observe(session.clock() - self.started)
            else:
                level.misses += 1
            reply = reply_from_row(self.command, self.request[0], value, self.proto)
            if reply is not None:
                self.finish(reply)
                return
        self.rerun()

    def rerun(self) -> None:
        """L2 has the key now, or had it a moment ago: read it with a check of its presence."""
        if not self.reruns:
            self.finish(self.session.read_failed("the key is contended"))
            return
        self.reruns -= 1
        self.certain, self.lost, self.rule = True, False, ""
        stack = self.session.stack
        upstream: Via = stack.l2.plain[self.proto]
        tracked, l1 = stack.l2.tracked, None
        filled = self.fill is not None and self.fill.token
        if filled and tracked is not None and tracked.ready and tracked.fits(self.db):
            upstream, l1 = tracked, stack.l1
            self.rule = self.command.resp2 if self.proto == 2 else ""
        self.fill = Fill(l1, self.key, self.variant)
        _, raw, start, end = self.request
        asked = [with_pttl(self.key), bytes(raw[start:end])]
        Guarded(self.session, upstream, asked, [self.key], self)

    def fail_l3(self, outcome: Outcome) -> None:
        session = self.session
        if session.config.l3.on_error == "nil":
            reply = reply_from_row(self.command, self.request[0], None, self.proto)
            self.finish(reply if reply is not None else NIL[self.proto])
            return
        session.stats.read_errors += 1
        self.finish(errors.load_failed(outcome.reason))

    # twin: _in_flight.late
    def answer_early(self) -> bool:
        """L2 is late: answer from L1 if possible, and then ignore L2's reply. Returns whether."""
        return self.reply is None and not self.lost and self.serve_suspect()

    # twin: _in_flight.lost
    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None and not self.lost:
            self.lost = True
            self.degrade(reason)

    def degrade(self, reason: str) -> None:
        """L2 is down: answer from a suspect L1 entry within the window, else L3, else an error."""
        if self.serve_suspect():
            return
        session = self.session
        if self.mapping is None:
            self.finish(session.read_failed(reason))
            return
        session.stack.load(self.mapping, self.key, self.on_row)

    def serve_suspect(self) -> bool:
        """Answer from L1 although the watermark is late, if the window allows it."""
        stale = self.session.known_read(self.key, self.variant, self.proto)
        if stale is None:
            return False
        self.finish(stale)
        return True

    def finish(self, reply: bytes) -> None:
        if self.mapping is not None:
            self.session.mapped_in_flight -= 1
        Slot.finish(self, reply)


def take_over(session: Session, taken: TakenRead) -> ReadSlot | None:
    """Continue a read of the compiled lane whose key L2 lacks or may lack. None for an unmapped
    key."""
    mapping = session.stack.mapping_of(taken.key, taken.db)
    if mapping is None:
        return None
    raw, command = taken.request, taken.command
    request = (decode(raw), raw, 0, len(raw))
    rule = command.resp2 if taken.proto == 2 else ""
    slot = ReadSlot(session, rule, command, request, taken.variant, mapping, taken.started)
    slot.proto, slot.db = taken.proto, taken.db
    slot.fill = Fill.begun(session.stack.l1, taken.key, taken.variant, taken.token, taken.epoch)
    return slot
