"""Rows of mapped keys in a client's transaction: queued in front of what counts on them.

A row is read when the first command is queued that looks at its key, and stored by the
transaction itself where Redis lacks the key then. The first load would be of no use: nothing
keeps the key there until EXEC. An entry of the store is brought back before its command is
queued; at the end Terrace asks whether it was taken out again, and answers that instead of a nil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import L2, fill_commands, settle_command
from tiers.wire.resp import QUEUED, Request

from ..commands.command import Command
from ..flow.load_first import refuse_unloaded
from .lent_rows import LentRows

if TYPE_CHECKING:
    from .connection import PrivateConnection
    from .transactions import Transaction


class _HiddenSlot:
    """Waits for a command of Terrace's own in the transaction."""

    def __init__(self, transaction: Transaction, *, is_fill: bool) -> None:
        self._transaction, self._is_fill = transaction, is_fill

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if reply == QUEUED:  # else Redis ends the transaction at EXEC
            transaction = self._transaction
            transaction.hidden[transaction.queued] = self._is_fill
            transaction.queued += 1

    def on_lost(self, reason: str, sent: bool) -> None:
        pass


def lend(private: PrivateConnection, command: Command, request: Request) -> bool:
    """Queue the rows that a command needs; True if it was put off until they are at hand."""
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
        rows.lent.update(keys)
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


def note_gone(private: PrivateConnection, durable: list[bytes]) -> None:
    """In front of a command that writes these keys: which of them are gone.

    Only of the first command on a key. Later ones may find that the transaction deleted it.
    """
    session, transaction = private.session, private.transaction
    keys = [key for key in durable if key not in transaction.durable]
    if keys and session.stack.store is not None:
        raw = session.stack.store.gone_command(keys, session.seen)
        private.upstream.send(raw, _HiddenSlot(transaction, is_fill=False), session.db)


def look_again(private: PrivateConnection, request: Request) -> bool:
    """Before EXEC: True if it was put off until Redis has the rows that are newer by now.

    What was read when it was queued may be older than a refresh that the client knows of, and
    what is written on such a row does not stay.
    """
    session, rows = private.session, private.transaction.rows
    if not rows.lent or rows.renewed:
        return False
    if session.in_flight:
        session.block_idle(request)
    else:
        session.terrace.run_task(session, _renew(private, request))
    return True


async def _renew(private: PrivateConnection, request: Request) -> None:
    session, rows = private.session, private.transaction.rows
    held = [row for row in rows.held.values() if row is not None]
    await session.stack.renew(held)  # if it cannot, what is at hand does
    rows.renewed = True
    session.put_back(request)


def settle(private: PrivateConnection) -> None:
    """Queue what has to follow the commands on mapped keys, before EXEC or a SELECT."""
    transaction = private.transaction
    rows, transaction.rows = transaction.rows, LentRows()
    if rows.needs_settling:
        raw = settle_command(list(rows.removed.items()), rows.name)
        private.upstream.send(raw, _HiddenSlot(transaction, is_fill=False), private.session.db)
    # Of those that were written, too, the capture finds out.
    read = {k: v for k, v in rows.stored.items() if k not in transaction.durable}
    if read and (store := private.session.stack.store) is not None:
        slot = _HiddenSlot(transaction, is_fill=True)
        private.upstream.send(store.seen_command(read), slot, private.session.db)
