"""The refresher: who leads, when it refreshes, and that Redis is told.

Every proxy runs a `Refresher`. For each Redis, one of them leads: it holds an advisory
lock that is named after the server that Redis is, and tells it what changed (`Teller`).
One of the leaders holds a second lock and schedules: it refreshes the views, notices
refreshes by others and takes pushed keys out of the outbox. Scheduled refreshes run on
the connection of the locks, so a refresh cannot outlive them: when the connection dies,
the server aborts the refresh and gives the locks to others.

A leader tells Redis what is left over before it refreshes again. If Redis cannot be told,
it resigns: perhaps another proxy can reach it. It does as well when the Redis is another
server than the one it was elected for.

Where another relation has the name of a view, the first to find it logs a change of all
keys. Pushed keys bring the refresh of their views forward: that is when what the trigger
saw gets into the view.

All proxies on one schema are taken to have the same mappings.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import psycopg

from ..base import L2_REDIS, L3_POSTGRES
from ..errors import MappingProblem, TierUnavailable
from ..pg.connection import Connection, Connector, Deadline, describe
from ..pg.relation import Relation
from ..pg.rows import BoundView
from ..views import Mappings, ViewMapping
from .foreign import ForeignRefreshes
from .log import RefreshLog
from .records import RefreshRecords
from .refresh import RefreshResult, ViewRefresh, announce, lock_view, try_lock_view
from .relations import Relations
from .schedule import SHORTEST_S, Pace, Schedule
from .teller import Audience, Teller
from .warnings import RefreshWarnings

log = logging.getLogger("terrace.refresh")

CAMPAIGN_INTERVAL_S = 1.5  # a dead leader is replaced within about two of these
HEARTBEAT_S = 2.0  # how often the leader looks for rows that others left unapplied
HEARTBEAT_DEADLINE_S = 5.0
TRIM_INTERVAL_S = 60.0
BACKOFF_S = (0.25, 4.0)

# A leader whose host is gone holds the lock until the server notices; in the middle of a
# refresh it notices nothing unless told to look. Two probes a second apart decide.
_NOTICE_A_DEAD_LEADER = (
    "SET client_connection_check_interval = 1000; SET tcp_keepalives_idle = 1; "
    "SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2"
)


class Bindings(Protocol):
    """Which relation is behind each view now (`l3.binding.Binder`)."""

    @property
    def refreshable(self) -> Mapping[str, BoundView]: ...

    @property
    def relations(self) -> Mapping[str, Relation]: ...

    async def look(self, connection: Connection) -> None: ...

    async def current(self, connection: Connection, mapping: ViewMapping) -> BoundView: ...


class Refresher:
    """Campaigns for the locks, refreshes on schedule while it has them, and on demand always."""

    def __init__(
        self,
        connector: Connector,
        refresh_log: RefreshLog,
        binder: Bindings,
        mappings: Mappings,
        audience: Audience,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.is_leader = False
        self.refreshes = 0
        self.failures = 0
        self.foreign_refreshes = 0  # by somebody else, noticed
        self.foreign_looks = 0
        self.replaced = 0  # relations found to be others than the fleet knew
        self._connector = connector
        self._options = connector.options
        self._log = refresh_log
        self._binder = binder
        self._mappings = mappings
        self._teller = Teller(audience, refresh_log, mappings, self._options.schema_name)
        self._clock = clock
        self._chance = chance
        self._wake = asyncio.Event()
        self._schedules = False
        self._trimmed_at = clock()
        self._looked_at = self._watched_at = -math.inf
        self._records = RefreshRecords(self._options.schema_name)
        self._relations = Relations(self._records, self._options.schema_name)
        self._foreign = ForeignRefreshes(refresh_log, self._records, self._options.schema_name)
        self._warnings = RefreshWarnings()
        self._schedule = Schedule(clock, chance)
        self._paces: dict[str, Pace] = {}
        self._refreshed_at: dict[str, float] = {}  # by this process, on schedule
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

    async def refresh(self, mapping: ViewMapping) -> RefreshResult:
        """Refresh now, leader or not. Raises TierUnavailable or MappingProblem.

        When Redis cannot be told, the result says so and the leader will tell it later.
        """
        async with self._connector.connected("refresh") as connection:
            result = await self._refresh(connection, mapping)
            try:
                await self._teller.know(connection)
                await self._teller.tell(result.change)
            except (TierUnavailable, psycopg.Error) as error:
                why = describe(error, self._options)
                log.warning("view %s: refreshed, but %s; will be told later", result.view, why)
                return replace(result, published=False)
        return result

    def push(self, mapping: ViewMapping, key: bytes) -> None:
        """A key to be removed from Redis, if this is the leader."""
        if self.is_leader:
            self._teller.push(mapping, key)
            self._wake.set()

    def heard(self, mapping: ViewMapping, epoch: int) -> None:
        """Of a change: Redis may not have been told of it."""
        if self.is_leader and not self._teller.has_told(mapping.name, epoch):
            self._wake.set()

    async def know(self, connection: Connection) -> None:
        """Of which history Redis is told. Raises psycopg.Error."""
        await self._teller.know(connection)

    async def told_epochs(self) -> dict[str, int]:
        """How far Redis was told of each view."""
        return await self._teller.epochs()

    def wake(self) -> None:
        """Look again: a view has been bound that was not before, or keys were pushed."""
        self._wake.set()

    async def _serve_term(self) -> bool:
        """One connection: campaign, then lead until something fails. True if it ever led."""
        led = False
        try:
            async with self._connector.connected("refresher") as connection:
                server = await self._campaign(connection)
                self.is_leader = led = True
                log.info("this proxy tells Redis what changes in the views from now on")
                await self._lead(connection, server)
        except (TierUnavailable, psycopg.Error) as error:
            self._report(describe(error, self._options))
        except Exception:
            log.exception("the refresher failed and starts again")
        finally:
            self.is_leader = self._schedules = False
            self._teller.forget()
        return led

    def _report(self, trouble: str) -> None:
        """Once per kind of trouble: it is met again at every attempt."""
        if trouble != self._last_trouble and not self._connector.is_closed:
            log.warning("the refresher stands still: %s", trouble)
            self._last_trouble = trouble

    async def _campaign(self, connection: Connection) -> str:
        """Until nobody else leads for the server that Redis is; which one it is."""
        while True:
            server = await self._teller.look(connection)
            if await self._locked(
                connection, f"terrace leader {server} {self._options.schema_name}"
            ):
                return server
            await asyncio.sleep(CAMPAIGN_INTERVAL_S * (0.5 + self._chance()))

    async def _locked(self, connection: Connection, name: str) -> bool:
        """To the end of the connection, if nobody else has that lock."""
        query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            row = await (await connection.execute(query, (name,))).fetchone()
        return bool(row and row[0])

    async def _lead(self, connection: Connection, server: str) -> None:
        self._schedule = schedule = Schedule(self._clock, self._chance)
        self._looked_at = -math.inf
        await connection.execute(_NOTICE_A_DEAD_LEADER)
        while True:
            self._wake.clear()
            await self._look(connection, server)
            views = self._binder.refreshable
            if self._schedules:
                await self._watch(connection, views)
            await self._teller.tell_left_over(connection)
            if self._schedules and await self._teller.take_pushed(connection):
                await self._teller.tell_left_over(connection)
            await self._teller.tell_keys()
            if self._schedules:
                await self._plan(connection, views)
                self._bring_forward()
            self._last_trouble = ""
            due = schedule.next_due()
            if due is not None:
                mapping = self._mappings.by_view(due)
                if mapping is not None and due in views:
                    pace = await self._refresh_on_schedule(connection, mapping)
                    await self._plan_next(connection, mapping, pace)
                else:
                    schedule.plan(due, HEARTBEAT_S)
                continue
            if self._clock() - self._trimmed_at > TRIM_INTERVAL_S:
                self._trimmed_at = self._clock()
                await self._log.trim(connection)
            try:
                async with asyncio.timeout(schedule.wait_s(self._heartbeat_s)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    @property
    def _heartbeat_s(self) -> float:
        watch_s = self._options.watch_s
        return min(HEARTBEAT_S, watch_s) if watch_s else HEARTBEAT_S

    async def _look(self, connection: Connection, server: str) -> None:
        """See which Redis it is, and what stands behind the names: where that is another
        relation, all keys changed."""
        now = self._clock()
        if now - self._looked_at < self._heartbeat_s:
            return
        self._looked_at = now
        if await self._teller.look(connection) != server:
            raise TierUnavailable(L2_REDIS, "it is another server now")
        if not self._schedules:
            name = f"terrace refresher {self._options.schema_name}"
            self._schedules = await self._locked(connection, name)
            if self._schedules:
                log.info("this proxy refreshes the views from now on")
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            await self._binder.look(connection)
            relations = dict(self._binder.relations)
            for name in await self._relations.unknown(connection, relations):
                async with connection.transaction():
                    if await try_lock_view(connection, name) and await self._relations.adopt(
                        connection, name, relations[name]
                    ):
                        await announce(connection, self._log, self._options.schema_name, name, None)
                        self._on_replaced(name)

    def _on_replaced(self, view: str) -> None:
        self.replaced += 1
        log.warning(
            "view %s has another relation behind its name, or other columns or another owner; "
            "its keys leave Redis", view,
        )  # fmt: skip

    async def _watch(self, connection: Connection, views: Mapping[str, BoundView]) -> None:
        """Log what somebody else refreshed; it is published with what was left over."""
        if not self._options.watch_s:
            return
        now = self._clock()
        if now - self._watched_at < self._options.watch_s:
            return
        self._watched_at = now
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            for name in await self._foreign.suspects(connection, views):
                try:
                    is_true = await self._foreign.log_if_true(connection, views[name])
                except psycopg.ProgrammingError:
                    continue  # dropped or replaced in this moment, as the next look will see
                if is_true:
                    self.foreign_refreshes += 1
                    log.info("view %s: somebody else refreshed it", name)
        self.foreign_looks += 1

    def _bring_forward(self) -> None:
        """Refresh the views that keys were pushed of as soon as their cost allows."""
        outdated = self._teller.outdated
        for name in [name for name in outdated if self._schedule.is_planned(name)]:
            outdated.remove(name)
            pace = self._paces.get(name)
            shortest_s = SHORTEST_S if pace is None else pace.shortest_s
            since_s = self._clock() - self._refreshed_at.get(name, -math.inf)
            self._schedule.bring_forward(name, shortest_s - since_s)

    async def _plan(self, connection: Connection, views: Mapping[str, BoundView]) -> None:
        """Plan the views that are new."""
        new = {
            name: view.mapping
            for name, view in views.items()
            if view.mapping.refresh_interval_s is not None and not self._schedule.is_planned(name)
        }
        if not new:
            return
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            ages_s = await self._log.ages_s(connection, new)
            await self._records.ensure(connection, {name: views[name] for name in new})
            paces = await self._records.paces(connection, new)
        for name, mapping in new.items():
            pace, _ = paces.get(name, (None, 0.0))
            await self._plan_next(connection, mapping, pace, ages_s.get(name, math.inf))

    async def _plan_next(
        self,
        connection: Connection,
        mapping: ViewMapping,
        pace: Pace | None,
        age_s: float = 0.0,
    ) -> None:
        interval_s = mapping.refresh_interval_s or HEARTBEAT_S
        if pace is not None:
            self._paces[mapping.name] = pace
            if mapping.refresh_is_auto:
                interval_s = pace.best_s
        wait_s = self._schedule.plan(mapping.name, interval_s, age_s)
        await self._records.plan(connection, mapping.name, wait_s)

    async def _refresh_on_schedule(
        self, connection: Connection, mapping: ViewMapping
    ) -> Pace | None:
        """A view that cannot be refreshed is the view's trouble, not the leader's."""
        name = mapping.name
        try:
            diagnose = self._warnings.wants_a_look(name)
            result = await self._refresh(connection, mapping, diagnose=diagnose)
        except MappingProblem as problem:
            log.error("%s", problem)
            return None
        self._refreshed_at[name] = self._clock()
        self._warnings.after(name, result.poison)
        await self._teller.tell(result.change)
        changed = "many" if result.changed is None else len(result.changed)
        log.debug("view %s: %s keys changed in %.3f s", name, changed, result.duration_s)
        return result.pace

    async def _refresh(
        self, connection: Connection, mapping: ViewMapping, *, diagnose: bool = False
    ) -> RefreshResult:
        """Refresh and commit. Raises TierUnavailable or MappingProblem.

        The connection must be in autocommit mode and not be used by anybody else.
        """
        try:
            async with connection.transaction():
                result, is_replaced = await self._refresh_in(connection, mapping, diagnose)
        except MappingProblem:
            self.failures += 1
            raise
        except psycopg.OperationalError as error:
            self.failures += 1
            if not connection.closed:  # such as a lock timeout, or no disk space
                problem = f"was not refreshed: {describe(error, self._options)}"
                raise MappingProblem(mapping.name, problem, "it is tried again") from None
            raise TierUnavailable(L3_POSTGRES, describe(error, self._options)) from None
        except psycopg.Error as error:
            self.failures += 1
            problem = f"was not refreshed: {describe(error, self._options)}"
            mend = f"correct the view or grant its ownership to {connection.info.user}"
            raise MappingProblem(mapping.name, problem, mend) from None
        self.refreshes += 1
        if is_replaced:
            self._on_replaced(mapping.name)
        return result

    async def _refresh_in(
        self, connection: Connection, mapping: ViewMapping, diagnose: bool
    ) -> tuple[RefreshResult, bool]:
        """In a transaction: the relation that has the name now, and no other."""
        name = mapping.name
        await lock_view(connection, name)
        view = await self._binder.current(connection, mapping)
        is_replaced = await self._relations.adopt(connection, name, view)
        if diagnose:
            await self._warnings.before(connection, view)
        refresh = ViewRefresh(view, self._log, self._records, channel=self._options.schema_name)
        result = await refresh.run(
            connection, self._clock, diagnose=diagnose, is_replaced=is_replaced
        )
        return result, is_replaced
