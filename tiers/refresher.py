"""The one refresher of a fleet: who it is, when it refreshes, and telling Redis.

Every proxy runs a `Refresher`; the one whose connection holds the advisory lock leads.
Scheduled refreshes run on that very connection, so a refresh cannot outlive the lock:
when the connection dies, the server aborts the refresh and gives the lock to another.

A refresh is published to Redis after its commit and only then marked as applied. The
leader publishes what anybody left unapplied before it refreshes again. If Redis cannot
be told, it resigns: perhaps another proxy can reach it.

A key pushed by a user's trigger ("key ..." notices) reaches every proxy, but only the
leader removes it from Redis. It is not in the outbox: between two leaders, at most some
seconds after one died, nobody removes it, and the copy in Redis lives until its ttl.

All proxies on one schema are taken to have the same mappings.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import psycopg

from .errors import MappingProblem, TierUnavailable
from .l3_connection import NAME, Connection, Connector, Deadline, describe
from .l3_rows import BoundView
from .refresh import RefreshResult, ViewRefresh
from .refresh_log import Change, RefreshLog
from .views import ViewMapping

log = logging.getLogger("terrace.refresh")

Publish: TypeAlias = Callable[[ViewMapping, int, list[bytes] | None], Awaitable[None]]

CAMPAIGN_INTERVAL_S = 1.5  # a dead leader is replaced within about two of these
HEARTBEAT_S = 2.0  # how often the leader looks for rows that others left unapplied
HEARTBEAT_DEADLINE_S = 5.0
TRIM_INTERVAL_S = 60.0
BACKOFF_S = (0.25, 4.0)
INTERVAL_JITTER = 0.1
MAX_PUSHED_KEYS = 10_000  # waiting to be removed from Redis; above it, all keys of their views


class Schedule:
    """When each view is due next. No IO; time and chance are parameters."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._due_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Schedule {self._due_at}>"

    def plan(self, view: str, interval_s: float, age_s: float = 0.0) -> None:
        """Due one interval after its last refresh, `age_s` ago.

        Jitter only ever shortens the wait: `refresh` is then the most time between two.
        """
        wait_s = interval_s * (1.0 - INTERVAL_JITTER * self._chance()) - age_s
        self._due_at[view] = self._clock() + max(0.0, wait_s)

    def is_planned(self, view: str) -> bool:
        return view in self._due_at

    def next_due(self) -> str | None:
        """The view that has been due for longest, if any is."""
        view = min(self._due_at, key=self._due_at.__getitem__, default=None)
        return view if view is not None and self._due_at[view] <= self._clock() else None

    def wait_s(self, at_most_s: float) -> float:
        """How long until a view is due."""
        earliest = min(self._due_at.values(), default=self._clock() + at_most_s)
        return max(0.0, min(at_most_s, earliest - self._clock()))


