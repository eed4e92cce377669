"""Commands that begin or end a state with a private connection, or need one for themselves.

MULTI EXEC DISCARD WATCH UNWATCH, (P|S)(UN)SUBSCRIBE, MONITOR; and what may block or is
unknown. The states are in `pinned`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import in_turns
from tiers.wire.resp import OK, Request, bulk, error, integer, null, push

from .. import errors
from ..client.slots import Slot
from ..commands.command import Command
from ..flow import store_writes
from ..flow.load_first import load_first
from ..flow.routing import barrier, strict_s
from . import lending, waits
from .pinned import SUBSCRIPTIONS, MonitorSlot, PubSubSlot, acquire, doom
from .transactions import ExecSlot, abort, end_aborted

if TYPE_CHECKING:
    from ..client.session import Session

# Those that wait for what other clients do; whether an unknown command does cannot be known.
_BLOCKING = frozenset(
    ["BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN"]
)


LEFT_AT_ONCE = 1000  # channels that a client leaves in one turn without being subscribed


def run_private(
    session: Session, command: Command, request: Request, now: float, db: int | None = None
) -> None:
    """One command alone on a private connection; the session waits for its reply. It runs in
    the client's database, or `db` (ANY_DB: whichever)."""
    if waits.is_wait(request) and (refusal := waits.refusal(session)):
        session.reply(refusal)
        return
    pin = acquire(session, request, db)
    if pin is None:
        return
    pin.waits_alone = pin.upstream.patient = True
    pin.may_block = command.may_block or command.name in _BLOCKING
    if waits.is_wait(request):
        pin.may_block = True
        waits.forward(pin, request)
    else:
        slot = barrier(session, command, pin.upstream, [])
        slot.strict_s = strict_s(session, command, request[0])
        pin.forward(request, slot, db=db)
    if pin.upstream.ready:
        session.block_idle()


def dispatch_pin(session: Session, command: Command, request: Request, now: float) -> None:
    """MULTI, EXEC, WATCH, SUBSCRIBE, MONITOR and their likes."""
    name, pin = command.name, session.pin
    in_multi = pin is not None and pin.in_multi
    if not command.accepts(len(request[0])):
        if pin is not None and in_multi:
            # Redis has to see it, too: such a mistake ends its transaction.
            pin.forward(request, ExecSlot(pin) if name == "EXEC" else Slot(session))
            session.block_idle()
        else:
            session.reply(errors.EXEC_ARITY if name == "EXEC" else errors.wrong_arity(name))
        return
    if name in SUBSCRIPTIONS:
        _subscribe(session, name, request)
    elif name in ("EXEC", "DISCARD"):
        if pin is None or not in_multi:
            session.reply(error(f"ERR {name} without MULTI"))
            return
        if name == "EXEC" and pin.transaction.aborted:
            end_aborted(pin, errors.EXEC_ABORTED)
        elif name == "EXEC" and lending.look_again(pin, request):
            return
        elif name == "EXEC":
            lending.settle(pin)
            store_writes.send_capture(pin)
            pin.forward(request, ExecSlot(pin))
        else:
            pin.in_multi = pin.watching = False
            pin.forward(request, Slot(session))
        session.block_idle()
    elif name == "UNWATCH" and not in_multi:
        session.watch_failed = False
        if pin is None:
            session.reply(OK)
            return
        pin.watching = False
        pin.forward(request, Slot(session))
        session.block_idle()
    else:
        _begin(session, command, request)


def _begin(session: Session, command: Command, request: Request) -> None:
    if command.name == "WATCH" and load_first(session, command, request, views=True):
        return  # a later fault-in would itself look like a change
    if command.name == "MULTI" and session.watch_failed:
        doom(session)
        return
    pin = acquire(session, request)
    if pin is None:
        return
    if command.name == "MONITOR":
        pin.forward(request, MonitorSlot(pin))
        return
    if command.name == "MULTI":
        if not pin.in_multi:
            pin.begin_transaction()
    elif command.name == "WATCH":
        pin.watching = True
    pin.forward(request, Slot(session))


def _left(session: Session, name: str, channel: bytes) -> bytes:
    """The confirmation for a client that was subscribed to nothing."""
    proto = session.proto
    named = bulk(channel) if channel else null(proto)
    return push([bulk(name.lower()), named, integer(0)], proto)


async def _leave_many(session: Session, name: str, channels: list[bytes]) -> None:
    frames = [_left(session, name, channel) async for channel in in_turns(channels)]
    session.reply(b"".join(frames))


def _subscribe(session: Session, name: str, request: Request) -> None:
    args = request[0]
    leaving = "UNSUB" in name
    if leaving and session.pin is None:
        if len(args) > LEFT_AT_ONCE:
            session.terrace.run_task(session, _leave_many(session, name, args[1:]))
        else:
            session.reply(b"".join(_left(session, name, c) for c in args[1:] or [b""]))
        return
    pin = acquire(session, request)
    if pin is None:
        return
    if pin.in_multi:
        abort(pin, errors.not_in_multi(name))
        return
    if leaving and len(args) == 1 and session.in_flight:
        session.block_idle(request)  # how many will be confirmed is not known before
        return
    if pin.upstream.proto == 2 and session.in_flight and not (pin.subscribed or pin.joining):
        session.block_idle(request)  # replies still due must not be taken for messages
        return
    names = pin.subscriptions[SUBSCRIPTIONS[name]]
    expected = len(args) - 1 or max(1, len(names))
    pin.forward(request, PubSubSlot(pin, expected), expected)
    if leaving:
        session.block_idle()  # what follows may run outside the subscribed state
