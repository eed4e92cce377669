"""The refresher: elects leaders, refreshes views on schedule, announces changes to Redis.

Every proxy runs a `Refresher`. For each Redis, one of them is the leader: it holds an
advisory lock that is named after that Redis server, and announces changes to it (`Announcer`).
One of the leaders holds a second lock and is the scheduler: it refreshes the views,
detects foreign refreshes and takes pushed keys out of the outbox. Scheduled refreshes run
on the connection that holds the locks, so a refresh cannot outlive them: when the
connection dies, the server aborts the refresh and releases the locks.

A leader announces pending changes before it refreshes again. It resigns if it cannot
reach Redis, since another proxy may reach it, and if the Redis is another server than the
one it was elected for.

If another relation has the name of a view, the first leader that finds it logs a change of
all keys. Pushed keys bring the refresh of their views forward: the refresh brings the
changes that the trigger saw into the view.

All proxies on one schema must have the same mappings.
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
from .announcer import Announcer, ChangeSink
from .foreign import ForeignRefreshes
from .log import RefreshLog
from .records import RefreshRecords
from .refresh import RefreshResult, ViewRefresh, lock_view, log_change, try_lock_view
from .relations import Relations
from .schedule import SHORTEST_S, Pace, Schedule
from .warnings import RefreshWarnings

log = logging.getLogger("terrace.refresh")

CAMPAIGN_INTERVAL_S = 1.5  # a dead leader is replaced within about two of these
HEARTBEAT_S = 2.0  # how often the leader checks for pending changes of others
HEARTBEAT_DEADLINE_S = 5.0
TRIM_INTERVAL_S = 60.0
BACKOFF_S = (0.25, 4.0)

# A leader whose host is gone holds the lock until the server notices. During a refresh the
# server checks the client only with this setting. Two probes a second apart decide.
_DETECT_DEAD_LEADER = (
    "SET client_connection_check_interval = 1000; SET tcp_keepalives_idle = 1; "
    "SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2"
)


class Bindings(Protocol):
    """The relation behind each view now (`l3.binding.Binder`)."""

    @property
    def refreshable(self) -> Mapping[str, BoundView]: ...

    @property
    def relations(self) -> Mapping[str, Relation]: ...

    async def update(self, connection: Connection) -> None: ...

    async def current(self, connection: Connection, mapping: ViewMapping) -> BoundView: ...


class Refresher:
    """Campaigns for the locks; refreshes on schedule while it holds them, on demand always."""

    def __init__(
        self,
        connector: Connector,
        refresh_log: RefreshLog,
        binder: Bindings,
        mappings: Mappings,
        sink: ChangeSink,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.is_leader = False
        self.refreshes = 0
        self.failures = 0
        self.foreign_refreshes = 0  # refreshes that Terrace did not run, detected
        self.foreign_checks = 0
        self.replaced = 0  # relations that differed from the recorded one
        self._connector = connector
        self._options = connector.options
        self._log = refresh_log
        self._binder = binder
        self._mappings = mappings
        self._announcer = Announcer(sink, refresh_log, mappings, self._options.schema_name)
        self._clock = clock
        self._chance = chance
        self._wake = asyncio.Event()
        self._schedules = False
        self._trimmed_at = clock()
        self._checked_at = self._foreign_checked_at = -math.inf
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

        If Redis is out of reach, the result says so, and the leader announces it later.
        """
        async with self._connector.connected("refresh") as connection:
            result = await self._refresh(connection, mapping)
            try:
                await self._announcer.read_history(connection)
                await self._announcer.announce(result.change)
            except (TierUnavailable, psycopg.Error) as error:
                why = describe(error, self._options)
                log.warning("view %s: refreshed, but %s; announced later", result.view, why)
                return replace(result, published=False)
        return result

    def push(self, mapping: ViewMapping, key: bytes) -> None:
        """Remove a key from Redis, if this is the leader."""
        if self.is_leader:
            self._announcer.push(mapping, key)
            self._wake.set()

    def heard(self, mapping: ViewMapping, epoch: int) -> None:
        """Notice a change that may not have been announced to Redis."""
        if self.is_leader and not self._announcer.has_announced(mapping.name, epoch):
            self._wake.set()

    async def read_history(self, connection: Connection) -> None:
        """Read the id of the log. Raises psycopg.Error."""
        await self._announcer.read_history(connection)

    async def announced_epochs(self) -> dict[str, int]:
        """The epoch up to which each view was announced to Redis."""
        return await self._announcer.epochs()

    def wake(self) -> None:
        """Run a round at once: a view was newly bound, or keys were pushed."""
        self._wake.set()

    async def _serve_term(self) -> bool:
        """One connection: campaign, then lead until something fails. True if it ever led."""
        led = False
        try:
            async with self._connector.connected("refresher") as connection:
                server = await self._campaign(connection)
                self.is_leader = led = True
                log.info("this proxy announces changes of the views to Redis from now on")
                await self._lead(connection, server)
        except (TierUnavailable, psycopg.Error) as error:
            self._report(describe(error, self._options))
        except Exception:
            log.exception("the refresher failed and starts again")
        finally:
            self.is_leader = self._schedules = False
            self._announcer.reset()
        return led

    def _report(self, trouble: str) -> None:
        """Log a trouble once: every attempt meets it again."""
        if trouble != self._last_trouble and not self._connector.is_closed:
            log.warning("the refresher stands still: %s", trouble)
            self._last_trouble = trouble

    async def _campaign(self, connection: Connection) -> str:
        """Wait until this proxy leads for its Redis server; return the server's name."""
        while True:
            server = await self._announcer.read_positions(connection)
            if await self._locked(
                connection, f"terrace leader {server} {self._options.schema_name}"
            ):
                return server
            await asyncio.sleep(CAMPAIGN_INTERVAL_S * (0.5 + self._chance()))

    async def _locked(self, connection: Connection, name: str) -> bool:
        """Try to take a lock until the connection ends."""
        query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            row = await (await connection.execute(query, (name,))).fetchone()
        return bool(row and row[0])

    async def _lead(self, connection: Connection, server: str) -> None:
        self._schedule = schedule = Schedule(self._clock, self._chance)
        self._checked_at = -math.inf
        await connection.execute(_DETECT_DEAD_LEADER)
        while True:
            self._wake.clear()
            await self._check(connection, server)
            views = self._binder.refreshable
            if self._schedules:
                await self._check_foreign(connection, views)
            await self._announcer.announce_pending(connection)
            if self._schedules and await self._announcer.take_pushed(connection):
                await self._announcer.announce_pending(connection)
            await self._announcer.announce_keys()
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

    async def _check(self, connection: Connection, server: str) -> None:
        """Check which server Redis is, and which relations have the names of the views. For
        another relation, log a change of all keys."""
        now = self._clock()
        if now - self._checked_at < self._heartbeat_s:
            return
        self._checked_at = now
        if await self._announcer.read_positions(connection) != server:
            raise TierUnavailable(L2_REDIS, "it is another server now")
        if not self._schedules:
            name = f"terrace refresher {self._options.schema_name}"
            self._schedules = await self._locked(connection, name)
            if self._schedules:
                log.info("this proxy refreshes the views from now on")
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            await self._binder.update(connection)
            relations = dict(self._binder.relations)
            for name in await self._relations.unknown(connection, relations):
                async with connection.transaction():
                    if await try_lock_view(connection, name) and await self._relations.adopt(
                        connection, name, relations[name]
                    ):
                        await log_change(
                            connection, self._log, self._options.schema_name, name, None
                        )
                        self._on_replaced(name)

    def _on_replaced(self, view: str) -> None:
        self.replaced += 1
        log.warning(
            "view %s is another relation now, or has other columns or another owner; "
            "its keys leave Redis", view,
        )  # fmt: skip

    async def _check_foreign(self, connection: Connection, views: Mapping[str, BoundView]) -> None:
        """Log foreign refreshes; they are announced with the other pending changes."""
        if not self._options.watch_s:
            return
        now = self._clock()
        if now - self._foreign_checked_at < self._options.watch_s:
            return
        self._foreign_checked_at = now
        with Deadline(connection, HEARTBEAT_DEADLINE_S):
            for name in await self._foreign.candidates(connection, views):
                try:
                    is_confirmed = await self._foreign.log_if_confirmed(connection, views[name])
                except psycopg.ProgrammingError:
                    continue  # dropped or replaced at this moment; the next check finds it
                if is_confirmed:
                    self.foreign_refreshes += 1
                    log.info("view %s: refreshed by another client", name)
        self.foreign_checks += 1

    def _bring_forward(self) -> None:
        """Refresh the views with pushed keys as soon as their cost allows."""
        outdated = self._announcer.outdated
        for name in [name for name in outdated if self._schedule.is_planned(name)]:
            outdated.remove(name)
            pace = self._paces.get(name)
            shortest_s = SHORTEST_S if pace is None else pace.shortest_s
            since_s = self._clock() - self._refreshed_at.get(name, -math.inf)
            self._schedule.bring_forward(name, shortest_s - since_s)

    async def _plan(self, connection: Connection, views: Mapping[str, BoundView]) -> None:
        """Plan the new views."""
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
        """Refresh one view. A failure that concerns only this view does not end the term."""
        name = mapping.name
        try:
            diagnose = self._warnings.needs_diagnosis(name)
            result = await self._refresh(connection, mapping, diagnose=diagnose)
        except MappingProblem as problem:
            log.error("%s", problem)
            return None
        self._refreshed_at[name] = self._clock()
        self._warnings.after(name, result.poison)
        await self._announcer.announce(result.change)
        changed = "many" if result.changed is None else len(result.changed)
        log.debug("view %s: %s keys changed in %.3f s", name, changed, result.duration_s)
        return result.pace

    async def _refresh(
        self, connection: Connection, mapping: ViewMapping, *, diagnose: bool = False
    ) -> RefreshResult:
        """Refresh and commit. Raises TierUnavailable or MappingProblem.

        The connection must be in autocommit mode, and no other task may use it.
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
                raise MappingProblem(mapping.name, problem, "Terrace tries again") from None
            raise TierUnavailable(L3_POSTGRES, describe(error, self._options)) from None
        except psycopg.Error as error:
            self.failures += 1
            problem = f"was not refreshed: {describe(error, self._options)}"
            remedy = f"correct the view or grant its ownership to {connection.info.user}"
            raise MappingProblem(mapping.name, problem, remedy) from None
        self.refreshes += 1
        if is_replaced:
            self._on_replaced(mapping.name)
        return result

    async def _refresh_in(
        self, connection: Connection, mapping: ViewMapping, diagnose: bool
    ) -> tuple[RefreshResult, bool]:
        """Refresh, in a transaction, the relation that has the name now."""
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
