"""Cached reads that were not hits: forward, fill L1, fault in mapped keys, degrade.

The slots here wait for [PTTL key][command] sent together: PTTL gives the deadline
of the L1 entry and, being tracked itself, lets no change slip between the two
replies; for mapped keys its -2 says that L2 lacks the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import TOO_LARGE, Mapped, Outcome, request_of
from tiers import Kind as OutcomeKind
from tiers.resp import NIL, NULL2, NULL3, Request, array, bulk, decode, pack, to_resp2

from . import errors
from .commands import Command
from .field_fills import Fill, commit
from .rows import reply_from_row
from .slots import Slot

if TYPE_CHECKING:
    from .session import Session

PTTL_HEAD = b"*2\r\n$4\r\nPTTL\r\n"
TTL_ABSENT = -2
# Found once: a member of an enum is found by some steps, and these are asked for each row.
_HIT, _MISS, _NEGATIVE, _UNAVAILABLE = (
    OutcomeKind.HIT, OutcomeKind.MISS, OutcomeKind.NEGATIVE, OutcomeKind.UNAVAILABLE
)  # fmt: skip
MGET_FILL_MAX = 128  # keys of one MGET that are asked for their TTL to fill L1
RERUNS = 2  # a key that appears and disappears under our eyes is asked for this often


def pttl(key: bytes, command: bytes = b"") -> bytes:
    """PTTL of the key, and the encoded command behind it."""
    return b"%b$%d\r\n%b\r\n%b" % (PTTL_HEAD, len(key), key, command)


class ReadSlot(Slot):
    """One cached read of one key, with a fill (`token` not 0) and a possible fault-in."""

    __slots__ = (
        "command", "db", "epoch", "key", "mapping", "proto", "pttl_ms", "request", "reruns",
        "started", "token", "variant",
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
        self.token = 0
        self.epoch = 0
        self.pttl_ms: int | None = None
        self.reruns = RERUNS
        if mapping is not None:
            session.mapped_in_flight += 1

    @classmethod
    def taken_over(
        cls,
        session: Session,
        command: Command,
        key: bytes,
        variant: bytes,
        mapping: Mapped,
        proto: int,
        fill: tuple[float, int, int],
    ) -> ReadSlot:
        """A read that the compiled lane sent on the tracked connection, in database 0; `fill` is
        when it came, and the token and the epoch of its fill."""
        if command.name == "GET":
            args = [b"GET", key]
            raw = pack(args)
        else:
            raw = request_of(variant)
            args = decode(raw)
        started, token, epoch = fill
        request = (args, raw, 0, len(raw))
        rule = command.resp2 if proto == 2 else ""
        slot = cls(session, rule, command, request, variant, mapping, started)
        slot.proto, slot.db = proto, 0
        slot.token, slot.epoch = token, epoch
        return slot

    def on_absent(self, reply: bytes, sent_at: float) -> None:
        """L2 lacks the key: what `on_reply` would find out."""
        self.pttl_ms = TTL_ABSENT
        self.reply_if_absent(reply, sent_at)

    def begin_fill(self) -> None:
        l1 = self.session.stack.l1
        if l1 is not None:
            self.token = l1.coherence.begin_fill(self.key)
            self.epoch = l1.arena.epoch

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.pttl_ms == LOST:
            return  # one of the pair was refused, and the client has its answer
        if self.pttl_ms is None:
            if reply[0] == 0x3A:  # ':'
                self.pttl_ms = int(reply[1:-2])
            else:
                self.pttl_ms, self.token = -1, 0
            return
        session = self.session
        l2 = session.stats.l2
        if self.pttl_ms == TTL_ABSENT:
            l2.misses += 1
            if self.mapping is not None and reply[0] != 0x2D:  # '-': a data error stays one
                self.reply_if_absent(reply, sent_at)
                return
        else:
            l2.hits += 1
            l2.seconds.observe(session.clock() - self.started)
        converted = to_resp2(reply, self.rule) if self.rule else reply
        self.commit(reply, converted, sent_at, None)
        self.finish(converted)

    def commit(self, raw: bytes, converted: bytes, sent_at: float, max_age_s: float | None) -> None:
        l1 = self.session.stack.l1
        if l1 is None or not self.token:
            return
        # GET is stored in its RESP3 form, once for both protocols; other reads per protocol.
        stored = raw if self.command.name == "GET" else converted
        fill = Fill(
            self.db, self.key, self.variant, stored, self.token, self.epoch, sent_at, max_age_s
        )
        commit(self.session, self.command, self.request[0], raw, fill, self.pttl_ms)

    def reply_if_absent(self, reply: bytes, sent_at: float) -> None:
        """L2 lacks a mapped key: `reply` is right only if L3 lacks it too."""
        assert self.mapping is not None
        mapping = self.mapping

        def on_loaded(outcome: Outcome) -> None:
            if outcome.kind is _NEGATIVE:
                self.session.stats.l3.misses += 1
                converted = to_resp2(reply, self.rule) if self.rule else reply
                # A change that came while the row was looked for took the absence away, and
                # nobody will tell L1 of it again.
                if known_s := self.session.stack.absence_s(self.key):
                    self.commit(reply, converted, sent_at, min(known_s, mapping.negative_ttl_s))
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
        """L2 has the key now: let it answer."""
        upstream = self.session.stack.l2.at(self.db, self.proto)
        if not self.reruns or not upstream.ready:
            reason = upstream.reason if self.reruns else "the key is contended"
            self.finish(self.session.read_failed(reason))
            return
        self.reruns -= 1
        self.pttl_ms, self.token, self.rule = None, 0, ""
        _, raw, start, end = self.request
        upstream.send(pttl(self.key, raw[start:end]), self, self.db, 2)

    def fail_l3(self, outcome: Outcome) -> None:
        session = self.session
        if session.config.l3.on_error == "nil":
            reply = reply_from_row(self.command, self.request[0], None, self.proto)
            self.finish(reply if reply is not None else NIL[self.proto])
            return
        session.stats.read_errors += 1
        self.finish(errors.load_failed(outcome.reason))

    def answer_early(self) -> bool:
        """L2 owes the reply for long: whether L1 had one. What L2 says then is not heard."""
        return self.reply is None and self.pttl_ms != LOST and self.serve_suspect()

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None and self.pttl_ms != LOST:
            self.pttl_ms = LOST
            self.degrade(reason)

    def degrade(self, reason: str) -> None:
        """L2 cannot be asked: a suspect L1 entry within the window, else L3, else an error."""
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


LOST = -3  # pttl_ms of a read whose connection died: both of its waits were told


class MgetSlot(Slot):
    """MGET as a whole: [PTTL k] for the keys worth filling or mapped, then the MGET itself."""

    __slots__ = (
        "again", "asked", "db", "failure", "keys", "loading", "lost", "proto", "pttls", "request",
        "room_bytes", "tokens", "variant",
    )  # fmt: skip

    def __init__(self, session: Session, rule: str, request: Request) -> None:
        super().__init__(session, rule)
        self.request = request
        self.keys = request[0][1:]
        self.again = False
        self.proto = session.proto
        self.db = session.db
        self.variant = session.get_variant
        self.asked: list[int] = []  # positions whose PTTL is asked, in order
        self.tokens: list[tuple[int, int]] = []  # token and epoch for each of them
        self.pttls: list[int] = []
        self.loading = 0
        self.failure: Outcome | None = None
        self.lost = False
        self.room_bytes = session.lane.output_max_bytes  # for what L1 or L3 may add
        session.mapped_in_flight += 1

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.lost:
            return
        if len(self.pttls) < len(self.asked):
            self.pttls.append(int(reply[1:-2]) if reply[0] == 0x3A else -1)
            return
        if reply[0] != 0x2A:  # '*'
            self.finish(reply)
            return
        elements = split_array(reply)
        if len(elements) != len(self.keys):
            raise ValueError("not as many elements as keys")
        session = self.session
        stack = session.stack
        self.loading += 1  # callbacks may come at once: not complete before all were asked
        for position, pttl_ms, (token, epoch) in zip(
            self.asked, self.pttls, self.tokens, strict=True
        ):
            key, element = self.keys[position], elements[position]
            absent = pttl_ms == TTL_ABSENT
            mapping = stack.mapping_of(key, self.db) if absent else None
            if mapping is not None:
                self.load(mapping, position, elements)
            elif stack.l1 is not None and (absent or element not in (NULL2, NULL3)):
                # A nil for a key that exists is a wrong type, not a GET's reply.
                stack.l1.commit(key, self.variant, element, token, epoch, sent_at, pttl_ms)
        self.loading -= 1
        self.complete(elements)

    def load(self, mapping: Mapped, position: int, elements: list[bytes]) -> None:
        self.loading += 1

        def on_loaded(outcome: Outcome) -> None:
            self.loading -= 1
            if outcome.is_failure and self.session.config.l3.on_error == "error":
                self.failure = outcome
            elif isinstance(outcome.value, bytes):
                self.room_bytes -= len(outcome.value)
                if self.room_bytes >= 0:
                    elements[position] = bulk(outcome.value)
            elif outcome.kind is _MISS:
                self.again = True
            self.complete(elements)

        self.session.stack.load(mapping, self.keys[position], on_loaded)

    def complete(self, elements: list[bytes]) -> None:
        if self.loading or self.reply is not None:
            return
        if self.room_bytes < 0:
            self.finish(TOO_LARGE)
            return
        if self.again and self.failure is None:
            self.rerun()
            return
        if self.failure is not None:
            # A failed element is never a nil: the application would believe it.
            self.session.stats.read_errors += 1
            self.finish(errors.load_failed(self.failure.reason))
            return
        if self.proto == 2:
            elements = [NULL2 if e == NULL3 else e for e in elements]
        self.finish(array(elements))

    def rerun(self) -> None:
        """Another proxy stored one of the keys first: everything is in L2 now."""
        self.again = False
        self.asked, self.tokens, self.pttls = [], [], []
        _, raw, start, end = self.request
        session = self.session
        session.stack.l2.at(self.db, self.proto).send(raw[start:end], self, self.db)

    def answer_early(self) -> bool:
        """As that of a ReadSlot, where L1 knows all keys."""
        session = self.session
        if self.reply is not None or self.lost or self.loading:
            return False
        elements: list[bytes] = []
        room_bytes = self.room_bytes
        for key in self.keys:
            stale = session.get_suspect(key, self.variant)
            room_bytes -= 0 if stale is None else len(stale)
            if stale is None or room_bytes < 0:
                return False
            elements.append(stale)
        session.stats.stale_served += len(elements)
        self.complete(elements)
        return True

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.lost:
            return
        self.lost = True
        session = self.session
        elements: list[bytes] = [b""] * len(self.keys)
        missing: list[tuple[Mapped, int]] = []
        for position, key in enumerate(self.keys):
            stale = session.get_suspect(key, self.variant)
            mapping = session.stack.mapping_of(key, self.db)
            if stale is not None:
                self.room_bytes -= len(stale)
                if self.room_bytes < 0:
                    self.finish(TOO_LARGE)
                    return
                elements[position] = stale
            elif mapping is not None:
                missing.append((mapping, position))
                elements[position] = NULL3
            else:
                self.finish(session.read_failed(reason))
                return
        session.stats.stale_served += len(self.keys) - len(missing)
        self.loading += 1
        for mapping, position in missing:
            self.load(mapping, position, elements)
        self.loading -= 1
        self.complete(elements)

    def finish(self, reply: bytes) -> None:
        self.session.mapped_in_flight -= 1
        Slot.finish(self, reply)


def split_array(reply: bytes) -> list[bytes]:
    """The raw elements of a flat array of bulk strings and nulls. ValueError for any other."""
    elements: list[bytes] = []
    pos = reply.index(b"\n") + 1
    size = len(reply)
    while pos < size:
        eol = reply.index(b"\r\n", pos) + 2
        if reply[pos] == 0x24 and reply[pos + 1] != 0x2D:  # '$' with a length
            eol += int(reply[pos + 1 : eol - 2]) + 2
        elif reply[pos:eol] not in (NULL2, NULL3):
            raise ValueError("an element that is no bulk string")
        elements.append(reply[pos:eol])
        pos = eol
    return elements
