"""Refreshing one view, with the exact keys that changed.

All in one transaction: the keys before, the refresh, the difference, the outbox row and
the NOTIFY. REFRESH ... CONCURRENTLY writes only the rows that differ, so a row inserted
or updated by it carries this transaction's id (xmin); a deleted one is among the keys
before but not among those after. No savepoint may surround the refresh, since its
rows would carry the savepoint's id.

What this relies on: nobody else refreshes the view. The changed keys of somebody
else's refresh are not seen by anyone; entries then live until their ttl.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from . import notices
from .l3_connection import Connection
from .l3_rows import BoundView
from .l3_sql import identifier, joined, render
from .refresh_log import RefreshLog

log = logging.getLogger("terrace.refresh")

# Above this, "any key of the view" is cheaper for everybody: 20,000 keys are already some
# 400 kB in the log, 50 notifications to each proxy, and tens of ms of UNLINK in Redis.
MAX_CHANGED_KEYS = 20_000
LOCK_TIMEOUT_MS = 60_000  # a refresh that cannot start says so, rather than wait unseen


@dataclass(frozen=True, slots=True)
class RefreshResult:
    view: str
    epoch: int
    changed: tuple[bytes, ...] | None  # None: too many to name, or the first population
    duration_s: float
    published: bool = True  # False: Redis was not told yet; the refresher will


class ViewRefresh:
    """The refresh transaction of one view."""

    def __init__(self, view: BoundView, refresh_log: RefreshLog, channel: str) -> None:
        self.mapping = view.mapping
        self._view = view
        self._log = refresh_log
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

    async def run(self, connection: Connection, clock: Callable[[], float]) -> RefreshResult:
        """Refresh and commit. The caller publishes. Raises psycopg.Error.

        The connection must be in autocommit mode and not be used by anybody else.
        """
        started_at = clock()
        name = self.mapping.name
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            # Two refreshes of one view never overlap, whoever asked for them.
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            await connection.execute(lock, (f"terrace refresh {self._view.oid}",))
            populated = await self._is_populated(connection)
            keys = await self._refresh_exactly(connection) if populated else None
            if not populated:
                await connection.execute(self._refresh, ())
            texts = None if keys is None else [key.decode() for key in keys]
            epoch = await self._log.append(connection, name, texts)
            if keys is None or keys:
                payloads = notices.refresh_payloads(name, epoch, texts)
                notify = "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload"
                await connection.execute(notify, (self._channel, payloads))
        changed = None if keys is None else tuple(keys)
        return RefreshResult(name, epoch, changed, clock() - started_at)

    async def has_null_in_unique_column(self, connection: Connection) -> str | None:
        """A column of a unique index that holds NULL: the refresh rewrites such rows each time."""
        query = (
            "SELECT DISTINCT a.attname::text FROM pg_index i JOIN pg_attribute a"
            " ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
            " WHERE i.indrelid = %s AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL"
        )
        for (column,) in await (await connection.execute(query, (self._view.oid,))).fetchall():
            probe = render(
                "SELECT EXISTS (SELECT FROM {view} WHERE {column} IS NULL)",
                view=self._view.relation,
                column=identifier(column),
            )
            row = await (await connection.execute(probe, ())).fetchone()
            if row and row[0]:
                return str(column)
        return None

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
