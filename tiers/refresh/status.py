"""The status of each mapped view's refreshes.

It comes from the tables that all proxies share, so every proxy gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..pg.connection import Connection
from ..pg.rows import BoundView
from ..pg.sql import identifier, render, verbatim
from ..views import ViewMapping

# The size of pg_class c with its indexes. pg_total_relation_size waits behind an exclusive lock
# (a plain refresh), and one view would delay all figures. Then the pages of the last ANALYZE serve.
RELATION_BYTES = """
    CASE WHEN EXISTS (
        SELECT FROM pg_locks k WHERE k.relation = c.oid AND k.mode = 'AccessExclusiveLock'
        AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ) THEN c.relpages * current_setting('block_size')::int8
    ELSE pg_total_relation_size(c.oid) END"""


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """None means unknown: never refreshed, not scheduled, never analysed."""

    view: str
    keys: str  # the pattern
    state: str  # "served", or the problem
    refresh: str  # the option
    rows: int | None  # estimated
    size_bytes: int | None
    epoch: int
    heard_epoch: int  # of the newest change that this process knows
    refreshed_s: float | None  # ago
    duration_s: float | None  # of the last refresh
    changed: int | None  # keys; None with a duration: any key of the view
    lag_s: float  # how long a refresh has been waiting to be announced to Redis
    due_s: float | None  # until the next refresh; negative when it is late
    replaced: int  # how often another relation took its name


class ViewStatuses:
    """SQL over the tables of the fleet, on connections of the caller. Raises psycopg.Error."""

    def __init__(self, schema_name: str) -> None:
        self._query = render(
            "SELECT m.name, CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END,"
            " {bytes}, coalesce(v.epoch, 0),"
            " extract(epoch FROM clock_timestamp()"
            " - greatest(r.refreshed_at, v.refreshed_at))::float8,"
            " r.duration_s, r.changed,"
            " coalesce((SELECT extract(epoch FROM clock_timestamp() - min(l.created_at))::float8"
            " FROM {schema}.refresh_log l WHERE l.view = m.name AND l.epoch > m.announced), 0),"
            " extract(epoch FROM r.due_at - clock_timestamp())::float8, coalesce(x.replaced, 0)"
            " FROM unnest(%s::text[], %s::oid[], %s::int8[]) AS m(name, oid, announced)"
            " LEFT JOIN pg_class c ON c.oid = m.oid"
            " LEFT JOIN {schema}.views v ON v.view = m.name"
            " LEFT JOIN {schema}.refreshes r ON r.view = m.name"
            " LEFT JOIN {schema}.relations x ON x.view = m.name",
            schema=identifier(schema_name),
            bytes=verbatim(RELATION_BYTES),
        )

    async def read(
        self,
        connection: Connection,
        mappings: Sequence[ViewMapping],
        bound: Mapping[str, BoundView],
        problems: Mapping[str, str],
        heard_epoch: Callable[[str], int],
        announced: Mapping[str, int],
    ) -> list[ViewStatus]:
        names = [mapping.name for mapping in mappings]
        oids = [bound[name].oid if name in bound else 0 for name in names]
        epochs = [announced.get(name, 0) for name in names]
        rows = await (await connection.execute(self._query, (names, oids, epochs))).fetchall()
        found = {row[0]: row[1:] for row in rows}
        statuses = []
        for mapping in mappings:
            name = mapping.name
            (n_rows, size_bytes, epoch, age_s, duration_s, changed, lag_s, due_s,
             replaced) = found[name]  # fmt: skip
            statuses.append(
                ViewStatus(
                    view=name,
                    keys=mapping.options.keys,
                    state=problems.get(name, "served"),
                    refresh=mapping.options.refresh,
                    rows=n_rows,
                    size_bytes=size_bytes,
                    epoch=epoch,
                    heard_epoch=heard_epoch(name),
                    refreshed_s=age_s,
                    duration_s=duration_s,
                    changed=changed,
                    lag_s=lag_s,
                    due_s=None if mapping.refresh_interval_s is None else due_s,
                    replaced=replaced,
                )
            )
        return statuses
