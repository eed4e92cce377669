"""Opens connections to PostgreSQL, bounds their statements in time, and closes them.

Two deadlines guard a statement. The server's own `statement_timeout` ends a slow one.
`Deadline` covers a server that does not answer at all (stopped, or beyond a dead link): it
shuts the socket down. If the task were cancelled instead, psycopg would ask that same
silent server to cancel, and wait for it. A severed connection stays broken, so a late
reply can never be taken for the reply to a later query.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..options import L3Options
from ..tasks import TaskSet
from .pooler import require_session
from .session import Connection as Connection
from .session import backend_of, configure_session

CLOSE_TIMEOUT_S = 1.0
HEDGE_S = 0.5
CLOSING = "it is shutting down"

_POOLER_SAYS = {
    "unsupported startup parameter": (
        "a connection pooler refuses server settings in the connection string (such as options): "
        "remove them"
    ),
    "statement pooling mode": "set the pooler's pool_mode to transaction for this database",
}


class Deadline:
    """Shuts the connection's socket down if the block takes longer than the timeout."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self.expired = False

    def __enter__(self) -> Deadline:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(self._timeout_s, 0.0), self._expire)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self.expired and isinstance(error, psycopg.Error):
            raise TierUnavailable(
                L3_POSTGRES, f"no answer within {self._timeout_s:.3g} s"
            ) from None

    def _expire(self) -> None:
        self.expired = True
        sever(self._connection)


def sever(connection: Connection) -> None:
    """End a connection at once. A task that waits on it gets an OperationalError."""
    with contextlib.suppress(OSError, psycopg.Error):
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        with duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


def describe(error: BaseException, options: L3Options) -> str:
    """One line about a psycopg error, without the password and without the SQL."""
    if isinstance(error, TierUnavailable):
        return error.reason
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = primary or str(error).strip() or type(error).__name__
    line = text.splitlines()[0].strip()
    for dsn in (options.dsn, options.direct_dsn):
        with contextlib.suppress(psycopg.Error):
            if password := conninfo_to_dict(dsn).get("password"):
                line = line.replace(str(password), "***")
    remedies = (remedy for words, remedy in _POOLER_SAYS.items() if words in text)
    return "; ".join([line, *remedies])


def conninfo_of(options: L3Options, option: str) -> str:
    """The user's connection string, with defaults for what it does not set.

    The defaults concern this end only: a pooler would keep settings for the server.
    """
    try:
        given = conninfo_to_dict(getattr(options, option))
    except psycopg.Error:
        # libpq's message would quote the string, password included.
        reason = (
            f"l3.{option} is not a valid connection string; write postgresql://user@host:port/db"
        )
        raise TierUnavailable(L3_POSTGRES, reason) from None
    defaults = {
        "connect_timeout": str(max(2, math.ceil(options.connect_timeout_s))),
        "keepalives_idle": "10",
        "keepalives_interval": "3",
        "keepalives_count": "3",
    }
    settings: dict[str, Any] = {**defaults, **given}
    return make_conninfo(**settings)


def session_option(options: L3Options) -> str:
    """The name of the connection string that leads to an exclusive session."""
    return "direct_dsn" if options.direct_dsn else "dsn"


async def connect(options: L3Options, purpose: str) -> Connection:
    """A connection with an exclusive session, in autocommit mode. Raises TierUnavailable."""
    option = session_option(options)
    connection = await opened(options, option)
    try:
        with Deadline(connection, options.connect_timeout_s):
            backend = await backend_of(connection)
        if backend != connection.info.backend_pid:
            another = partial(_beside, connection, options, option)
            await require_session(connection, backend, f"l3.{option}", another)
        with Deadline(connection, options.connect_timeout_s):
            await configure_session(connection, {}, purpose)
    except psycopg.Error as error:
        await close(connection)
        raise TierUnavailable(L3_POSTGRES, describe(error, options)) from None
    except BaseException:
        await close(connection)
        raise
    return connection


@contextlib.asynccontextmanager
async def _beside(
    connection: Connection, options: L3Options, option: str
) -> AsyncIterator[Connection]:
    """One more connection. Both have to answer in time while the block runs."""
    other = await opened(options, option)
    timeout_s = options.connect_timeout_s
    try:
        with Deadline(connection, timeout_s), Deadline(other, timeout_s):
            yield other
    finally:
        await close(other)


async def opened(options: L3Options, option: str) -> Connection:
    """A new connection without any setup. Raises TierUnavailable."""
    conninfo = conninfo_of(options, option)
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            return await Connection.connect(conninfo, autocommit=True, prepare_threshold=None)
    except TimeoutError:
        reason = f"no connection within {options.connect_timeout_s:g} s"
        raise TierUnavailable(L3_POSTGRES, reason) from None
    except (psycopg.Error, OSError) as error:
        raise TierUnavailable(L3_POSTGRES, describe(error, options)) from None


async def connect_hedged(
    options: L3Options, purpose: str, tasks: TaskSet, patience_s: float = HEDGE_S
) -> Connection:
    """As `connect`, but a silent attempt does not delay the next one: its packets may be
    lost, and the network may work again by now. Raises TierUnavailable."""

    async def attempt() -> Connection | TierUnavailable:
        try:
            return await connect(options, purpose)
        except TierUnavailable as failure:
            return failure

    attempts: set[asyncio.Task[Connection | TierUnavailable]] = set()
    try:
        while True:
            attempts.add(tasks.start(f"connect {purpose}", attempt()))
            done, attempts = await asyncio.wait(
                attempts, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
            )
            ends = [task.result() for task in done]
            connections = [end for end in ends if not isinstance(end, TierUnavailable)]
            for spare in connections[1:]:
                await close(spare)
            if connections:
                return connections[0]
            for failure in ends:
                if isinstance(failure, TierUnavailable):
                    raise failure
    finally:
        for begun in attempts:
            if begun.cancel() or begun.cancelled():
                continue
            if not isinstance(late := begun.result(), TierUnavailable):
                await close(late)


async def close(connection: Connection) -> None:
    """Close without waiting for a query in flight."""
    sever(connection)
    with contextlib.suppress(psycopg.Error):
        await connection.close()


class Connector:
    """Opens connections with exclusive sessions and keeps the set of open ones, to end all."""

    def __init__(self, options: L3Options) -> None:
        self.options = options
        self._open: set[Connection] = set()
        self._tasks = TaskSet("l3.connector")
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<Connector {len(self._open)} open>"

    @contextlib.asynccontextmanager
    async def connected(self, purpose: str, *, hedged: bool = False) -> AsyncIterator[Connection]:
        """Raises TierUnavailable."""
        if self.is_closed:
            raise TierUnavailable(L3_POSTGRES, CLOSING)
        if hedged:
            connection = await connect_hedged(self.options, purpose, self._tasks)
        else:
            connection = await connect(self.options, purpose)
        self._open.add(connection)
        try:
            yield connection
        finally:
            self._open.discard(connection)
            await close(connection)

    async def close(self, timeout_s: float) -> None:
        """Sever all connections, and give tasks in the middle of a query time to notice.

        A task must not be cancelled before that: see the top of this file.
        """
        self.is_closed = True
        for connection in tuple(self._open):
            sever(connection)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while self._any_active() and loop.time() < end_s:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.005)
        await self._tasks.close()

    def _any_active(self) -> bool:
        statuses = (connection.info.transaction_status for connection in self._open)
        return TransactionStatus.ACTIVE in statuses
