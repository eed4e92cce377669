"""SCAN over the keys of a view, with cursors that any proxy can continue.

A position is a heap block of the view and the view's epoch. A page reads the next
blocks by row address, so a whole scan reads each block once, in any order of
keys. Rows move only when a refresh rewrites them, and then the log names their keys:
a page that finds a newer epoch than that of its cursor also returns the keys changed since.
A page reads one snapshot. So a key that exists throughout is returned at least once:
either its row stayed in place until the scan reached it, or it moved, and the next page
names it.

If the changed keys are unknown (too many, or trimmed), the scan starts again. VACUUM FULL
or a foreign refresh in the middle of a scan is not covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..pg.connection import Connection
from ..pg.rows import BoundView
from ..pg.session import execute_one, in_transaction
from ..pg.sql import identifier, joined, render
from ..refresh.log import RefreshLog
from ..refresh.positions import Position

ROWS_PER_BLOCK = 40  # until the view has been analyzed
MAX_BLOCKS = 256  # 2 MB per page, even with a higher COUNT


@dataclass(frozen=True, slots=True)
class ScanPage:
    keys: list[bytes]
    epoch: int  # with `next_block`: the position of the next page
    next_block: int | None  # None: the scan is complete
    restarted: bool = False  # the scan could not continue from the given position


async def scan_page(
    connection: Connection,
    view: BoundView,
    refresh_log: RefreshLog,
    *,
    epoch: int,
    block: int,
    count: int,
) -> ScanPage:
    """About `count` keys from a position; block 0 starts a scan, with any epoch.

    Raises psycopg.Error.
    """
    async with in_transaction(connection, snapshot=True):
        name = view.mapping.name
        current = (await refresh_log.positions(connection, [name]))[name].epoch
        blocks, rows_per_block = await _extent(connection, view)
        keys: list[bytes] = []
        restarted = False
        if block > 0 and epoch != current:
            missed = await refresh_log.since(connection, {name: Position(epoch, None)})
            changed = missed[0].keys if missed else []
            if changed is None:
                block, restarted = 0, True
            else:
                # Return those that still exist; the rest was deleted.
                keys = [k for k, o in (await view.load(connection, changed)).items() if o.has_value]
        end = block + min(MAX_BLOCKS, max(1, math.ceil(count / rows_per_block)))
        keys += await _keys_between(connection, view, block, end)
    next_block = end if end < blocks else None
    return ScanPage(list(dict.fromkeys(keys)), current, next_block, restarted)


async def _extent(connection: Connection, view: BoundView) -> tuple[int, float]:
    """The number of heap blocks, and the rows per block by the statistics."""
    query = (
        "SELECT pg_relation_size(oid) / current_setting('block_size')::int8, reltuples, relpages"
        " FROM pg_class WHERE oid = %s"
    )
    row: tuple[Any, ...] | None = await (await connection.execute(query, (view.oid,))).fetchone()
    blocks, tuples, pages = row or (0, -1.0, 0)
    return int(blocks), tuples / pages if pages > 0 and tuples > 0 else ROWS_PER_BLOCK


async def _keys_between(
    connection: Connection, view: BoundView, first: int, end: int
) -> list[bytes]:
    keys = joined(", ", [identifier(column) for column in view.mapping.columns])
    query = render(
        "SELECT {texts} FROM (SELECT {keys} FROM {view}"
        " WHERE ctid >= %s::tid AND ctid < %s::tid) AS v",
        texts=view.key_texts,
        keys=keys,
        view=view.relation,
    )
    between = (f"({first},0)", f"({end},0)")
    cursor = await execute_one(connection, query, between, binary=True)
    found = (view.key_of(row) for row in await cursor.fetchall())
    return [key for key in found if key is not None]
