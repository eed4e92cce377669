"""Dispatches commands that start or end a state of the private connection, or run in one.

MULTI EXEC DISCARD WATCH UNWATCH, (P|S)(UN)SUBSCRIBE and MONITOR are `state_command`s. In the
states that take commands over (`states`) the others go through `taken_over`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.wire.resp import OK, Request, error

from .. import errors
from ..client.slots import Slot
from ..commands.command import Command
from ..commands.facts import InMulti
from . import monitoring, pubsub, transactions
from .leasing import acquire, held, start_failed_transaction
from .queueing import queue
from .states import Event

if TYPE_CHECKING:
    from ..client.session import Session
    from .connection import PrivateConnection


def state_command(session: Session, command: Command, request: Request, now: float) -> None:
    private = held(session)
    if not command.accepts(len(request[0])):
        if private is not None and private.in_multi:
            transactions.pass_mistake(private, command, request)
        else:
            is_exec = command.name == "EXEC"
            session.reply(errors.EXEC_ARITY if is_exec else errors.wrong_arity(command.name))
    elif command.subscription:
        _subscription(session, private, command, request)
    elif command.in_multi is InMulti.ENDS:
        if private is not None and private.in_multi:
            transactions.end(private, command, request)
        else:
            session.reply(error(f"ERR {command.name} without MULTI"))
    elif command.name == "UNWATCH" and not session.in_multi:
        session.watch_failed = False
        if private is None:
            session.reply(OK)
        else:
            transactions.unwatch(private, request)
    else:
        _begin(session, command, request)


def _subscription(
    session: Session, private: PrivateConnection | None, command: Command, request: Request
) -> None:
    if private is None and pubsub.is_leaving(command):
        pubsub.leave_nothing(session, command, request)
        return
    private = acquire(session, request)
    if private is not None:
        pubsub.subscribe(private, command, request)


def _begin(session: Session, command: Command, request: Request) -> None:
    """MULTI, WATCH, MONITOR."""
    if command.name == "WATCH" and transactions.load_watched(session, command, request):
        return
    if command.name == "MULTI" and session.watch_failed:
        start_failed_transaction(session)
        return
    private = acquire(session, request)
    if private is None:
        return
    if command.name == "MONITOR":
        monitoring.monitor(private, request)
        return
    if command.name == "WATCH":
        private.move(Event.WATCH)
    elif command.name == "MULTI" and not private.in_multi:
        private.begin_transaction()
    private.forward(request, Slot(session))


def taken_over(session: Session, command: Command, request: Request, now: float) -> None:
    """Run a command for which `takes_over` was true."""
    private = held(session)
    assert private is not None
    if private.lost:
        _on_lost(private, command)
    elif command.subscription or (private.in_multi and command.in_multi is InMulti.ENDS):
        state_command(session, command, request, now)
    elif private.in_multi:
        queue(private, command, request)
    else:
        private.forward(request, Slot(session))


def _on_lost(private: PrivateConnection, command: Command) -> None:
    """The state is lost; the command that ends it returns the error."""
    session = private.session
    ends_watch = command.name == "UNWATCH" and not private.in_multi
    if command.in_multi is InMulti.ENDS or ends_watch:
        private.move(Event.MULTI_ENDS)
        private.maybe_release()
        aborted = errors.exec_refused(private.refusal) if private.refusal else errors.EXEC_LOST
        session.reply(aborted if command.name == "EXEC" else OK)
    elif command.name == "MULTI" and not private.in_multi:
        # As in `start_failed_transaction`: commands that are pipelined after it must not run.
        private.move(Event.MULTI)
        session.reply(OK)
    else:
        session.reply(private.refusal or errors.PRIVATE_LOST)
