"""Transactions on a private connection: Terrace's record of one, and its end.

Redis queues and runs the commands. Terrace records their possible writes, for the coherence
steps of EXEC, and the results that it edits for the client. `queueing` decides which commands
enter a transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tiers import TierUnavailable
from tiers.proxy_door import BLIND, LineageSnapshot
from tiers.wire.resp import QUEUED, ReplyScanner, Request, array, pack

from .. import errors
from ..client.slots import BarrierSlot, Slot
from ..commands.command import Command
from ..flow.load_first import load_first
from . import stored, transaction_fills
from .states import Event
from .transaction_rows import TransactionRows, remove_own_results

if TYPE_CHECKING:
    from ..client.session import Session
    from ..stats import Stats
    from .connection import PrivateConnection

Edit: TypeAlias = Callable[[bytes], bytes]
"""The result of Redis -> that of the client."""

_DISCARD: Request = ([b"DISCARD"], pack([b"DISCARD"]), 0, len(pack([b"DISCARD"])))


@dataclass
class Transaction:
    """Terrace's record of the commands that are queued after MULTI."""

    keys: list[bytes] = field(default_factory=list)  # keys that may be written
    durable: list[bytes] = field(default_factory=list)  # those of the store
    snapshot: LineageSnapshot = BLIND  # of the first of them
    selects: bool = False  # it may select another database
    opaque: bool = False  # it may write unknown keys
    flushes: bool = False
    queued: int = 0
    strict_s: float = 0.0  # the largest bound of the strict keys that it may write
    kept_bytes: int = 0  # of the keys, approximately
    edits: dict[int, Edit] = field(default_factory=dict)  # by position in EXEC's reply
    is_held_by_pause: bool = False  # CLIENT PAUSE WRITE would have held one of them
    hidden: dict[int, bool] = field(default_factory=dict)  # positions of own commands; is it a fill
    rows: TransactionRows = field(default_factory=TransactionRows)
    aborted: bool = False  # Terrace refused a command: EXEC must run nothing

    @property
    def writes(self) -> bool:
        return bool(self.keys) or self.opaque or self.flushes

    def edited(self, reply: bytes, stats: Stats) -> bytes:
        """EXEC's reply for the client; errors and nil are unchanged."""
        if not (self.edits or self.hidden) or not _has_results(reply):
            return reply
        results = ReplyScanner().feed(reply[reply.index(b"\n") + 1 :])
        if len(results) != self.queued:
            return reply
        for position, edit in self.edits.items():
            results[position] = edit(results[position])
        brought, problem = remove_own_results(self, results)
        stats.rows_brought += brought
        if problem:
            stats.write_errors += 1
            return errors.rows_missing(problem)
        return array(results)


def load_watched(session: Session, command: Command, request: Request) -> bool:
    """Before WATCH: whether it was postponed until its mapped keys are in L2.

    A later load would itself look like a change.
    """
    return load_first(session, command, request, views=True)


def unwatch(private: PrivateConnection, request: Request) -> None:
    """UNWATCH outside MULTI."""
    private.move(Event.UNWATCH)
    private.forward(request, Slot(private.session))
    private.session.block_idle()


def end(private: PrivateConnection, command: Command, request: Request) -> None:
    """EXEC or DISCARD."""
    session = private.session
    if command.name != "EXEC":
        private.move(Event.MULTI_ENDS)
        private.forward(request, Slot(session))
    elif private.transaction.aborted:
        end_aborted(private, errors.EXEC_ABORTED)
    elif transaction_fills.renew_rows(private, request):
        return
    else:
        transaction_fills.settle(private)
        stored.send_capture(private)
        private.forward(request, ExecSlot(private))
    session.block_idle()


def pass_mistake(private: PrivateConnection, command: Command, request: Request) -> None:
    """Forward a wrong number of arguments, which also aborts the transaction in Redis."""
    is_exec = command.name == "EXEC"
    private.forward(request, ExecSlot(private) if is_exec else Slot(private.session))
    private.session.block_idle()


def abort(private: PrivateConnection, reply: bytes) -> None:
    """Refuse a command inside MULTI, as Redis does: EXEC then runs nothing."""
    private.transaction.aborted = True
    private.session.reply(reply)


def end_aborted(private: PrivateConnection, reply: bytes) -> None:
    """Answer EXEC without running anything."""
    private.move(Event.MULTI_ENDS)
    if private.lost:
        private.maybe_release()
        private.session.reply(reply)
    else:
        private.forward(_DISCARD, _AbortSlot(private.session, reply))


class QueuedSlot(Slot):
    """A command inside MULTI: only a command that Redis queued gets a place in EXEC's reply.

    Redis refuses a nested MULTI, for example, without ending the transaction.
    """

    __slots__ = ("edit", "transaction")

    def __init__(self, private: PrivateConnection, edit: Edit | None = None) -> None:
        super().__init__(private.session)
        self.transaction = private.transaction
        self.edit = edit

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        transaction = self.transaction
        if reply == QUEUED:
            if self.edit is not None:
                transaction.edits[transaction.queued] = self.edit
            transaction.queued += 1
        self.finish(reply)


class ExecSlot(BarrierSlot):
    """EXEC: a write of every key that the transaction may have written."""

    __slots__ = ("_captured", "private")

    def __init__(self, private: PrivateConnection) -> None:
        session, transaction = private.session, private.transaction
        self._captured = b""  # the values of keys of the store, the last result
        super().__init__(
            session,
            "",
            transaction.keys,
            unknown=transaction.opaque or transaction.flushes,
            flushes=transaction.flushes,
        )
        self.strict_s = transaction.strict_s
        self.private = private

    @property
    def reply_max_bytes(self) -> int:
        # The values of keys of the store are never dropped: the table needs them.
        return 0 if self.private.transaction.durable else super().reply_max_bytes

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.private.transaction.durable and self._held is None and _has_results(reply):
            *results, self._captured = ReplyScanner().feed(reply[reply.index(b"\n") + 1 :])
            reply = array(results)
        super().on_reply(reply, sent_at)

    def finish(self, reply: bytes) -> None:
        private, store, captured = self.private, self.session.stack.store, self._captured
        if captured and store is not None:
            self._captured = b""
            store.commit_captured(private.transaction.durable, captured, reply, self._on_committed)
            return
        private.move(Event.MULTI_ENDS)
        super().finish(private.transaction.edited(reply, self.session.stats))

    def _on_committed(self, reply: bytes, failure: TierUnavailable | None) -> None:
        if failure is not None:
            self.session.stats.write_errors += 1
        self.finish(reply if failure is None else errors.tier_failed(failure))


def _has_results(reply: bytes) -> bool:
    """Whether it is neither an error nor the nil of a failed WATCH."""
    return reply.startswith(b"*") and not reply.startswith(b"*-")


class _AbortSlot(Slot):
    """EXEC of a transaction that Terrace aborted: Redis gets a DISCARD."""

    __slots__ = ("instead",)

    def __init__(self, session: Session, instead: bytes) -> None:
        super().__init__(session)
        self.instead = instead

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.finish(self.instead)

    def on_lost(self, reason: str, sent: bool) -> None:
        self.finish(self.instead)  # even without a reply to DISCARD, nothing ran
