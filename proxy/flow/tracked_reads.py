"""Reads of mapped keys by clients with their own cache (CLIENT TRACKING).

Redis pushes an invalidation when a key changes that the client has read; only Redis knows
which client has read a key. So Terrace first loads the row into L2, then reads it on the
client's private connection. Redis cannot invalidate a key that L2 still lacks (no row, or
not stored): after such a reply Terrace sends an invalidation at once, so that the client
does not keep it. An EXISTS after the command shows the presence of the keys; it comes after
the command because CLIENT CACHING applies to the next command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import Fill, with_pttl
from tiers.wire.resp import Request, integer, pack, to_resp2

from ..client.redirection import invalidation
from ..client.slots import Slot
from ..commands.command import Command, Kind
from .guarded import Guarded
from .mget import MgetSlot
from .reads import ReadSlot

if TYPE_CHECKING:
    from tiers.proxy_door import Via

    from ..client.session import Session


def mapped_keys(session: Session, command: Command, request: Request) -> list[bytes]:
    """The mapped keys of this read, if its client tracks its reads."""
    private, stack = session.private, session.stack
    if private is None or not private.tracking or stack.l3 is None:
        return []
    keys = command.keys_of(request[0])
    return [key for key in keys if stack.mapping_of(key, session.db) is not None]


def send(
    session: Session,
    command: Command,
    request: Request,
    rule: str,
    keys: list[bytes],
    via: Via,
) -> None:
    """Run a read after a load of its mapped keys, on the connection that Redis tracks."""
    slot: _Tracked
    if command.name == "MGET":
        slot = _TrackedMget(session, rule, request)
    elif command.kind is Kind.CACHED and len(command.keys_of(request[0])) == 1:
        mapping = session.stack.mapping_of(keys[0], session.db)
        slot = _TrackedRead(session, rule, command, request, b"", mapping, session.clock())
    else:
        slot = _TrackedOther(session, rule, request, command.is_script)
    slot.mapped = keys
    session.add_slot(slot)
    _, buffer, start, end = request
    via.send(buffer[start:end], slot, session.db)
    via.send(pack([b"EXISTS", *keys]), slot, session.db)


class _Tracked(Slot):
    """[command][EXISTS keys]: the reply is final if L2 has all the keys."""

    mapped: list[bytes]  # the mapped keys
    held: bytes | None = None  # the reply of the command
    absent = False  # L2 does not have all of them

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.absent:
            super().on_reply(reply, sent_at)
        elif self.held is None:
            self.held = to_resp2(reply, self.rule) if self.rule else reply
        elif reply == integer(len(self.mapped)) or self.held.startswith(b"-"):
            self.finish(self.held)
        else:
            self.absent = True
            self.answer_absent(self.held)

    def answer_absent(self, held: bytes) -> None:
        self.finish(held)

    def finish(self, reply: bytes) -> None:
        session = self.session
        if self.absent and session.private is not None:
            frame = invalidation(self.mapped)
            target = session.terrace.sessions.get(session.private.redirect_to)
            if target is not None and target.invalidations is not None:
                target.invalidations.deliver(frame)
            elif session.proto == 3:
                reply += frame
        super().finish(reply)


class _TrackedRead(_Tracked, ReadSlot):
    """A read of one key; if L2 lacks it, it continues as the read of any other client."""

    def answer_absent(self, held: bytes) -> None:
        self.rerun()


class _TrackedMget(_Tracked, MgetSlot):
    """MGET; if L2 lacks a key, it continues as the MGET of any other client."""

    def answer_absent(self, held: bytes) -> None:
        session = self.session
        plain = session.stack.l2.at(self.db, self.proto)
        for position, key in enumerate(self.request[0][1:]):
            if session.stack.mapping_of(key, self.db) is not None:
                self.asked.append((position, Fill(None, key, self.variant)))
                plain.send(with_pttl(key), self, self.db)
        _, buffer, start, end = self.request
        plain.send(buffer[start:end], self, self.db)


class _TrackedOther(_Tracked):
    """Other commands with several keys."""

    def __init__(self, session: Session, rule: str, request: Request, scripted: bool) -> None:
        super().__init__(session, rule)
        self.request = request
        self.scripted = scripted

    def answer_absent(self, held: bytes) -> None:
        session = self.session
        _, buffer, start, end = self.request
        plain, self.rule = session.stack.l2.plain[session.proto], ""
        raw = bytes(buffer[start:end])
        Guarded(session, plain, [raw], self.mapped, self, is_script=self.scripted)

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None:
            super().on_lost(reason, sent)
