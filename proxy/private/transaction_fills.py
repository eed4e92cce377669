"""Rows of mapped keys in a client's transaction: queued before the commands that need them.

A row is read when the first command with its key is queued, and the transaction itself
stores it if Redis lacks the key at EXEC. A load into Redis before that is useless: the key
may vanish until EXEC. An entry of the store is restored in Redis before its command is
queued; the end of the transaction checks whether it vanished, which is an error, not a nil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import L2, fill_commands, settle_command
from tiers.wire.resp import QUEUED, Request

from ..commands.command import Command
from ..flow.load_first import refuse_unloaded
from .transaction_rows import TransactionRows

if TYPE_CHECKING:
    from .connection import PrivateConnection
    from .transactions import Transaction


class _HiddenSlot:
    """Waits for one of Terrace's own commands in the transaction."""

    def __init__(self, transaction: Transaction, *, is_fill: bool) -> None:
        self._transaction, self._is_fill = transaction, is_fill

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if reply == QUEUED:  # else EXEC fails in Redis
            transaction = self._transaction
            transaction.hidden[transaction.queued] = self._is_fill
            transaction.queued += 1

    def on_lost(self, reason: str, sent: bool) -> None:
        pass


def queue_rows(private: PrivateConnection, command: Command, request: Request) -> bool:
    """Queue the rows that a command needs; True if it was postponed until they are loaded."""
    session, transaction, args = private.session, private.transaction, request[0]
    stack, rows = session.stack, transaction.rows
    if stack.l3 is None or session.db or transaction.selects:
        return False
    keys = stack.viewed(command.may_touch(args))
    if not keys:
        return False
    looks = not command.overwrites_blindly(args)
    if looks and any(key not in rows.held for key in keys):
        if session.in_flight:
            session.block_idle(request)
        else:
            session.terrace.run_task(session, _hold_then_queue(private, keys, request))
        return True
    if looks:
        for raw in fill_commands(rows.rows(keys), rows.name):
            private.upstream.send(raw, _HiddenSlot(transaction, is_fill=True), session.db)
        rows.queued.update(keys)
    if not command.reads:
        was_there = keys if command.deletes else [k for k in keys if rows.held.get(k)]
        rows.removed.update(stack.tombstones(was_there))
    return False


async def _hold_then_queue(private: PrivateConnection, keys: list[bytes], request: Request) -> None:
    session, rows = private.session, private.transaction.rows
    missing = [key for key in keys if key not in rows.held]
    found, failure = await session.stack.held(missing)
    may_be_nil = session.config.l3.on_error == "nil"
    if failure is not None and not (failure.tier != L2 and may_be_nil):
        refuse_unloaded(session, failure)
        return
    rows.held.update(dict.fromkeys(missing))
    rows.held.update((row.key, row) for row in found)
    session.put_back(request)


def queue_absence_check(private: PrivateConnection, durable: list[bytes]) -> None:
    """Before a command that writes these keys: check which of them are absent.

    Only for the first command on a key. Before later ones the transaction may have deleted it.
    """
    session, transaction = private.session, private.transaction
    keys = [key for key in durable if key not in transaction.durable]
    if keys and session.stack.store is not None:
        raw = session.stack.store.gone_command(keys, session.seen)
        private.upstream.send(raw, _HiddenSlot(transaction, is_fill=False), session.db)


def renew_rows(private: PrivateConnection, request: Request) -> bool:
    """Before EXEC: True if it was postponed until outdated rows are loaded again.

    A row that was read when it was queued may be older than a refresh that the client knows,
    and a write on such a row would not last.
    """
    session, rows = private.session, private.transaction.rows
    if not rows.queued or rows.renewed:
        return False
    if session.in_flight:
        session.block_idle(request)
    else:
        session.terrace.run_task(session, _renew(private, request))
    return True


async def _renew(private: PrivateConnection, request: Request) -> None:
    session, rows = private.session, private.transaction.rows
    held = [row for row in rows.held.values() if row is not None]
    await session.stack.renew(held)  # if it fails, the old rows are used
    rows.renewed = True
    session.put_back(request)


def settle(private: PrivateConnection) -> None:
    """Queue the checks and tombstones for mapped keys, before EXEC or a SELECT."""
    transaction = private.transaction
    rows, transaction.rows = transaction.rows, TransactionRows()
    if rows.needs_settling:
        raw = settle_command(list(rows.removed.items()), rows.name)
        private.upstream.send(raw, _HiddenSlot(transaction, is_fill=False), private.session.db)
    # The capture checks those that were also written.
    read = {k: v for k, v in rows.stored.items() if k not in transaction.durable}
    if read and (store := private.session.stack.store) is not None:
        slot = _HiddenSlot(transaction, is_fill=True)
        private.upstream.send(store.seen_command(read), slot, private.session.db)
