"""Queries about the views: sizes, refresh status, changed keys. They do not read rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psycopg

from ..base import L3_POSTGRES, Size
from ..errors import TierUnavailable
from ..options import L3Options
from ..pg.connection import Connection, describe
from ..pg.pool import LoadPool
from ..pg.session import together
from ..pg.sql import render, verbatim
from ..refresh.log import RefreshLog
from ..refresh.positions import Position
from ..refresh.status import RELATION_BYTES, ViewStatus, ViewStatuses
from ..views import Mappings, ViewMapping
from .binding import Binder

T = TypeVar("T")

LANE = "the tables of Terrace"

# reltuples is -1 for a view that was never analysed
_SIZE = render(
    "SELECT coalesce(sum({bytes}), 0)::int8, coalesce(sum(greatest(reltuples, 0)), 0)::int8"
    " FROM pg_class c WHERE c.oid = ANY(%s::oid[])",
    bytes=verbatim(RELATION_BYTES),
)


@dataclass(frozen=True, slots=True)
class L3Statistics:
    queries: int
    keys: int  # asked for in queries
    rows: int  # found
    negatives: int  # not found
    errors: int  # queries that failed
    negative_entries: int
    refreshes: int
    refresh_failures: int
    foreign_refreshes: int  # refreshes that Terrace did not run, detected
    foreign_checks: int  # checks for them
    replaced: int  # views whose name another relation took, detected
    is_leader: bool
    pool_size: int
    pool_idle: int
    pool_waiting: int


class Figures:
    """All methods raise TierUnavailable."""

    def __init__(
        self,
        options: L3Options,
        pool: LoadPool,
        binder: Binder,
        refresh_log: RefreshLog,
        mappings: Mappings,
    ) -> None:
        self._options, self._pool, self._binder = options, pool, binder
        self._log, self._mappings = refresh_log, mappings
        self._statuses = ViewStatuses(options.schema_name)

    async def size(self) -> Size:
        """Bytes and estimated rows of the mapped views."""
        oids = [bound.oid for bound in self._binder.refreshable.values()]

        async def measure(connection: Connection) -> Size:
            cursor = await connection.execute(_SIZE, (oids,))
            row = await cursor.fetchone()
            assert row is not None
            return Size(used_bytes=row[0], entries=row[1])

        return await self._run(measure)

    async def views(
        self, heard_epoch: Callable[[str], int], announced: Mapping[str, int]
    ) -> list[ViewStatus]:
        """The refresh status of the mapped views; `announced`: the epochs announced to Redis."""

        async def read(connection: Connection) -> list[ViewStatus]:
            return await self._statuses.read(
                connection,
                tuple(self._mappings),
                self._binder.refreshable,
                self._binder.problems,
                heard_epoch,
                announced,
            )

        return await self._run(read)

    async def changed_since(self, mapping: ViewMapping, at: Position) -> list[bytes] | None:
        """The keys that changed after a position; None: any key."""
        changes = await self._run(partial(self._log.since, seen={mapping.name: at}))
        return changes[0].keys if changes else []

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._pool.run(together(work), self._pool.lane(LANE))
        except psycopg.Error as error:
            raise TierUnavailable(L3_POSTGRES, describe(error, self._options)) from None
