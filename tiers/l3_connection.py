"""Connections to PostgreSQL: how they are opened, bounded in time, and never misused.

Two deadlines guard a statement. The server's own `statement_timeout` ends a slow one;
`Deadline` covers a server that does not answer at all (stopped, or beyond a dead
link) by shutting the socket down. Cancelling the task instead would make psycopg ask
that same silent server to cancel, and wait for it. A severed connection is broken for
good, so no late reply can ever be taken for that of a later query.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.string import ByteaBinaryLoader
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from .breaker import Breaker
from .errors import TierUnavailable
from .options import L3Options
from .tasks import TaskSet

log = logging.getLogger("terrace.l3")

NAME = "L3 (postgres)"
GRACE_S = 0.25  # the server's own timeout should win, since it says more
BREAKER_OPEN_S = 0.5
CLOSE_TIMEOUT_S = 1.0
CLOSING = "it is shutting down"

# Said by a server process that is about to end, on a connection not yet closed.
_BACKEND_ENDED = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown)

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]
T = TypeVar("T")

# Text forms must not depend on the role or the database, or two proxies would cache
# different bytes for one row.
_TEXT_FORMS = "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'iso_8601'"

# Load connections only fetch rows by their unique key. Statistics of a view are often
# missing or outdated right after a refresh, and a cached plan that scans would be kept:
# so the planner is told what is known beforehand, and plans once per statement.
_LOAD_PLANS = (
    "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET default_transaction_read_only = on"
)


class Deadline:
    """Shuts the connection's socket down when the block takes longer than this."""

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
            raise TierUnavailable(NAME, f"no answer within {self._timeout_s:.3g} s") from None

    def _expire(self) -> None:
        self.expired = True
        sever(self._connection)


def sever(connection: Connection) -> None:
    """End a connection at once, whoever waits on it: that wait fails with an OperationalError."""
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
    with contextlib.suppress(psycopg.Error):
        if password := conninfo_to_dict(options.dsn).get("password"):
            line = line.replace(str(password), "***")
    return line


def conninfo_of(options: L3Options, purpose: str) -> str:
    """The user's connection string, completed where the user said nothing."""
    try:
        given = conninfo_to_dict(options.dsn)
    except psycopg.Error:
        # libpq's message would quote the string, password included.
        reason = "l3.dsn is not a valid connection string; write postgresql://user@host:port/db"
        raise TierUnavailable(NAME, reason) from None
    defaults = {
        "application_name": f"terrace {purpose}",
        "connect_timeout": str(max(2, math.ceil(options.connect_timeout_s))),
        "keepalives_idle": "10",
        "keepalives_interval": "3",
        "keepalives_count": "3",
    }
    settings: dict[str, Any] = {**defaults, **given, "client_encoding": "UTF8"}
    return make_conninfo(**settings)


async def connect(options: L3Options, purpose: str) -> Connection:
    """A connection of one's own, in autocommit mode. Raises TierUnavailable."""
    conninfo = conninfo_of(options, purpose)
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            connection: Connection = await AsyncConnection.connect(conninfo, autocommit=True)
    except TimeoutError:
        reason = f"no connection within {options.connect_timeout_s:g} s"
        raise TierUnavailable(NAME, reason) from None
    except (psycopg.Error, OSError) as error:
        raise TierUnavailable(NAME, describe(error, options)) from None
    try:
        with Deadline(connection, options.connect_timeout_s):
            await _configure(connection)
    except BaseException:
        await close(connection)
        raise
    return connection


async def close(connection: Connection) -> None:
    """Close without waiting for a query in flight."""
    sever(connection)
    with contextlib.suppress(psycopg.Error):
        await connection.close()


class Connector:
    """Opens connections of one's own and knows which are open, so that all can be ended."""

    def __init__(self, options: L3Options) -> None:
        self.options = options
        self._open: set[Connection] = set()
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<Connector {len(self._open)} open>"

    @contextlib.asynccontextmanager
    async def connected(self, purpose: str) -> AsyncIterator[Connection]:
        """Raises TierUnavailable."""
        if self.is_closed:
            raise TierUnavailable(NAME, CLOSING)
        connection = await connect(self.options, purpose)
        self._open.add(connection)
        try:
            yield connection
        finally:
            self._open.discard(connection)
            await close(connection)

    async def close(self, timeout_s: float) -> None:
        """Sever all, and give the tasks in the middle of a query the time to notice.

        They must not be cancelled before: see the top of this file.
        """
        self.is_closed = True
        for connection in tuple(self._open):
            sever(connection)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while loop.time() < end_s and any(
            connection.info.transaction_status is TransactionStatus.ACTIVE
            for connection in self._open
        ):
            await asyncio.sleep(0.005)


