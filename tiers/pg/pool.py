"""The connections that load rows: a bounded pool, with a deadline and a breaker.

The pool opens connections on demand and gives up on them early: the breaker, and the link
(`l3/link.py`) that watches the server, decide when to try again. Each view has a lane of
its own (`lane.py`). The answer of the server to a statement, even a timeout, concerns the
lane only: a server that answers works. Only a silent or unreachable server changes the
breaker of the pool. A load runs in a task that outlives a cancelled caller, since psycopg
would wait for the server when it is cancelled (see `connection.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import OperationalError
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..guard.admission import Admission
from ..guard.breaker import Breaker, BreakerStatistics, State
from ..options import L3Options
from ..tasks import TaskSet
from .connection import (
    CLOSE_TIMEOUT_S,
    CLOSING,
    Connection,
    Deadline,
    close,
    conninfo_of,
    describe,
    sever,
)
from .lane import Crowded, Lane, StatementTimedOut
from .session import LOADS, Settings, configure, short_lock_timeout

log = logging.getLogger("terrace.l3")

GRACE_S = 0.25  # lets the server's own timeout come first: its error says more
PROBE_PAUSES_S = (0.1, 0.5)

T = TypeVar("T")

# Errors of a server process that is about to end, on a connection that is still open.
_BACKEND_ENDED = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown)

# Errors that end a statement of a locked or slow view.
_TIMED_OUT = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
_ONE_PROBE_IN = 4  # one of so many connections may try views that did not answer


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    size: int
    idle: int
    waiting: int  # for a connection


class LoadPool:
    """The pool of connections that load rows: bounded, with a deadline and a breaker.

    `settings` prepare a connection for its work; `purpose` names that work.
    """

    def __init__(
        self,
        options: L3Options,
        clock: Callable[[], float],
        *,
        settings: Settings = LOADS,
        purpose: str = "loads",
    ) -> None:
        self._options = options
        self._settings = settings
        self._purpose = purpose
        self._clock = clock
        self._breaker = Breaker(
            clock,
            pause_min_s=PROBE_PAUSES_S[0],
            pause_max_s=PROBE_PAUSES_S[1],
            on_transition=self._on_transition,
        )
        self._gate = Admission(options.pool_max, clock)
        self._lanes: dict[str, Lane] = {}
        self._probed: set[Lane] = set()  # lanes with a probe under way
        self._is_pooled = False
        self._trouble = ""  # why the last connection failed to get ready
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._busy: set[Connection] = set()
        self._tasks = TaskSet("l3.pool")
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<LoadPool {len(self._busy)} busy, {self._breaker!r}>"

    def lane(self, name: str, *, is_only: bool = False) -> Lane:
        """The lane of a view, created on first use."""
        lane = self._lanes.get(name)
        if lane is None:
            most = self._options.pool_max
            share = most if is_only else max(1, most // 2)
            lane = Lane(name, self._gate, share, self._options.deadline_s, self._clock)
            self._lanes[name] = lane
        return lane

    @property
    def breaker(self) -> BreakerStatistics:
        return self._breaker.statistics()

    def _on_transition(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            log.info("%s answers %s again", L3_POSTGRES, self._purpose)
        elif old is State.CLOSED:
            log.warning("%s: %s fail fast: %s", L3_POSTGRES, self._purpose, self._breaker.reason)

    def statistics(self) -> PoolStatistics:
        found = self._pool.get_stats() if self._pool is not None else {}
        return PoolStatistics(
            size=found.get("pool_size", 0),
            idle=found.get("pool_available", 0),
            waiting=found.get("requests_waiting", 0),
        )

    async def open(self) -> None:
        if self._pool is None:
            self._pool = self._made()
            await self._pool.open()

    def _made(self) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            conninfo_of(self._options, "dsn"),
            connection_class=Connection,
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=self._options.pool_max,
            configure=self._configure_load,
            reconnect_timeout=1.0,
            open=False,
            name="terrace-l3",
        )

    async def renew(self) -> None:
        """The server is back: replace the pool, whose attempts began before."""
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

    async def run(self, work: Callable[[Connection], Awaitable[T]], lane: Lane) -> T:
        """`await work(connection)` within the deadline.

        Raises TierUnavailable if the server fails or the lane does not answer in time, and
        psycopg.Error if the statement fails otherwise. `work` must be repeatable: if a
        connection has died while idle, it runs again on another one.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        task = self._tasks.start("run", self._run_into(future, work, lane))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await future

    def fail_waiting(self, reason: str) -> None:
        """The server is gone: fail all waiting loads before their deadline."""
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(TierUnavailable(L3_POSTGRES, reason))

    async def _run_into(
        self, future: asyncio.Future[T], work: Callable[[Connection], Awaitable[T]], lane: Lane
    ) -> None:
        try:
            result = await self._run(work, lane)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    async def _run(self, work: Callable[[Connection], Awaitable[T]], lane: Lane) -> T:
        is_probe = self._admit(lane)
        if is_probe:
            self._probed.add(lane)
            work = _probing(work)
        began = self._clock()
        failed = True
        try:
            result = await self._attempt(work, lane)
            failed = False
        except Crowded:
            raise
        except StatementTimedOut as error:
            self._breaker.on_success()
            lane.breaker.on_soft_failure(error.reason)
            raise
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
            self._breaker.on_success()  # the server works: it answered
            lane.breaker.on_success()
            raise
        except BaseException:
            self._breaker.on_soft_failure("the load was abandoned")
            raise
        finally:
            if is_probe:
                self._probed.discard(lane)
            lane.admission.observe(self._clock() - began, failed=failed)
        self._breaker.on_success()
        lane.breaker.on_success()
        return result

    def _admit(self, lane: Lane) -> bool:
        """Whether this load probes a lane that did not answer. Raises TierUnavailable."""
        is_probe = not lane.breaker.is_closed
        most = max(1, self._options.pool_max // _ONE_PROBE_IN)
        if is_probe and (lane.breaker.wait_s() > 0 or len(self._probed) >= most):
            raise Crowded(L3_POSTGRES, lane.breaker.reason)
        if not self._breaker.admits():
            raise TierUnavailable(L3_POSTGRES, self._breaker.reason or "it is being probed")
        lane.breaker.admits()
        return is_probe

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]], lane: Lane) -> T:
        end_s = asyncio.get_running_loop().time() + self._options.deadline_s + GRACE_S
        async with lane.slot(self._options.deadline_s):
            return await self._within(end_s, work, lane)

    async def _within(
        self, end_s: float, work: Callable[[Connection], Awaitable[T]], lane: Lane
    ) -> T:
        loop = asyncio.get_running_loop()
        reason = ""
        # After a restart of the server every idle connection may be dead.
        for _ in range(self._options.pool_max + 1):
            pool = self._pool
            if pool is None:
                raise TierUnavailable(L3_POSTGRES, CLOSING)
            try:
                connection = await pool.getconn(timeout=end_s - loop.time())
            except PoolTimeout:
                raise self._no_connection() from None
            except PoolClosed:
                if self._pool is pool:
                    raise TierUnavailable(L3_POSTGRES, CLOSING) from None
                continue  # it was renewed
            self._busy.add(connection)
            try:
                with Deadline(connection, end_s - loop.time()):
                    return await work(connection)
            except _TIMED_OUT:
                reason = f"{lane.name}: no answer within {self._options.deadline_s:g} s"
                raise StatementTimedOut(L3_POSTGRES, reason, timed_out=True) from None
            except OperationalError as error:
                if not connection.closed and not isinstance(error, _BACKEND_ENDED):
                    raise  # the server continues to run
                reason = describe(error, self._options)
                await close(connection)
            finally:
                self._busy.discard(connection)
                await pool.putconn(connection)
        raise TierUnavailable(L3_POSTGRES, reason)

    def _no_connection(self) -> TierUnavailable:
        reason = self._trouble or f"no free connection within {self._options.deadline_s:g} s"
        kind = Crowded if self._busy else TierUnavailable
        return kind(L3_POSTGRES, reason, timed_out=True)

    async def _configure_load(self, connection: Connection) -> None:
        deadline_s = self._options.deadline_s
        try:
            with Deadline(connection, self._options.connect_timeout_s):
                await configure(connection, self._settings, "loads", timeout_s=deadline_s)
        except TierUnavailable as failure:
            self._trouble = failure.reason
            raise
        self._trouble = ""
        if connection.scope and not self._is_pooled:
            self._is_pooled = True
            log.info("%s: %s go through a connection pooler", L3_POSTGRES, self._purpose)


def _probing(work: Callable[[Connection], Awaitable[T]]) -> Callable[[Connection], Awaitable[T]]:
    """Make `work` fail at once on a view that is still locked, so that it delays no other view."""

    async def probe(connection: Connection) -> T:
        async with short_lock_timeout(connection):
            return await work(connection)

    return probe
