"""Leases private connections to sessions, and answers those that get none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import ServerError, TierUnavailable
from tiers.proxy_door import NoPlace, Upstream
from tiers.wire.resp import OK, Request, error

from .. import errors
from .connection import PrivateConnection
from .states import Event

if TYPE_CHECKING:
    from ..client.session import Session


def held(session: Session) -> PrivateConnection | None:
    """The session's private connection, with its type in this room."""
    private = session.private
    assert private is None or isinstance(private, PrivateConnection)
    return private


def acquire(session: Session, request: Request, db: int | None = None) -> PrivateConnection | None:
    """The session's private connection, in its database or `db`.

    None if the session was blocked until it has one.
    """
    if session.private is not None:
        return held(session)
    if session.in_flight:
        session.block_idle(request)
        return None
    db = session.db if db is None else db
    upstream = session.stack.l2.private.lease_nowait(session.proto, db)
    if upstream is None:
        session.terrace.run_task(session, _connect(session, request, db))
        return None
    return _lease(session, upstream)


def _lease(session: Session, upstream: Upstream) -> PrivateConnection:
    private = session.private = PrivateConnection(session, upstream)
    return private


async def _connect(session: Session, request: Request, db: int) -> None:
    pool = session.stack.l2.private
    session.queued = True
    session.wake()  # its input may have ended meanwhile
    try:
        upstream = await pool.turn(session.proto, db)
        session.queued = False
        upstream = await pool.open(upstream, session.proto, db)
    except (TierUnavailable, ServerError) as failure:
        session.queued = False
        if isinstance(failure, ServerError):  # Redis refuses the database
            reply = error(str(failure))
        else:
            reply = errors.tier_failed(failure)
            if not isinstance(failure, NoPlace):
                session.l2_failed(reply)
        name = request[0][0].upper()
        if name == b"MULTI":
            start_failed_transaction(session, reply)
            return
        session.watch_failed = session.watch_failed or name == b"WATCH"
        session.reply(reply)
        return
    private = _lease(session, upstream)
    private.opened_for = request
    private.move(Event.PUT_OFF)
    session.put_back(request)


def start_failed_transaction(session: Session, refusal: bytes = b"") -> None:
    """Start a transaction that must fail: +OK as usual, then errors, then EXECABORT.

    The errors are `refusal`, as from Redis, or report that a connection was lost. After an
    error for MULTI itself, the commands that are pipelined after it would run one by one.
    """
    if session.private is not None:
        if session.private.streams:
            session.on_close_request("its transaction cannot be separated from its stream")
            return
        session.private.abandon()
    private = _lease(session, Upstream(session.clock))
    private.move(Event.LOST)
    private.begin_transaction()
    private.refusal = refusal
    session.watch_failed = False
    session.reply(OK)
