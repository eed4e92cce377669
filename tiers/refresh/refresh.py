"""Refreshing one view, with the exact keys that changed.

All in one transaction: which relation it is, the keys before, the refresh, the
difference, the outbox row and the NOTIFY. REFRESH ... CONCURRENTLY writes only the rows
that differ, so a row inserted or updated by it carries this transaction's id (xmin); a
deleted one is among the keys before but not among those after. No savepoint may surround
the refresh, since its rows would carry the savepoint's id.

Refreshes by somebody else are noticed by `foreign_refresh`, which cannot tell the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from ..errors import MappingProblem
from ..pg.connection import Connection
from ..pg.relation import look_up
from ..pg.rows import BoundView
from ..pg.sql import identifier, joined, render
from . import notices
from .diagnosis import Poison, PoisonProbe
from .log import RefreshLog
from .positions import Change
from .records import RefreshRecords
from .schedule import Pace

# Above this, "any key of the view" is cheaper for everybody: 20,000 keys are already some
# 400 kB in the log, 50 notifications to each proxy, and tens of ms of UNLINK in Redis.
MAX_CHANGED_KEYS = 20_000
LOCK_TIMEOUT_MS = 60_000  # a refresh that cannot start says so, rather than wait unseen
FIRST_ELAPSED_S = 60.0  # the time in which the first refresh's changes are taken to have come


@dataclass(frozen=True, slots=True)
class RefreshResult:
    view: str
    change: Change
    changed: tuple[bytes, ...] | None  # None: too many to name, or the first population
    duration_s: float
    published: bool = True  # False: Redis was not told yet; the refresher will
    pace: Pace | None = None
    poison: Poison | None = None  # when it was looked for

    @property
    def epoch(self) -> int:
        return self.change.epoch


async def lock_view(connection: Connection, view: str) -> None:
    """To the end of the transaction: two refreshes of a view never overlap, whoever asked."""
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
    await connection.execute(lock, (f"terrace refresh {view}",))


async def announce(
    connection: Connection,
    refresh_log: RefreshLog,
    channel: str,
    view: str,
    keys: list[bytes] | None,
) -> Change:
    """Log a change, and notify all proxies when the transaction commits."""
    texts = None if keys is None else [key.decode() for key in keys]
    change = await refresh_log.append(connection, view, texts)
    if change.after != change.before:
        payloads = notices.refresh_payloads(change)
        notify = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"
        await connection.execute(notify, (channel, payloads))
    return change


async def try_lock_view(connection: Connection, view: str) -> bool:
    """As `lock_view`, but false at once where a refresh is under way."""
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    row = await (await connection.execute(lock, (f"terrace refresh {view}",))).fetchone()
    return bool(row and row[0])


class ViewRefresh:
    """The refresh of one view, within the transaction of the caller, who holds its lock."""

    def __init__(
        self, view: BoundView, refresh_log: RefreshLog, records: RefreshRecords, channel: str
    ) -> None:
        self.mapping = view.mapping
        self._view = view
        self._log = refresh_log
        self._records = records
        self._channel = channel
        columns = view.mapping.columns
        self._refresh = render("REFRESH MATERIALIZED VIEW {view}", view=view.relation)
        self._refresh_concurrently = render(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY {view}", view=view.relation
        )
        self._before = render(
            "CREATE TEMP TABLE terrace_before ON COMMIT DROP AS SELECT {columns} FROM {view}",
            columns=joined(", ", [identifier(column) for column in columns]),
            view=view.relation,
        )
        # `v` in both branches, so that the same key texts serve: the second reads `before`.
        same = [sql.SQL("b.{c} = v.{c}").format(c=identifier(column)) for column in columns]
        self._changed = render(
            "SELECT {keys} FROM {view} v WHERE v.xmin = pg_current_xact_id()::xid"
            " UNION ALL SELECT {keys} FROM pg_temp.terrace_before v"
            " WHERE NOT EXISTS (SELECT FROM {view} b WHERE {same})"
            " LIMIT %s",
            keys=view.key_texts,
            view=view.relation,
            same=joined(" AND ", [*same]),
        )

    async def run(
        self,
        connection: Connection,
        clock: Callable[[], float],
        *,
        diagnose: bool = False,
        is_replaced: bool = False,
    ) -> RefreshResult:
        """The caller commits, then publishes. Raises psycopg.Error or MappingProblem.

        `is_replaced`: Redis may hold rows of another relation that had the name.
        """
        name = self.mapping.name
        poison = None
        started_at = clock()
        written = await self._records.begin(connection, self._view)
        past = (await self._records.paces(connection, [name])).get(name)
        if await self._is_populated(connection):
            probe = PoisonProbe(self._view) if diagnose else None
            if probe is not None:
                await probe.before(connection)
            keys = await self._refresh_exactly(connection)
            if probe is not None:
                poison = await probe.after(connection)
        else:
            keys = None
            await connection.execute(self._refresh, ())
        await self._check_relation(connection)
        if is_replaced:
            keys = None
        change = await announce(connection, self._log, self._channel, name, keys)
        n_changed = MAX_CHANGED_KEYS if keys is None else len(keys)
        duration_s = clock() - started_at
        pace, elapsed_s = past or (Pace(duration_s, n_changed / FIRST_ELAPSED_S), None)
        if elapsed_s is not None:
            pace = pace.observed(n_changed, elapsed_s, duration_s)
        await self._records.end(
            connection, self._view, written,
            duration_s=duration_s,
            changed=None if keys is None else n_changed,
            changes_per_s=pace.changes_per_s,
        )  # fmt: skip
        changed = None if keys is None else tuple(keys)
        return RefreshResult(name, change, changed, duration_s, pace=pace, poison=poison)

    async def _check_relation(self, connection: Connection) -> None:
        """That it was this relation which was refreshed: only now its name is locked."""
        name = self.mapping.name
        relation = (await look_up(connection, [self.mapping]))[name]
        if relation is None or relation.identity != self._view.identity:
            problem = "was replaced by another relation while it was refreshed"
            raise MappingProblem(name, problem, "it is tried again")

    async def _is_populated(self, connection: Connection) -> bool:
        query = "SELECT relispopulated FROM pg_class WHERE oid = %s"
        row = await (await connection.execute(query, (self._view.oid,))).fetchone()
        return bool(row and row[0])

    async def _refresh_exactly(self, connection: Connection) -> list[bytes] | None:
        await connection.execute(self._before, ())
        await connection.execute(self._refresh_concurrently, ())
        cursor = connection.cursor(binary=True)
        await cursor.execute(self._changed, (MAX_CHANGED_KEYS + 1,))
        rows = await cursor.fetchall()
        if len(rows) > MAX_CHANGED_KEYS:
            return None
        keys = (self._view.key_of(row) for row in rows)
        return list(dict.fromkeys(key for key in keys if key is not None))
