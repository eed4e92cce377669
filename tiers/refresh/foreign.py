"""Detects refreshes that Terrace did not run: by cron, by a migration, by a person with psql.

There are two signs, and both are cheap to read. A plain refresh gives the view a new file.
A concurrent refresh deletes and inserts rows, and the server counts them; Terrace knows how
many of those are its own (`records`). After such a sign the changed keys are:

  rows were only inserted   those of rows newer than the last check (xmin)
  anything else             any key of the view: the keys of deleted rows are unknown

The signs err in one direction only. Rolled-back work, VACUUM FULL and a reset of the
counters look like a refresh and cost a reload of the view's keys. The server counts with
a delay: some seconds if the session that refreshed stays connected and idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..pg.connection import Connection
from ..pg.rows import BoundView
from ..pg.sql import identifier, render
from .log import RefreshLog
from .records import RefreshRecords
from .refresh import MAX_CHANGED_KEYS, log_change, try_lock_view


@dataclass(frozen=True, slots=True)
class _Signs:
    """One view: the counters that the record expects, and those of the server."""

    same_file: bool
    expected: tuple[int, int]  # rows inserted, deleted
    seen: tuple[int, int]
    counted: tuple[int, int]

    @property
    def counters_were_reset(self) -> bool:
        return any(now < before for now, before in zip(self.counted, self.seen, strict=True))

    @property
    def only_inserts(self) -> bool:
        return (
            self.same_file and not self.counters_were_reset and self.counted[1] <= self.expected[1]
        )

    @property
    def show_a_refresh(self) -> bool:
        moved = any(now > own for now, own in zip(self.counted, self.expected, strict=True))
        return moved or self.counters_were_reset or not self.same_file


class ForeignRefreshes:
    """Checks all views at once and logs the refreshes it finds. Raises psycopg.Error."""

    def __init__(self, refresh_log: RefreshLog, records: RefreshRecords, schema_name: str) -> None:
        self._log = refresh_log
        self._records = records
        self._channel = schema_name
        schema = identifier(schema_name)
        self._signs_query = render(
            "SELECT name, filenode = pg_relation_filenode(oid), inserted, deleted,"
            " seen_inserted, seen_deleted,"
            " pg_stat_get_tuples_inserted(oid), pg_stat_get_tuples_deleted(oid)"
            " FROM unnest(%s::text[], %s::oid[]) AS v(name, oid)"
            " JOIN {schema}.refreshes ON view = name WHERE pg_relation_filenode(oid) IS NOT NULL",
            schema=schema,
        )
        self._seen_before = render(
            "SELECT seen_before::text FROM {schema}.refreshes WHERE view = %s", schema=schema
        )
        # The expectation only rises with the counters: a refresh by Terrace may have been
        # added to it before the server counted that refresh.
        self._note = render(
            "UPDATE {schema}.refreshes SET filenode = pg_relation_filenode(%(oid)s::oid),"
            " inserted = CASE WHEN %(reset)s THEN i ELSE greatest(inserted, i) END,"
            " deleted = CASE WHEN %(reset)s THEN d ELSE greatest(deleted, d) END,"
            " seen_inserted = i, seen_deleted = d,"
            " seen_before = pg_snapshot_xmin(pg_current_snapshot())"
            " FROM (SELECT pg_stat_get_tuples_inserted(%(oid)s::oid) AS i,"
            " pg_stat_get_tuples_deleted(%(oid)s::oid) AS d) AS counters"
            " WHERE view = %(view)s AND pg_relation_filenode(%(oid)s::oid) IS NOT NULL",
            schema=schema,
        )

    async def candidates(self, connection: Connection, views: Mapping[str, BoundView]) -> list[str]:
        """Names of the views that seem to have had a foreign refresh since the last check."""
        await self._records.ensure(connection, views)
        signs = await self._signs(connection, views)
        return [name for name, of_view in signs.items() if of_view.show_a_refresh]

    async def _signs(
        self, connection: Connection, views: Mapping[str, BoundView]
    ) -> dict[str, _Signs]:
        parameters = (list(views), [view.oid for view in views.values()])
        rows = await (await connection.execute(self._signs_query, parameters)).fetchall()
        return {
            name: _Signs(same_file, numbers[0:2], numbers[2:4], numbers[4:6])
            for name, same_file, *rest in rows
            if (numbers := tuple(rest))
        }

    async def log_if_confirmed(self, connection: Connection, view: BoundView) -> bool:
        """Check one view again, under its lock: no refresh by Terrace can be under way."""
        name = view.mapping.name
        async with connection.transaction():
            if not await try_lock_view(connection, name):
                return False  # Terrace is refreshing it
            signs = (await self._signs(connection, {name: view})).get(name)
            if signs is None or not signs.show_a_refresh:
                return False
            keys = await self._new_keys(connection, view) if signs.only_inserts else None
            parameters: dict[str, Any] = {
                "view": name, "oid": view.oid, "reset": signs.counters_were_reset
            }  # fmt: skip
            await connection.execute(self._note, parameters)
            if keys is not None and not keys:
                return False
            await log_change(connection, self._log, self._channel, name, keys)
        return True

    async def _new_keys(self, connection: Connection, view: BoundView) -> list[bytes] | None:
        row = await (await connection.execute(self._seen_before, (view.mapping.name,))).fetchone()
        query = render(
            "SELECT {keys} FROM {view} v WHERE age(v.xmin) <= age(%s::xid8::xid) LIMIT %s",
            keys=view.key_texts,
            view=view.relation,
        )
        cursor = connection.cursor(binary=True)
        await cursor.execute(query, (row[0] if row else "0", MAX_CHANGED_KEYS + 1))
        rows = await cursor.fetchall()
        if len(rows) > MAX_CHANGED_KEYS:
            return None
        return list(dict.fromkeys(key for r in rows if (key := view.key_of(r)) is not None))