async def _configure(connection: Connection) -> None:
    # Every value is selected as ::text in binary format, and wanted as bytes.
    connection.adapters.register_loader("text", ByteaBinaryLoader)
    await connection.execute(_TEXT_FORMS)


class LoadPool:
    """The pool of connections that load rows: bounded, with a deadline and a breaker."""

    def __init__(self, options: L3Options, clock: Callable[[], float]) -> None:
        self._options = options
        self._breaker = Breaker(clock, open_s=BREAKER_OPEN_S)
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._busy: set[Connection] = set()
        self._tasks = TaskSet("l3.pool")
        self._running: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LoadPool {len(self._busy)} busy, breaker {self._breaker.state}>"

    @property
    def breaker_state(self) -> str:
        return self._breaker.state

    def statistics(self) -> dict[str, int]:
        return dict(self._pool.get_stats()) if self._pool is not None else {}

    async def open(self) -> None:
        if self._pool is None:
            # Connections are opened on demand and given up on early: when to try again
            # is for the breaker to say, and for the link that watches the server.
            self._pool = AsyncConnectionPool(
                conninfo_of(self._options, "loads"),
                kwargs={"autocommit": True},
                min_size=0,
                max_size=self._options.pool_max,
                configure=self._configure_load,
                reconnect_timeout=1.0,
                open=False,
                name="terrace-l3",
            )
            await self._pool.open()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        for connection in tuple(self._busy):
            sever(connection)
        if pool is not None:
            await pool.close(timeout=CLOSE_TIMEOUT_S)
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=CLOSE_TIMEOUT_S)
        await self._tasks.close()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`await work(connection)` within the deadline.

        Raises TierUnavailable for trouble with the server and psycopg.Error for trouble
        with the statement. Must be repeatable: a connection that turns out to have died
        while idle is replaced, and the work done again on another.
        """
        # In a task that a cancelled caller leaves behind: see the top of this file.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self._tasks.start("run", self._run_into(future, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await future

    async def _run_into(
        self, future: asyncio.Future[T], work: Callable[[Connection], Awaitable[T]]
    ) -> None:
        try:
            result = await self._run(work)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if not self._breaker.admits():
            raise TierUnavailable(NAME, self._breaker.reason or "it is being probed")
        try:
            result = await self._attempt(work)
        except TierUnavailable as error:
            self._breaker.on_failure(error.reason)
            raise
        except psycopg.Error:
            self._breaker.on_success()  # the server is there: it answered
            raise
        except BaseException:
            self._breaker.on_failure("the load was abandoned")
            raise
        self._breaker.on_success()
        return result

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._options.deadline_s + GRACE_S
        reason = ""
        # After a restart of the server every idle connection may be dead.
        for _ in range(self._options.pool_max + 1):
            pool = self._pool
            if pool is None:
                raise TierUnavailable(NAME, CLOSING)
            try:
                connection = await pool.getconn(timeout=end_s - loop.time())
            except PoolTimeout:
                reason = f"no free connection within {self._options.deadline_s:g} s"
                raise TierUnavailable(NAME, reason) from None
            except PoolClosed:
                raise TierUnavailable(NAME, CLOSING) from None
            self._busy.add(connection)
            try:
                with Deadline(connection, end_s - loop.time()):
                    return await work(connection)
            except psycopg.errors.QueryCanceled:
                reason = f"no answer within {self._options.deadline_s:g} s"
                raise TierUnavailable(NAME, reason) from None
            except OperationalError as error:
                reason = describe(error, self._options)
                if not connection.closed and not isinstance(error, _BACKEND_ENDED):
                    raise TierUnavailable(NAME, reason) from None
                await close(connection)
            finally:
                self._busy.discard(connection)
                await pool.putconn(connection)
        raise TierUnavailable(NAME, reason)

    async def _configure_load(self, connection: Connection) -> None:
        timeout_ms = max(1, int(self._options.deadline_s * 1000))
        with Deadline(connection, self._options.connect_timeout_s):
            await _configure(connection)
            await connection.execute(f"SET statement_timeout = {timeout_ms}")
            await connection.execute(_LOAD_PLANS)
