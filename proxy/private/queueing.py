"""Queues commands between MULTI and EXEC: as they are, changed, or refused.

A command about the client itself is queued as a PING, so that it has its place in EXEC's
reply, and Terrace answers it after EXEC: Redis' answer would be about the connection between
Terrace and Redis.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tiers.proxy_door import BLIND
from tiers.wire.resp import OK, Request, pack, parse_integer

from .. import errors
from ..acl.redis_secrets import LOCKS_OUT, hide_secrets, locks_out
from ..client.answers import ANSWERS
from ..client.backlog import kept_bytes
from ..client.pause import may_write
from ..client.redirection import with_own_id
from ..commands.command import Command, Kind
from ..commands.facts import InMulti
from ..flow import store_writes
from ..flow.load_first import load_first
from ..flow.routing import strict_s
from . import stored, transaction_fills, waits
from .transactions import Edit, QueuedSlot, abort

if TYPE_CHECKING:
    from .connection import PrivateConnection

EDIT_BYTES = 300  # for the edit of a result
_STAND_IN = pack([b"PING"])


def queue(private: PrivateConnection, command: Command, request: Request) -> None:
    """A command inside MULTI: Redis queues or refuses it; Terrace records its possible writes."""
    session, args = private.session, request[0]
    sub = args[1].upper() if len(args) > 1 else b""
    is_client = command.name == "CLIENT"
    becomes = command.in_multi
    if becomes is InMulti.BY_SUBCOMMAND:
        becomes = command.in_multi_of(args)
    if is_client and not command.is_handled(args):
        becomes = InMulti.QUEUED  # Redis returns the error
    if becomes is InMulti.REFUSED:
        name = f"CLIENT {sub.decode()}" if is_client else command.name
        abort(private, errors.not_in_multi(name))
        return
    if command.kind is Kind.REFUSED:
        abort(private, errors.REPLICATION_REFUSED)
        return
    transaction = private.transaction
    edit: Edit | None = None
    raw = b""  # sent to Redis instead
    if becomes is InMulti.ANSWERED:
        answer = ANSWERS[sub]
        edit, raw = lambda _: answer(session, request), _STAND_IN
    elif is_client:
        edit = partial(with_own_id, session)
    elif command.name == "CONFIG" and sub and locks_out(session.stack.l2, args):
        abort(private, LOCKS_OUT)
        return
    elif command.name == "CONFIG" and sub == b"GET":
        edit = hide_secrets
    elif waits.is_wait(request):
        edit = partial(waits.in_multi, session.wrote_at > 0)
    elif command.name == "SELECT" and len(args) == 2:
        edit = _select(private, args[1])
        transaction_fills.settle(private)
        transaction.selects = True
    elif command.name != "WATCH" and (
        load_first(session, command, request)
        or transaction_fills.queue_rows(private, command, request)
    ):
        return
    if _is_refused_by_store(private, command, request):
        return
    _note_effects(private, command, request, is_edited=edit is not None)
    if raw:
        request = (args, raw, 0, len(raw))
    private.forward(request, QueuedSlot(private, edit))


def _is_refused_by_store(private: PrivateConnection, command: Command, request: Request) -> bool:
    """Whether the command may not be queued because of keys of the store; else note those."""
    session, transaction, args = private.session, private.transaction, request[0]
    db = 0 if transaction.selects else session.db  # after SELECT it may be any
    durable = session.stack.durable(command.may_touch(args), db)
    if session.db and store_writes.reaches_in(session, command, args):
        abort(private, errors.STORE_FROM_AFAR)
        return True
    if durable and command.may_write:
        if refusal := stored.refusal(private, command, args, durable):
            abort(private, refusal)
            return True
        transaction_fills.queue_absence_check(private, durable)
        transaction.durable += durable
        if transaction.snapshot == BLIND:
            transaction.snapshot = session.snapshot
    elif durable and not transaction.selects and command.name != "WATCH":
        transaction.kept_bytes += kept_bytes(request)
        for key in durable:
            transaction.rows.stored.setdefault(key, session.snapshot)
    return False


def _note_effects(
    private: PrivateConnection, command: Command, request: Request, *, is_edited: bool
) -> None:
    """Record the steps of EXEC for this command; a command with an edited result writes no key."""
    transaction, args = private.transaction, request[0]
    if is_edited:
        transaction.kept_bytes += EDIT_BYTES
    if command.kind is Kind.WRITE:
        transaction.keys += command.keys_of(args)
        transaction.kept_bytes += kept_bytes(request)
    elif command.kind is Kind.FLUSH:
        transaction.flushes = True
    elif not is_edited and not command.reads:
        transaction.opaque = True
    if not is_edited and not command.reads:
        strictest_s = strict_s(private.session, command, args)
        transaction.strict_s = max(transaction.strict_s, strictest_s)
    if not transaction.is_held_by_pause:
        transaction.is_held_by_pause = may_write(command, args)


def _select(private: PrivateConnection, text: bytes) -> Edit:
    db = parse_integer(text)

    def follow(result: bytes) -> bytes:
        if result == OK and db is not None:
            private.session.set_db(db)
            private.upstream.pipe.db = db
        return result

    return follow
