"""The log of changes in PostgreSQL: positions and changed keys, kept until all proxies know.

A refresh writes its row in its own transaction, so a row exists exactly if the view
changed. NOTIFY is only the fast way: a proxy that did not listen reads here what it
missed. Each Redis stores how far the log was announced to it (`load/view_changes.py`). So
one log serves any number of Redis servers, and a Redis that was restored, emptied or
failed over to a lagging replica shows its real position.

Epochs of a view count its changes without gaps, and each row names the mark of the
change before it. So a reader detects that rows were trimmed before it read them, and that
the database was restored: then any key may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString

from ..pg.connection import Connection
from ..pg.sql import identifier, render
from .positions import START, Change, Logged, Position, merged

RETENTION_S = 3600.0  # a scan, a proxy or a Redis that was away for longer starts anew
PUSHES_RETENTION_S = 300.0  # of pushed keys, of which there may be very many
TRIM_ROWS = 500  # per statement, so that trimming never holds a long transaction

VIEWS_TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.views (
        view text PRIMARY KEY,
        epoch bigint NOT NULL DEFAULT 0,  -- moves with every refresh that changed rows
        refreshed_at timestamptz,
        query text,  -- what Terrace created the view from; NULL if it did not
        mark text  -- of the newest change
    )""",
)
LOG_TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.refresh_log (
        view text,
        epoch bigint,
        keys text[],  -- the changed Redis keys; NULL: any key of the view
        created_at timestamptz NOT NULL DEFAULT now(),
        mark text,
        before_mark text,  -- of the change before it
        PRIMARY KEY (view, epoch)
    )""",
)
HISTORY_TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.history (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        id text NOT NULL DEFAULT gen_random_uuid()::text  -- by which each Redis knows it
    )""",
)
ADDED_COLUMNS: Mapping[str, Mapping[str, LiteralString]] = {
    "views": {"mark": "ALTER TABLE {schema}.views ADD COLUMN mark text"},
    "refresh_log": {
        "mark": "ALTER TABLE {schema}.refresh_log ADD COLUMN mark text",
        "before_mark": "ALTER TABLE {schema}.refresh_log ADD COLUMN before_mark text",
    },
}
"""Columns that tables created by an older Terrace lack."""


class RefreshLog:
    """SQL over `<schema>.views` and `<schema>.refresh_log`, on connections of the caller."""

    def __init__(self, schema_name: str) -> None:
        schema = identifier(schema_name)
        self._history = render("SELECT id FROM {schema}.history", schema=schema)
        self._begin_history = render(
            "INSERT INTO {schema}.history DEFAULT VALUES ON CONFLICT DO NOTHING", schema=schema
        )
        self._positions = render(
            "SELECT view, epoch, coalesce(mark, '') FROM {schema}.views WHERE view = ANY(%s)",
            schema=schema,
        )
        self._ages = render(
            "SELECT view, extract(epoch FROM clock_timestamp() - refreshed_at)::float8"
            " FROM {schema}.views WHERE view = ANY(%s) AND refreshed_at IS NOT NULL",
            schema=schema,
        )
        self._hold = render(
            "INSERT INTO {schema}.views AS v (view, refreshed_at) VALUES (%s, clock_timestamp())"
            " ON CONFLICT (view) DO UPDATE SET refreshed_at = excluded.refreshed_at"
            " RETURNING epoch, coalesce(mark, '')",
            schema=schema,
        )
        self._move = render(
            "UPDATE {schema}.views SET epoch = epoch + 1, mark = gen_random_uuid()::text"
            " WHERE view = %s RETURNING epoch, mark",
            schema=schema,
        )
        # A restored database may already hold rows with these numbers.
        self._append = render(
            "INSERT INTO {schema}.refresh_log (view, epoch, keys, mark, before_mark)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (view, epoch) DO UPDATE"
            " SET keys = excluded.keys, mark = excluded.mark,"
            " before_mark = excluded.before_mark, created_at = now()",
            schema=schema,
        )
        self._since = render(
            "SELECT view, epoch, coalesce(mark, ''), coalesce(before_mark, ''), keys"
            " FROM {schema}.refresh_log JOIN unnest(%s::text[], %s::int8[]) AS seen(name, last)"
            " ON view = seen.name AND epoch > seen.last ORDER BY view, epoch",
            schema=schema,
        )
        self._trim = render(
            "DELETE FROM {schema}.refresh_log WHERE ctid = ANY(ARRAY(SELECT ctid"
            " FROM {schema}.refresh_log"
            " WHERE created_at < now() - make_interval(secs =>"
            " CASE WHEN view = '' THEN %s ELSE %s END) LIMIT %s))",
            schema=schema,
        )

    async def history(self, connection: Connection) -> str:
        """The id of this log: one Redis may get the changes of several databases."""
        row = await (await connection.execute(self._history, ())).fetchone()
        if row is None:  # the table is new, or it was emptied
            await connection.execute(self._begin_history, ())
            row = await (await connection.execute(self._history, ())).fetchone()
        return str(row[0]) if row else ""

    async def positions(self, connection: Connection, views: Iterable[str]) -> dict[str, Position]:
        names = list(views)
        rows = await (await connection.execute(self._positions, (names,))).fetchall()
        found = {view: Position(epoch, mark) for view, epoch, mark in rows}
        return dict.fromkeys(names, START) | found

    async def ages_s(self, connection: Connection, views: Iterable[str]) -> dict[str, float]:
        """Seconds since the last refresh, for each view that ever had one."""
        rows = await (await connection.execute(self._ages, (list(views),))).fetchall()
        return dict(rows)

    async def append(self, connection: Connection, view: str, keys: Sequence[str] | None) -> Change:
        """Record a refresh, in its transaction. No keys: nothing changed, and the position
        stays."""
        row = await (await connection.execute(self._hold, (view,))).fetchone()
        before = Position(*row) if row else START
        if keys is not None and not keys:
            return Change(view, before, before, [])
        row = await (await connection.execute(self._move, (view,))).fetchone()
        assert row is not None
        after = Position(*row)
        stored = None if keys is None else list(keys)
        await connection.execute(self._append, (view, after.epoch, stored, after.mark, before.mark))
        return Change(view, before, after, _encoded(keys))

    async def since(self, connection: Connection, seen: Mapping[str, Position]) -> list[Change]:
        """For each view that moved on from `seen`: everything since then as one change."""
        now = await self.positions(connection, seen)
        moved = {view: last for view, last in seen.items() if now[view] != last}
        if not moved:
            return []
        parameters = (list(moved), [last.epoch for last in moved.values()])
        rows = await (await connection.execute(self._since, parameters)).fetchall()
        log: dict[str, list[Logged]] = {view: [] for view in moved}
        for view, epoch, mark, before_mark, keys in rows:
            log[view].append(Logged(Position(epoch, mark), before_mark, keys))
        changes = [merged(view, last, now[view], log[view]) for view, last in moved.items()]
        return [change for change in changes if change is not None]

    async def trim(self, connection: Connection) -> None:
        while True:
            cursor = await connection.execute(
                self._trim, (PUSHES_RETENTION_S, RETENTION_S, TRIM_ROWS)
            )
            if cursor.rowcount < TRIM_ROWS:
                return


def _encoded(keys: Sequence[str] | None) -> list[bytes] | None:
    return None if keys is None else [key.encode() for key in keys]
