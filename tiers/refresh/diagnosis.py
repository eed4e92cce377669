"""Warnings about views whose refreshes are needlessly expensive, with the remedy.

  NULL in a unique column   REFRESH ... CONCURRENTLY rewrites such rows every time
  poisoned values           it compares bytes: numeric 1 and 1.00 are a change, and a
                            column made of now() changes in every row
  bloat                     it leaves a dead row for each row that it rewrites

A sample of the rows, kept over one refresh, shows the poisoned values. This module has no
state and writes no log: the caller remembers the warnings it has given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ..pg.connection import Connection
from ..pg.rows import BoundView
from ..pg.sql import identifier, joined, render

SAMPLE_ROWS = 1000
MIN_SAMPLE_ROWS = 20  # fewer rows may well all have changed
BLOAT_MIN_ROWS = 10_000

# Types of which two values may be equal although their bytes differ.
_MANY_FORMS = (
    "numeric", "float4", "float8", "interval", "jsonb", "citext", "bpchar", "timetz",
)  # fmt: skip

_UNIQUE_COLUMNS = (
    "SELECT DISTINCT a.attname::text FROM pg_index i JOIN pg_attribute a"
    " ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
    " WHERE i.indrelid = %s AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL"
)
_COLUMNS = (
    "SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_type t"
    " ON t.oid = a.atttypid WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped"
    " ORDER BY a.attnum"
)
_DEAD_ROWS = "SELECT pg_stat_get_dead_tuples(%s::oid), pg_stat_get_live_tuples(%s::oid)"


@dataclass(frozen=True, slots=True)
class Poison:
    """What one refresh did to the sampled rows."""

    sampled: int
    same_value: int  # rows that were rewritten although all their values stayed equal
    forms: tuple[str, ...]  # the columns of those rows whose bytes differ
    always_new: tuple[str, ...]  # columns that differ in every row


async def null_warning(connection: Connection, view: BoundView) -> str | None:
    cursor = await connection.execute(_UNIQUE_COLUMNS, (view.oid,))
    for (column,) in await cursor.fetchall():
        probe = render(
            "SELECT EXISTS (SELECT FROM {view} WHERE {column} IS NULL)",
            view=view.relation,
            column=identifier(column),
        )
        row = await (await connection.execute(probe, ())).fetchone()
        if row and row[0]:
            return (
                f"the column {column} of a unique index holds NULL; every refresh rewrites "
                "such rows and reports them as changed; leave them out of the view"
            )
    return None


async def bloat_warning(connection: Connection, view: BoundView) -> str | None:
    row = await (await connection.execute(_DEAD_ROWS, (view.oid, view.oid))).fetchone()
    dead, live = row or (0, 0)
    if dead < max(BLOAT_MIN_ROWS, live):
        return None
    return (
        f"{dead} dead rows beside {live} live ones: vacuum does not keep up with the refreshes; "
        "check that autovacuum runs, or refresh less often"
    )


class PoisonProbe:
    """Keeps sampled rows over one refresh, in its transaction. Raises psycopg.Error."""

    def __init__(self, view: BoundView) -> None:
        self._view = view

    async def before(self, connection: Connection) -> None:
        row = await (
            await connection.execute("SELECT reltuples FROM pg_class WHERE oid = %s",
                                     (self._view.oid,))
        ).fetchone()  # fmt: skip
        rows = max(row[0] if row else 0.0, 1.0)
        share = min(100.0, 100.0 * SAMPLE_ROWS / rows)
        statement = render(
            "CREATE TEMP TABLE terrace_sample ON COMMIT DROP AS SELECT * FROM {view}"
            " TABLESAMPLE BERNOULLI ({share}) LIMIT {most}",
            view=self._view.relation,
            share=sql.Literal(share),
            most=sql.Literal(2 * SAMPLE_ROWS),
        )
        await connection.execute(statement, ())

    async def after(self, connection: Connection) -> Poison:
        found = await (await connection.execute(_COLUMNS, (self._view.oid,))).fetchall()
        columns = [name for name, _ in found]
        differs = [_differs(name) for name in columns]
        is_new = [_is_new_value(name, kind) for name, kind in found]
        rewritten = sql.SQL("n.xmin = pg_current_xact_id()::xid")
        in_form = sql.SQL("{} AND NOT ({})").format(rewritten, joined(" OR ", is_new))
        sums: list[sql.Composable] = [
            sql.SQL("count(*)"),
            sql.SQL("count(*) FILTER (WHERE {} AND ({}))").format(
                in_form, joined(" OR ", [*differs])
            ),
            *(sql.SQL("count(*) FILTER (WHERE {} AND {})").format(in_form, d) for d in differs),
            *(sql.SQL("count(*) FILTER (WHERE {})").format(d) for d in differs),
        ]
        query = render(
            "SELECT {sums} FROM pg_temp.terrace_sample o JOIN {view} n ON {same}",
            sums=joined(", ", sums),
            view=self._view.relation,
            same=joined(" AND ", [_same_key(column) for column in self._view.mapping.columns]),
        )
        row: tuple[Any, ...] = (await (await connection.execute(query, ())).fetchone()) or ()
        sampled, same_value, *counts = row
        in_forms, in_all = counts[: len(columns)], counts[len(columns) :]
        enough = sampled >= MIN_SAMPLE_ROWS
        return Poison(
            sampled,
            same_value,
            tuple(name for name, count in zip(columns, in_forms, strict=True) if count),
            tuple(
                name for name, count in zip(columns, in_all, strict=True)
                if enough and count == sampled
            ),
        )  # fmt: skip


def poison_warnings(poison: Poison, before: Poison | None) -> list[str]:
    """The warnings after two refreshes in a row: in a single one all rows may well change."""
    found = []
    if poison.same_value:
        found.append(
            f"rows are rewritten although their values are equal: only the form of "
            f"{', '.join(poison.forms)} differs (as 1 and 1.00 do); cast or round it in the "
            "query, so that such rows do not invalidate their keys"
        )
    again = [c for c in poison.always_new if before is not None and c in before.always_new]
    if again:
        found.append(
            f"{', '.join(again)} differs in every row at every refresh (as now() and random() "
            "do), so that every key is invalidated each time; leave it out of the query"
        )
    return found


def _differs(column: str) -> sql.Composable:
    return sql.SQL("o.{c}::text IS DISTINCT FROM n.{c}::text").format(c=identifier(column))


def _is_new_value(column: str, kind: str) -> sql.Composable:
    if kind in _MANY_FORMS:
        return sql.SQL("o.{c} IS DISTINCT FROM n.{c}").format(c=identifier(column))
    return _differs(column)


def _same_key(column: str) -> sql.Composable:
    return sql.SQL("o.{c} = n.{c}").format(c=identifier(column))
