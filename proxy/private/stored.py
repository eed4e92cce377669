"""Keys of the store in a client's transaction: captures written values before EXEC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiers.proxy_door import DISCARD

from .. import errors
from ..commands.command import Command, Kind

if TYPE_CHECKING:
    from .connection import PrivateConnection


def refusal(
    private: PrivateConnection, command: Command, args: Sequence[bytes], durable: list[bytes]
) -> bytes:
    """The error for a command that writes these keys and may not be queued; b"" if it may."""
    store = private.session.stack.store
    assert store is not None
    if command.kind is Kind.PRIVATE:
        return errors.not_storable(args)
    if private.transaction.selects:
        return errors.STORE_AFTER_SELECT
    reason = store.refusal(durable)
    return errors.store_failed(reason) if reason else b""


def send_capture(private: PrivateConnection) -> None:
    """Before EXEC: queue the capture of the keys that the transaction wrote, if there are any."""
    transaction, store = private.transaction, private.session.stack.store
    if not transaction.durable or store is None:
        return
    transaction.durable = list(dict.fromkeys(transaction.durable))
    command = store.capture_command(transaction.durable, transaction.snapshot)
    private.upstream.send(command, DISCARD, private.session.db)
