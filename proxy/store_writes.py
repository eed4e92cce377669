"""Writes of keys that are kept in the store: acknowledged when the table has them.

The command travels inside a transaction of its own that captures what its keys then hold
(`tiers.store`). Its reply waits here until that is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import Coherence, KeptUpstream, TierUnavailable, Upstream
from tiers.resp import Request, to_resp2

from . import errors
from .commands import Command
from .slots import WriteSlot

if TYPE_CHECKING:
    from .session import Session

WRAPPED_REPLIES = 4  # MULTI, the command, the capture, EXEC


class StoreSlot(WriteSlot):
    """Waits for the four replies of a wrapped command, then for the commit."""

    __slots__ = ("_frames", "_lost", "durable")

    def __init__(
        self,
        session: Session,
        rule: str,
        keys: list[bytes],
        durable: list[bytes],
        coherence: Coherence | None,
    ) -> None:
        super().__init__(session, rule, keys, coherence)
        self.durable = durable
        self._frames: list[bytes] = []
        self._lost = False

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._frames.append(reply)
        if len(self._frames) < WRAPPED_REPLIES or self._lost:
            return
        if self.coherence is not None:
            self.coherence.end_write(self.keys)
        store = self.session.stack.store
        assert store is not None
        store.unwrap(self.durable, self._frames, self.on_committed)

    def on_committed(self, reply: bytes, failure: TierUnavailable | None) -> None:
        if failure is not None:
            self.session.stats.write_errors += 1
            self.finish(errors.tier_failed(failure))
        else:
            self.settle(to_resp2(reply, self.rule) if self.rule else reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self._lost:  # told once for each reply that is missing
            self._lost = True
            super().on_lost(reason, sent or bool(self._frames))


def write(
    session: Session, command: Command, request: Request, keys: list[bytes], durable: list[bytes]
) -> None:
    from .dispatch import DELETES, route, rule_for, send_tombstones

    args, buffer, start, end = request
    stack = session.stack
    store = stack.store
    assert store is not None
    if reason := store.refusal(durable):
        session.stats.write_errors += 1
        session.reply(errors.store_failed(reason))
        return
    if session.pin is not None:
        # Not on the private connection: the transaction around the command would end a WATCH.
        if session.in_flight:
            session.block_idle(request)
            return
        via: KeptUpstream | Upstream = stack.l2.plain[session.proto]
    else:
        routed = route(session, command, request, tracked=True)
        if routed is None:
            return
        via = routed
    coherence = stack.l1.coherence if stack.l1 is not None else None
    slot = StoreSlot(session, rule_for(session, command, via), keys, durable, coherence)
    session.add_slot(slot)
    if session.pin is not None:
        session.block_idle()
    if not via.ready:
        slot.on_lost(via.reason, False)
        return
    send_tombstones(session, command, via, keys)
    looks_at_old = not command.overwrites_blindly(args) or command.name in DELETES
    raw = store.wrap(bytes(buffer[start:end]), durable, looks_at_old=looks_at_old)
    via.send(raw, slot, session.db, WRAPPED_REPLIES)
