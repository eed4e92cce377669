"""Refreshes one view and finds the exact keys that changed.

One transaction does everything: identify the relation, save the keys, refresh, compare,
write the row of the log, NOTIFY. REFRESH ... CONCURRENTLY writes only the rows that
differ, so an inserted or updated row carries this transaction's id (xmin); a deleted row
is among the saved keys but no longer in the view. No savepoint may surround the refresh,
since its rows would carry the savepoint's id.

`foreign.py` detects refreshes that Terrace did not run; it cannot name all changed keys.
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

# Above this, "any key of the view" is cheaper on all sides: 20,000 keys are already some
# 400 kB in the log, 50 notifications to each proxy, and tens of ms of UNLINK in Redis.
MAX_CHANGED_KEYS = 20_000
LOCK_TIMEOUT_MS = 60_000  # a refresh that cannot start fails visibly
FIRST_ELAPSED_S = 60.0  # the assumed time over which the first refresh's changes came


@dataclass(frozen=True, slots=True)
class RefreshResult:
    view: str
    change: Change
    changed: tuple[bytes, ...] | None  # None: too many to name, or the first population
    duration_s: float
    published: bool = True  # False: Redis does not have it yet; the refresher will announce it
    pace: Pace | None = None
    poison: Poison | None = None  # only of a refresh with a diagnosis

    @property
    def epoch(self) -> int:
        return self.change.epoch


async def lock_view(connection: Connection, view: str) -> None:
    """Lock the view until the transaction ends: two refreshes of a view never overlap."""
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
    await connection.execute(lock, (f"terrace refresh {view}",))


async def log_change(
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
    """As `lock_view`, but return false at once if a refresh is under way."""
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    row = await (await connection.execute(lock, (f"terrace refresh {view}",))).fetchone()
    return bool(row and row[0])


class ViewRefresh:
    """The refresh of one view, in the transaction of the caller, which holds the view's lock."""

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
        # Both branches call their source `v`, so that the same key texts fit both.
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

        `is_replaced`: Redis may hold rows of another relation that had the same name.
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
        change = await log_change(connection, self._log, self._channel, name, keys)
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
        """Check that this very relation was refreshed: only the refresh locks its name."""
        name = self.mapping.name
        relation = (await look_up(connection, [self.mapping]))[name]
        if relation is None or relation.identity != self._view.identity:
            problem = "was replaced by another relation while it was refreshed"
            raise MappingProblem(name, problem, "Terrace tries again")

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