class Refresher:
    """Campaigns for the lock, refreshes on schedule while it leads, and on demand always."""

    def __init__(
        self,
        connector: Connector,
        refresh_log: RefreshLog,
        views: Callable[[], Mapping[str, BoundView]],
        publish: Publish,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.is_leader = False
        self.refreshes = 0
        self.failures = 0
        self._connector = connector
        self._options = connector.options
        self._log = refresh_log
        self._views = views
        self._publish = publish
        self._clock = clock
        self._chance = chance
        self._wake = asyncio.Event()
        self._pushed: dict[str, tuple[ViewMapping, int, set[bytes] | None]] = {}
        self._trimmed_at = clock()
        self._warned_of_null: set[str] = set()
        self._last_trouble = ""

    def __repr__(self) -> str:
        return f"<Refresher {'leading' if self.is_leader else 'standing by'}>"

    async def run(self) -> None:
        """Campaign and lead for ever; survives the loss of PostgreSQL and of Redis."""
        backoff_s = BACKOFF_S[0]
        while True:
            if await self._serve_term():
                backoff_s = BACKOFF_S[0]
            await asyncio.sleep(backoff_s * (0.5 + self._chance()))
            backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    async def refresh(self, view: BoundView) -> RefreshResult:
        """Refresh now, leader or not. Raises TierUnavailable or MappingProblem.

        When Redis cannot be told, the result says so and the leader will tell it later.
        """
        async with self._connector.connected("refresh") as connection:
            result = await self._refresh(connection, view)
            try:
                await self._publish_result(connection, view.mapping, result)
            except TierUnavailable as error:
                log.warning("view %s: refreshed, but %s; will be told later", result.view, error)
                return RefreshResult(
                    result.view, result.epoch, result.changed, result.duration_s, published=False
                )
        return result

    def push(self, mapping: ViewMapping, epoch: int, key: bytes) -> None:
        """A key to be removed from Redis, if this is the leader."""
        if not self.is_leader:
            return
        _, _, keys = self._pushed.get(mapping.name, (mapping, epoch, set()))
        if keys is not None:
            keys.add(key)
            if len(keys) > MAX_PUSHED_KEYS:
                keys = None
        self._pushed[mapping.name] = (mapping, epoch, keys)
        self._wake.set()

    def wake(self) -> None:
        """Look at the views again: one has been bound that was not before."""
        self._wake.set()

    async def _serve_term(self) -> bool:
        """One connection: campaign, then lead until something fails. True if it ever led."""
        led = False
        try:
            async with self._connector.connected("refresher") as connection:
                await self._campaign(connection)
                self.is_leader = led = True
                log.info("this proxy refreshes the views from now on")
                await self._lead(connection)
        except (TierUnavailable, psycopg.Error) as error:
            self._report(describe(error, self._options))
        except Exception:
            log.exception("the refresher failed and starts again")
        finally:
            self.is_leader = False
            self._pushed.clear()
        return led

    def _report(self, trouble: str) -> None:
        """Once per kind of trouble: it is met again at every attempt."""
        if trouble != self._last_trouble and not self._connector.is_closed:
            log.warning("the refresher stands still: %s", trouble)
            self._last_trouble = trouble

    async def _campaign(self, connection: Connection) -> None:
        query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
        name = f"terrace refresher {self._options.schema_name}"
        while True:
            with Deadline(connection, HEARTBEAT_DEADLINE_S):
                row = await (await connection.execute(query, (name,))).fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(CAMPAIGN_INTERVAL_S * (0.5 + self._chance()))

    async def _lead(self, connection: Connection) -> None:
        schedule = Schedule(self._clock, self._chance)
        while True:
            self._wake.clear()
            views = self._views()
            await self._publish_left_over(connection, views)
            await self._publish_pushed()
            await self._plan(connection, schedule, views)
            self._last_trouble = ""
            due = schedule.next_due()
            if due is not None:
                view = views.get(due)
                if view is not None:
                    await self._refresh_on_schedule(connection, view)
                    schedule.plan(due, view.mapping.refresh_interval_s or HEARTBEAT_S)
                else:
                    schedule.plan(due, HEARTBEAT_S)
                continue
            if self._clock() - self._trimmed_at > TRIM_INTERVAL_S:
                self._trimmed_at = self._clock()
                await self._log.trim(connection)
            try:
                async with asyncio.timeout(schedule.wait_s(HEARTBEAT_S)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _publish_left_over(
        self, connection: Connection, views: Mapping[str, BoundView]
    ) -> None:
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            changes = await self._log.unapplied(connection, views)
        for change in changes:
            await self._publish_change(connection, views[change.view].mapping, change)

    async def _publish_pushed(self) -> None:
        while self._pushed:
            name, (mapping, epoch, keys) = next(iter(self._pushed.items()))
            del self._pushed[name]
            await self._publish(mapping, epoch, None if keys is None else sorted(keys))

    async def _plan(
        self, connection: Connection, schedule: Schedule, views: Mapping[str, BoundView]
    ) -> None:
        new = {
            name: view.mapping.refresh_interval_s
            for name, view in views.items()
            if view.mapping.refresh_interval_s is not None and not schedule.is_planned(name)
        }
        if not new:
            return
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            ages_s = await self._log.ages_s(connection, new)
        for name, interval_s in new.items():
            schedule.plan(name, interval_s, ages_s.get(name, interval_s))

    async def _refresh_on_schedule(self, connection: Connection, view: BoundView) -> None:
        """A view that cannot be refreshed is the view's trouble, not the leader's."""
        try:
            await self._warn_of_null(connection, view)
            result = await self._refresh(connection, view)
        except MappingProblem as problem:
            log.error("%s", problem)
            return
        await self._publish_result(connection, view.mapping, result)
        changed = "many" if result.changed is None else len(result.changed)
        log.debug("view %s: %s keys changed in %.3f s", result.view, changed, result.duration_s)

    async def _refresh(self, connection: Connection, view: BoundView) -> RefreshResult:
        refresh = ViewRefresh(view, self._log, channel=self._options.schema_name)
        try:
            result = await refresh.run(connection, self._clock)
        except psycopg.OperationalError as error:
            self.failures += 1
            if not connection.closed:  # such as a lock timeout, or no disk space
                problem = f"was not refreshed: {describe(error, self._options)}"
                raise MappingProblem(view.mapping.name, problem, "it is tried again") from None
            raise TierUnavailable(NAME, describe(error, self._options)) from None
        except psycopg.Error as error:
            self.failures += 1
            problem = f"was not refreshed: {describe(error, self._options)}"
            mend = f"correct the view or grant its ownership to {connection.info.user}"
            raise MappingProblem(view.mapping.name, problem, mend) from None
        self.refreshes += 1
        return result

    async def _publish_result(
        self, connection: Connection, mapping: ViewMapping, result: RefreshResult
    ) -> None:
        if result.changed is None or result.changed:
            keys = None if result.changed is None else list(result.changed)
            await self._publish_change(connection, mapping, Change(result.view, result.epoch, keys))

    async def _publish_change(
        self, connection: Connection, mapping: ViewMapping, change: Change
    ) -> None:
        await self._publish(mapping, change.epoch, change.keys)
        await self._log.mark_applied(connection, change)

    async def _warn_of_null(self, connection: Connection, view: BoundView) -> None:
        name = view.mapping.name
        if name in self._warned_of_null:
            return
        self._warned_of_null.add(name)
        refresh = ViewRefresh(view, self._log, channel=self._options.schema_name)
        column = await refresh.has_null_in_unique_column(connection)
        if column is not None:
            log.warning(
                "view %s: the column %s of a unique index holds NULL; every refresh rewrites "
                "such rows and reports them as changed; leave them out of the view",
                name,
                column,
            )
