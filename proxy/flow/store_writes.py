"""Writes of keys of the store: the client gets the reply when the table has them.

The command runs in its own transaction, which captures the new values of its keys
(`tiers.store.store`). Its reply waits here until the table has committed them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiers import Kind as OutcomeKind
from tiers import Outcome, TierUnavailable
from tiers.proxy_door import BLIND, L2, L2_REDIS, L3, LineageSnapshot, Via
from tiers.wire.resp import Request, parse_integer, to_resp2

from .. import errors
from ..client.slots import BarrierSlot
from ..commands.command import Command, Kind
from .routing import fresh, route, rule_for, send_tombstones, strict_s

if TYPE_CHECKING:
    from ..client.session import Session

WRAPPED_REPLIES = 4  # MULTI, the command, the capture, EXEC; one more if it looks


class StoreSlot(BarrierSlot):
    """Waits for the replies of a wrapped command, then for the commit.

    If the command may also write other keys, it also waits for a PING on the tracked
    connection (see `BarrierSlot`).
    """

    __slots__ = ("_answer", "_frames", "_left", "_lost", "_relied_on", "_replies",
                 "durable")  # fmt: skip

    reply_max_bytes = 0  # it has the values for the table

    def __init__(
        self,
        session: Session,
        rule: str,
        keys: list[bytes],
        durable: list[bytes],
        *,
        relied_on: LineageSnapshot,
        replies: int,
        unknown: bool,
    ) -> None:
        super().__init__(session, rule, keys, unknown=unknown)
        self.durable = durable
        self._relied_on = relied_on
        self._replies = replies
        self._frames: list[bytes] = []
        self._answer = b""
        self._left = 2  # the commit and the PING
        self._lost = False

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if len(self._frames) == self._replies:
            self._release_one()  # the PING
            return
        self._frames.append(reply)
        if len(self._frames) < self._replies:
            return
        if not self.end_writes():
            self._left -= 1
        store = self.session.stack.store
        assert store is not None
        store.unwrap(self.durable, self._frames, self._on_committed, relied_on=self._relied_on)

    def _on_committed(self, reply: bytes, failure: TierUnavailable | None) -> None:
        if failure is not None:
            self.session.stats.write_errors += 1
            self._answer = errors.tier_failed(failure)
        else:
            self._answer = to_resp2(reply, self.rule) if self.rule else reply
        self._release_one()

    def on_lost(self, reason: str, sent: bool) -> None:
        if len(self._frames) == self._replies:  # the PING
            self.end_untracked()
            self._release_one()
        elif not self._lost:  # called once per missing reply
            self._lost = True
            super().on_lost(reason, sent or bool(self._frames))

    def _release_one(self) -> None:
        self._left -= 1
        if not self._left:
            self.release(self._answer)


async def look(session: Session, durable: list[bytes]) -> Outcome | None:
    """Record the identity of Redis before its keys are read; returns the failure, if any."""
    store = session.stack.store
    assert store is not None
    try:
        session.snapshot = await store.snapshot(durable)
    except TierUnavailable as error:
        tier = L2 if error.tier == L2_REDIS else L3
        return Outcome(OutcomeKind.UNAVAILABLE, tier=tier, reason=error.reason)
    return None


def write(
    session: Session, command: Command, request: Request, keys: list[bytes], durable: list[bytes]
) -> None:
    args, buffer, start, end = request
    stack = session.stack
    store = stack.store
    assert store is not None
    if reason := store.refusal(durable):
        session.stats.write_errors += 1
        session.reply(errors.store_failed(reason))
        return
    if session.private is not None and not session.private.is_for_size:
        # Not on the private connection: the transaction would end a WATCH.
        if session.in_flight:
            session.block_idle(request)
            return
        via: Via = fresh(session, command)
    else:
        routed = route(session, command, request, tracked=command.kind is Kind.WRITE)
        if routed is None:
            return
        via = routed
    is_blind = command.overwrites_blindly(args) and not command.deletes
    relied_on = BLIND if is_blind else session.snapshot
    seen = None if is_blind else session.seen
    replies = WRAPPED_REPLIES + (not is_blind)
    slot = StoreSlot(
        session,
        rule_for(session, command, via),
        keys,
        durable,
        relied_on=relied_on,
        replies=replies,
        unknown=command.kind is Kind.OPAQUE,
    )
    if command.kind is Kind.OPAQUE:
        slot.strict_s = strict_s(session, command, args)
    session.add_slot(slot)
    if session.private is not None and not session.private.is_for_size:
        session.block_idle()
    if not via.ready:
        slot.on_lost(via.reason, False)
        return
    send_tombstones(session, command, via, keys)
    raw = store.wrap(bytes(buffer[start:end]), durable, relied_on=relied_on, seen=seen)
    via.send(raw, slot, session.db, replies)


def reaches_in(session: Session, command: Command, args: Sequence[bytes]) -> bool:
    """Whether it writes keys of the store from another database: MOVE key 0, COPY a b DB 0."""
    durable = session.stack.durable
    if command.name == "MOVE":
        return parse_integer(args[-1]) == 0 and bool(durable(args[1:2]))
    if command.name == "COPY":
        options = itertools.pairwise(args[3:])
        into = any(word.upper() == b"DB" and parse_integer(db) == 0 for word, db in options)
        return into and bool(durable(args[2:3]))
    return False
