"""The record of each view's refreshes, shared by all proxies, in `<schema>.refreshes`.

It shows people when the view was refreshed, how long that took, how many keys changed and
when the next refresh is due. It gives a new leader the pace of "auto". For the detection
of foreign refreshes (`foreign.py`) it holds the view's file, and the values that the
server's counters of inserted and deleted rows have if only Terrace refreshed the view. A
refresh adds its own rows to these values in its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import LiteralString

from ..pg.connection import Connection
from ..pg.rows import BoundView
from ..pg.sql import identifier, render
from .schedule import Pace

TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.refreshes (
        view text PRIMARY KEY,
        refreshed_at timestamptz,
        duration_s float8,
        changed bigint,  -- keys; NULL: any key of the view
        changes_per_s float8 NOT NULL DEFAULT 0,
        due_at timestamptz,  -- NULL: not scheduled
        filenode oid NOT NULL,
        inserted bigint NOT NULL,  -- expected counters of rows, without foreign refreshes
        deleted bigint NOT NULL,
        seen_inserted bigint NOT NULL,  -- the counters at the last check
        seen_deleted bigint NOT NULL,
        seen_before xid8 NOT NULL  -- rows of older transactions are known
    )""",
)


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of the view that the current transaction inserted and deleted so far."""

    inserted: int
    deleted: int


class RefreshRecords:
    """SQL over `<schema>.refreshes`, on connections of the caller."""

    def __init__(self, schema_name: str) -> None:
        schema = identifier(schema_name)
        self._ensure = render(
            "INSERT INTO {schema}.refreshes (view, filenode, inserted, deleted,"
            " seen_inserted, seen_deleted, seen_before)"
            " SELECT name, pg_relation_filenode(oid), i, d, i, d,"
            " pg_snapshot_xmin(pg_current_snapshot())"
            " FROM unnest(%s::text[], %s::oid[]) AS v(name, oid),"
            " LATERAL (SELECT pg_stat_get_tuples_inserted(oid) AS i,"
            " pg_stat_get_tuples_deleted(oid) AS d) AS counters"
            " WHERE pg_relation_filenode(oid) IS NOT NULL ON CONFLICT (view) DO NOTHING",
            schema=schema,
        )
        self._written = (
            b"SELECT pg_stat_get_xact_tuples_inserted(%(oid)s::oid),"
            b" pg_stat_get_xact_tuples_deleted(%(oid)s::oid)"
        )
        self._end = render(
            "UPDATE {schema}.refreshes SET refreshed_at = clock_timestamp(),"
            " duration_s = %(duration_s)s, changed = %(changed)s,"
            " changes_per_s = %(changes_per_s)s,"
            " filenode = pg_relation_filenode(%(oid)s::oid),"
            " inserted = inserted + pg_stat_get_xact_tuples_inserted(%(oid)s::oid) - %(inserted)s,"
            " deleted = deleted + pg_stat_get_xact_tuples_deleted(%(oid)s::oid) - %(deleted)s,"
            " seen_before = pg_snapshot_xmin(pg_current_snapshot())"
            " WHERE view = %(view)s",
            schema=schema,
        )
        self._restart = render(
            "UPDATE {schema}.refreshes SET filenode = pg_relation_filenode(%(oid)s::oid),"
            " inserted = i, deleted = d, seen_inserted = i, seen_deleted = d,"
            " seen_before = pg_snapshot_xmin(pg_current_snapshot())"
            " FROM (SELECT pg_stat_get_tuples_inserted(%(oid)s::oid) AS i,"
            " pg_stat_get_tuples_deleted(%(oid)s::oid) AS d) AS counters"
            " WHERE view = %(view)s AND pg_relation_filenode(%(oid)s::oid) IS NOT NULL",
            schema=schema,
        )
        self._paces = render(
            "SELECT view, duration_s, changes_per_s,"
            " extract(epoch FROM clock_timestamp() - refreshed_at)::float8"
            " FROM {schema}.refreshes WHERE view = ANY(%s) AND duration_s IS NOT NULL",
            schema=schema,
        )
        self._plan = render(
            "UPDATE {schema}.refreshes SET due_at = clock_timestamp() + make_interval(secs => %s)"
            " WHERE view = %s",
            schema=schema,
        )

    async def ensure(self, connection: Connection, views: Mapping[str, BoundView]) -> None:
        """Add a record for each view that has none; it counts from now on."""
        oids = [view.oid for view in views.values()]
        await connection.execute(self._ensure, (list(views), oids))

    async def restart(self, connection: Connection, view: str, oid: int) -> None:
        """Another relation has the view's name: count from now on."""
        await connection.execute(self._restart, {"view": view, "oid": oid})

    async def begin(self, connection: Connection, view: BoundView) -> Written:
        """Call this in the transaction of a refresh, before it."""
        await self.ensure(connection, {view.mapping.name: view})
        row = await (await connection.execute(self._written, {"oid": view.oid})).fetchone()
        return Written(*row) if row else Written(0, 0)

    async def end(
        self,
        connection: Connection,
        view: BoundView,
        before: Written,
        *,
        duration_s: float,
        changed: int | None,
        changes_per_s: float,
    ) -> None:
        """Call this in the transaction of a refresh, after it."""
        await connection.execute(
            self._end,
            {
                "view": view.mapping.name,
                "oid": view.oid,
                "inserted": before.inserted,
                "deleted": before.deleted,
                "duration_s": duration_s,
                "changed": changed,
                "changes_per_s": changes_per_s,
            },
        )

    async def paces(
        self, connection: Connection, views: Iterable[str]
    ) -> dict[str, tuple[Pace, float]]:
        """Pace, and seconds since the last refresh, of the views that had one."""
        rows = await (await connection.execute(self._paces, (list(views),))).fetchall()
        return {view: (Pace(duration_s, rate), age_s) for view, duration_s, rate, age_s in rows}

    async def plan(self, connection: Connection, view: str, wait_s: float) -> None:
        """Record when the view is due, so that every proxy can show it."""
        await connection.execute(self._plan, (wait_s, view))
