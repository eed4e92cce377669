"""Commands that begin or end a state with a private connection, or need one for themselves.

MULTI EXEC DISCARD WATCH UNWATCH, (P|S)(UN)SUBSCRIBE, MONITOR; and what may block or is
unknown. The states are in `connection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import in_turns
from tiers.wire.resp import OK, Request, bulk, error, integer, null, push

from .. import errors
from ..client.slots import Slot
from ..commands.access import InMulti
from ..commands.command import Command
from ..flow import store_writes
from ..flow.load_first import load_first
from ..flow.routing import barrier, strict_s
from . import lending, waits
from .connection import MonitorSlot, PubSubSlot, acquire, doom
from .transactions import ExecSlot, abort, end_aborted

if TYPE_CHECKING:
    from ..client.session import Session

LEFT_AT_ONCE = 1000  # channels that a client leaves in one turn without being subscribed


def run_private(
    session: Session, command: Command, request: Request, now: float, db: int | None = None
) -> None:
    """One command alone on a private connection; the session waits for its reply. It runs in
    the client's database, or `db` (ANY_DB: whichever)."""
    if waits.is_wait(request) and (refusal := waits.refusal(session)):
        session.reply(refusal)
        return
    private = acquire(session, request, db)
    if private is None:
        return
    private.waits_alone = private.upstream.patient = True
    private.may_block = command.blocks  # whether an unknown command does cannot be known
    if waits.is_wait(request):
        private.may_block = True
        waits.forward(private, request)
    else:
        slot = barrier(session, command, private.upstream, [])
        slot.strict_s = strict_s(session, command, request[0])
        private.forward(request, slot, db=db)
    if private.upstream.ready:
        session.block_idle()


def dispatch_state(session: Session, command: Command, request: Request, now: float) -> None:
    """MULTI, EXEC, WATCH, SUBSCRIBE, MONITOR and their likes."""
    name, private = command.name, session.private
    in_multi = private is not None and private.in_multi
    if not command.accepts(len(request[0])):
        if private is not None and in_multi:
            # Redis has to see it, too: such a mistake ends its transaction.
            private.forward(request, ExecSlot(private) if name == "EXEC" else Slot(session))
            session.block_idle()
        else:
            session.reply(errors.EXEC_ARITY if name == "EXEC" else errors.wrong_arity(name))
        return
    if command.subscription:
        _subscribe(session, command, request)
    elif command.in_multi is InMulti.ENDS:
        if private is None or not in_multi:
            session.reply(error(f"ERR {name} without MULTI"))
            return
        if name == "EXEC" and private.transaction.aborted:
            end_aborted(private, errors.EXEC_ABORTED)
        elif name == "EXEC" and lending.look_again(private, request):
            return
        elif name == "EXEC":
            lending.settle(private)
            store_writes.send_capture(private)
            private.forward(request, ExecSlot(private))
        else:
            private.in_multi = private.watching = False
            private.forward(request, Slot(session))
        session.block_idle()
    elif name == "UNWATCH" and not in_multi:
        session.watch_failed = False
        if private is None:
            session.reply(OK)
            return
        private.watching = False
        private.forward(request, Slot(session))
        session.block_idle()
    else:
        _begin(session, command, request)


def _begin(session: Session, command: Command, request: Request) -> None:
    if command.name == "WATCH" and load_first(session, command, request, views=True):
        return  # a later fault-in would itself look like a change
    if command.name == "MULTI" and session.watch_failed:
        doom(session)
        return
    private = acquire(session, request)
    if private is None:
        return
    if command.name == "MONITOR":
        private.forward(request, MonitorSlot(private))
        return
    if command.name == "MULTI":
        if not private.in_multi:
            private.begin_transaction()
    elif command.name == "WATCH":
        private.watching = True
    private.forward(request, Slot(session))


def _left(session: Session, name: str, channel: bytes) -> bytes:
    """The confirmation for a client that was subscribed to nothing."""
    proto = session.proto
    named = bulk(channel) if channel else null(proto)
    return push([bulk(name.lower()), named, integer(0)], proto)


async def _leave_many(session: Session, name: str, channels: list[bytes]) -> None:
    frames = [_left(session, name, channel) async for channel in in_turns(channels)]
    session.reply(b"".join(frames))


def _subscribe(session: Session, command: Command, request: Request) -> None:
    args, name = request[0], command.name
    leaving = "UNSUB" in name
    if leaving and session.private is None:
        if len(args) > LEFT_AT_ONCE:
            session.terrace.run_task(session, _leave_many(session, name, args[1:]))
        else:
            session.reply(b"".join(_left(session, name, c) for c in args[1:] or [b""]))
        return
    private = acquire(session, request)
    if private is None:
        return
    if private.in_multi:
        abort(private, errors.not_in_multi(name))
        return
    if leaving and len(args) == 1 and session.in_flight:
        session.block_idle(request)  # how many will be confirmed is not known before
        return
    if (
        private.upstream.proto == 2
        and session.in_flight
        and not (private.subscribed or private.joining)
    ):
        session.block_idle(request)  # replies still due must not be taken for messages
        return
    names = private.subscriptions[command.subscription]
    expected = len(args) - 1 or max(1, len(names))
    private.forward(request, PubSubSlot(private, expected), expected)
    if leaving:
        session.block_idle()  # what follows may run outside the subscribed state
