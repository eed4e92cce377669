"""The connections that load rows: a bounded pool, with a deadline and a breaker.

Connections are opened on demand and given up on early: when to try again is for the
breaker to say, and for the link (`l3_postgres`) that watches the server. A query that
the server itself ended at its deadline is a soft failure, a silent or unreachable
server a hard one. A load runs
in a task that a cancelled caller leaves behind, since psycopg would answer the
cancellation by waiting for the server (`l3_connection` says more).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import OperationalError
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from .admission import Admission
from .breaker import Breaker, BreakerStatistics, State
from .errors import TierUnavailable
from .l3_connection import (
    CLOSE_TIMEOUT_S,
    CLOSING,
    NAME,
    Connection,
    Deadline,
    close,
    configure,
    conninfo_of,
    describe,
    sever,
)
from .options import L3Options
from .tasks import TaskSet

log = logging.getLogger("terrace.l3")

GRACE_S = 0.25  # the server's own timeout should win, since it says more
PROBE_PAUSES_S = (0.1, 0.5)

T = TypeVar("T")

# Said by a server process that is about to end, on a connection not yet closed.
_BACKEND_ENDED = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown)

# Load connections only fetch rows by their unique key. Statistics of a view are often
# missing or outdated right after a refresh, and a cached plan that scans would be kept:
# so the planner is told what is known beforehand, and plans once per statement.
_LOAD_PLANS = (
    "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET default_transaction_read_only = on"
)


class LoadPool:
    """The pool of connections that load rows: bounded, with a deadline and a breaker.

    `session` is the SQL that prepares a connection for its work, `purpose` names it.
    """

    def __init__(
        self,
        options: L3Options,
        clock: Callable[[], float],
        *,
        session: LiteralString = _LOAD_PLANS,
        purpose: str = "loads",
    ) -> None:
        self._options = options
        self._session = session
        self._purpose = purpose
        self._clock = clock
        self._breaker = Breaker(
            clock,
            pause_min_s=PROBE_PAUSES_S[0],
            pause_max_s=PROBE_PAUSES_S[1],
            on_transition=self._on_transition,
        )
        self.admission = Admission(options.pool_max, clock)
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._busy: set[Connection] = set()
        self._tasks = TaskSet("l3.pool")
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<LoadPool {len(self._busy)} busy, {self._breaker!r}>"

    @property
    def breaker(self) -> BreakerStatistics:
        return self._breaker.statistics()

    def _on_transition(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            log.info("%s answers %s again", NAME, self._purpose)
        elif old is State.CLOSED:
            log.warning("%s: %s fail fast: %s", NAME, self._purpose, self._breaker.reason)

    def statistics(self) -> dict[str, int]:
        return dict(self._pool.get_stats()) if self._pool is not None else {}

    async def open(self) -> None:
        if self._pool is None:
            self._pool = self._made()
            await self._pool.open()

    def _made(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            conninfo_of(self._options, "loads"),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=self._options.pool_max,
            configure=self._configure_load,
            reconnect_timeout=1.0,
            open=False,
            name="terrace-l3",
        )

    async def renew(self) -> None:
        """The server is back: do not wait for connections that were begun before."""
        former = self._pool
        if former is None:
            return
        fresh = self._made()
        await fresh.open()
        self._pool = fresh
        self._tasks.start("close former", former.close(timeout=CLOSE_TIMEOUT_S))
        self._breaker.on_success()

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
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        task = self._tasks.start("run", self._run_into(future, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await future

    def fail_waiting(self, reason: str) -> None:
        """The server is known to be gone: nobody needs to wait for the deadline."""
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(TierUnavailable(NAME, reason))

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
        began = self._clock()
        failed = True
        try:
            result = await self._attempt(work)
            failed = False
        except TierUnavailable as error:
            if error.reason == CLOSING:
                pass
            elif error.timed_out:
                self._breaker.on_soft_failure(error.reason)
            else:
                self._breaker.on_hard_failure(error.reason)
            raise
        except psycopg.Error:
            failed = False
            self._breaker.on_success()  # the server is there: it answered
            raise
        except BaseException:
            self._breaker.on_soft_failure("the load was abandoned")
            raise
        finally:
            self.admission.observe(self._clock() - began, failed=failed)
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
                raise TierUnavailable(NAME, reason, timed_out=True) from None
            except PoolClosed:
                if self._pool is pool:
                    raise TierUnavailable(NAME, CLOSING) from None
                continue  # it was renewed
            self._busy.add(connection)
            try:
                with Deadline(connection, end_s - loop.time()):
                    return await work(connection)
            except psycopg.errors.QueryCanceled:
                reason = f"no answer within {self._options.deadline_s:g} s"
                raise TierUnavailable(NAME, reason, timed_out=True) from None
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
            await configure(connection)
            await connection.execute(f"SET statement_timeout = {timeout_ms}")
            await connection.execute(self._session)
