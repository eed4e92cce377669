"""MGET: forwards, fills L1 key by key, loads missing keys, degrades. `reads` has single keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import Kind as OutcomeKind
from tiers import Outcome
from tiers.proxy_door import TOO_LARGE, Fill, Mapped
from tiers.wire.resp import NULL2, NULL3, Request, array, bulk, pack

from .. import errors
from ..client.slots import Slot
from .guarded import Guarded

if TYPE_CHECKING:
    from ..client.session import Session

MGET_FILL_MAX = 128  # keys of one MGET whose TTL is read to fill L1


class MgetSlot(Slot):
    """A whole MGET: [PTTL k] for the keys to fill and for mapped keys, then the MGET itself."""

    __slots__ = (
        "asked", "db", "elements", "failure", "keys", "loading", "lost", "proto", "pttl_replies",
        "request", "room_bytes", "unsure", "variant",
    )  # fmt: skip

    def __init__(self, session: Session, rule: str, request: Request) -> None:
        super().__init__(session, rule)
        self.request = request
        self.keys = request[0][1:]
        self.proto = session.proto
        self.db = session.db
        self.variant = session.get_variant
        self.asked: list[tuple[int, Fill]] = []  # positions with a PTTL, in order
        self.pttl_replies = 0  # the number of their replies so far
        self.elements: list[bytes] = []
        self.unsure: list[int] = []  # positions of keys that L2 lacked before, and has now
        self.loading = 0
        self.failure: Outcome | None = None
        self.lost = False
        self.room_bytes = session.lane.output_max_bytes  # for what L1 or L3 may add
        session.mapped_in_flight += 1

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.lost:
            return
        if self.pttl_replies < len(self.asked):
            self.asked[self.pttl_replies][1].feed(reply, sent_at)
            self.pttl_replies += 1
            return
        if reply[0] != 0x2A:  # '*'
            self.finish(reply)
            return
        elements = split_array(reply)
        if self.elements:
            for position, element in zip(self.unsure, elements, strict=True):
                self.elements[position] = element
            self.unsure = []
            self.complete(self.elements)
            return
        if len(elements) != len(self.keys):
            raise ValueError("the number of elements and keys differ")
        session = self.session
        stack = session.stack
        self.loading += 1  # a callback may run at once: complete only after the last request
        for position, fill in self.asked:
            element = elements[position]
            is_nil = element in (NULL2, NULL3)
            mapping = stack.mapping_of(fill.key, self.db) if is_nil else None
            if mapping is not None:
                session.stats.rows_brought += not fill.is_absent
                self.load(mapping, position, elements)
            elif fill.is_absent or not is_nil:
                # A nil for an existing key means a wrong type, unlike GET's reply.
                fill.feed(element, sent_at)
                fill.commit()
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
            elif outcome.kind is OutcomeKind.MISS:
                self.unsure.append(position)
            self.complete(elements)

        self.session.stack.load(mapping, self.keys[position], on_loaded)

    def complete(self, elements: list[bytes]) -> None:
        if self.loading or self.reply is not None:
            return
        if self.room_bytes < 0:
            self.finish(TOO_LARGE)
            return
        if self.unsure and self.failure is None:
            self.rerun(elements)
            return
        if self.failure is not None:
            # A failed element is never a nil: the application would trust it.
            self.session.stats.read_errors += 1
            self.finish(errors.load_failed(self.failure.reason))
            return
        if self.proto == 2:
            elements = [NULL2 if e == NULL3 else e for e in elements]
        self.finish(array(elements))

    def rerun(self, elements: list[bytes]) -> None:
        """Another proxy stored them first, or they are not strings: read them with a check of
        their presence in L2."""
        self.elements = elements
        keys = [self.keys[position] for position in self.unsure]
        plain = self.session.stack.l2.plain[self.proto]
        Guarded(self.session, plain, [pack([b"MGET", *keys])], keys, self)

    def answer_early(self) -> bool:
        """As in a ReadSlot, if L1 knows all keys."""
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
            raise ValueError("an element is not a bulk string")
        elements.append(reply[pos:eol])
        pos = eol
    return elements
