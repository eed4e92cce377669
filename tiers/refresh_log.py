"""The outbox of refreshes: epochs and changed keys, kept until every proxy can know.

A refresh writes its row in its own transaction, so a row exists exactly if the view
changed. NOTIFY is only the fast way: a proxy that was not listening reads here what it
missed, and a row that was not published to Redis stays unapplied until somebody does.

Epochs of a view count its changes, without gaps. Therefore a reader can tell that rows
it has not seen were trimmed: then anything may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .l3_connection import Connection
from .l3_sql import identifier, render

RETENTION_S = 3600.0  # a scan or a disconnected proxy older than this starts afresh
TRIM_ROWS = 500  # per statement, so that trimming never holds a long transaction


@dataclass(frozen=True, slots=True)
class Change:
    """What one refresh, or several seen as one, changed."""

    view: str
    epoch: int
    keys: list[bytes] | None  # None: any key of the view


class RefreshLog:
    """SQL over `<schema>.views` and `<schema>.refresh_log`, on connections of the caller."""

    def __init__(self, schema_name: str) -> None:
        schema = identifier(schema_name)
        self.epochs_table = render("{schema}.views", schema=schema)
        self._epochs = render(
            "SELECT view, epoch FROM {schema}.views WHERE view = ANY(%s)", schema=schema
        )
        self._ages = render(
            "SELECT view, extract(epoch FROM clock_timestamp() - refreshed_at)::float8"
            " FROM {schema}.views WHERE view = ANY(%s) AND refreshed_at IS NOT NULL",
            schema=schema,
        )
        self._next_epoch = render(
            "INSERT INTO {schema}.views AS v (view, epoch, refreshed_at)"
            " VALUES (%s, %s, clock_timestamp()) ON CONFLICT (view) DO UPDATE"
            " SET epoch = v.epoch + excluded.epoch, refreshed_at = excluded.refreshed_at"
            " RETURNING epoch",
            schema=schema,
        )
        self._append = render(
            "INSERT INTO {schema}.refresh_log (view, epoch, keys) VALUES (%s, %s, %s)",
            schema=schema,
        )
        self._since = render(
            "SELECT view, epoch, keys FROM {schema}.refresh_log"
            " JOIN unnest(%s::text[], %s::int8[]) AS seen(name, last)"
            " ON view = seen.name AND epoch > seen.last ORDER BY view, epoch",
            schema=schema,
        )
        self._unapplied = render(
            "SELECT view, epoch, keys FROM {schema}.refresh_log"
            " WHERE NOT applied AND view = ANY(%s) ORDER BY view, epoch",
            schema=schema,
        )
        self._mark_applied = render(
            "UPDATE {schema}.refresh_log SET applied = true WHERE view = %s AND epoch = %s",
            schema=schema,
        )
        self._trim = render(
            "DELETE FROM {schema}.refresh_log WHERE ctid = ANY(ARRAY(SELECT ctid"
            " FROM {schema}.refresh_log WHERE applied"
            " AND created_at < now() - make_interval(secs => %s) LIMIT %s))",
            schema=schema,
        )

    async def epochs(self, connection: Connection, views: Iterable[str]) -> dict[str, int]:
        """The epoch of each view; 0 for those that never changed."""
        names = list(views)
        rows = await (await connection.execute(self._epochs, (names,))).fetchall()
        return {**dict.fromkeys(names, 0), **dict(rows)}

    async def ages_s(self, connection: Connection, views: Iterable[str]) -> dict[str, float]:
        """How long ago each view was refreshed, for those that ever were."""
        rows = await (await connection.execute(self._ages, (list(views),))).fetchall()
        return dict(rows)

    async def append(self, connection: Connection, view: str, keys: Sequence[str] | None) -> int:
        """Record a refresh, in its transaction; return the view's epoch.

        A refresh that changed nothing (no keys) leaves the epoch as it is.
        """
        step = 0 if keys is not None and not keys else 1
        row = await (await connection.execute(self._next_epoch, (view, step))).fetchone()
        epoch = int(row[0]) if row else 0
        if step:
            stored = None if keys is None else list(keys)
            await connection.execute(self._append, (view, epoch, stored))
        return epoch

    async def since(self, connection: Connection, seen: Mapping[str, int]) -> list[Change]:
        """Per view that moved on from `seen`: one change, of all keys if rows were trimmed."""
        rows = await (
            await connection.execute(self._since, (list(seen), list(seen.values())))
        ).fetchall()
        now = await self.epochs(connection, seen)
        changes = []
        for view, last in seen.items():
            logged = [(epoch, keys) for name, epoch, keys in rows if name == view]
            epoch = max([now[view], *(epoch for epoch, _ in logged)])
            if epoch == last:
                continue
            complete = len(logged) == epoch - last
            changes.append(Change(view, epoch, _merged(logged) if complete else None))
        return changes

    async def unapplied(self, connection: Connection, views: Iterable[str]) -> list[Change]:
        rows = await (await connection.execute(self._unapplied, (list(views),))).fetchall()
        return [Change(view, epoch, _encoded(keys)) for view, epoch, keys in rows]

    async def mark_applied(self, connection: Connection, change: Change) -> None:
        await connection.execute(self._mark_applied, (change.view, change.epoch))

    async def trim(self, connection: Connection) -> None:
        while True:
            cursor = await connection.execute(self._trim, (RETENTION_S, TRIM_ROWS))
            if cursor.rowcount < TRIM_ROWS:
                return


def _encoded(keys: Sequence[str] | None) -> list[bytes] | None:
    return None if keys is None else [key.encode() for key in keys]


def _merged(logged: Sequence[tuple[int, Sequence[str] | None]]) -> list[bytes] | None:
    keys: dict[bytes, None] = {}
    for _, changed in logged:
        if changed is None:
            return None
        keys.update((key.encode(), None) for key in changed)
    return list(keys)
