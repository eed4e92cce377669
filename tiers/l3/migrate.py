"""Migrates a view whose `query` changed: builds the new view beside the old, then swaps them.

One transaction does it, so a reader always sees either the old view or the new one; the
exclusive lock is held only from the drop of the old view to the commit. The lock is
requested briefly and repeatedly, since readers would queue behind a waiting request.
Indexes and privileges of the old view are copied to the new one. The log gets a change of
any key.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from ..errors import MappingProblem
from ..options import L3Options
from ..pg.connection import Connection, describe
from ..pg.relation import regclass, relation_named
from ..pg.session import once
from ..pg.sql import identifier, joined, render, verbatim
from ..refresh import notices
from ..refresh.log import RefreshLog
from ..refresh.records import RefreshRecords
from ..refresh.relations import Relations
from ..views import ViewMapping
from .schema import lock, query_of, query_problem, stored_query

log = logging.getLogger("terrace.l3")

LOCK_TIMEOUT_MS = 200
LOCK_ATTEMPTS = 100
LOCK_PAUSE_S = 0.2

_FIND = """
    SELECT c.oid::int8, n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE c.oid = to_regclass(%s) AND c.relkind = 'm'"""
# The part of CREATE INDEX after the names: it fits any relation.
_INDEXES = """
    SELECT i.relname::text, x.indisunique,
           substr(pg_get_indexdef(i.oid), 1 + length(format('CREATE %%sINDEX %%I ON %%I.%%I ',
               CASE WHEN x.indisunique THEN 'UNIQUE ' END, i.relname, n.nspname, v.relname)))
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class v ON v.oid = x.indrelid JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE x.indrelid = %s AND x.indisvalid ORDER BY i.oid"""
_GRANTS = """
    SELECT privilege_type || ' ON %%s TO '
           || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
           || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = %s AND grantee <> c.relowner"""


async def migrate_view(connection: Connection, mapping: ViewMapping, options: L3Options) -> bool:
    """Rebuild a view that Terrace created from another query; False if it is up to date.

    Raises MappingProblem if that fails: then the old view stays as it was.
    """
    if refused := await query_problem(connection, mapping, options):
        raise refused
    try:
        async with connection.transaction():
            await lock(connection, f"terrace view {mapping.name}")
            found = await (await connection.execute(_FIND, (regclass(mapping),))).fetchone()
            was = await stored_query(connection, mapping, options)
            if found is None or was in (None, mapping.options.query):
                return False  # another proxy was first
            log.info("view %s: its query changed; building the new view", mapping.name)
            migration = _Migration(connection, mapping, *found)
            await migration.build()
            await migration.swap()
            await _record(connection, mapping, options)
    except psycopg.Error as error:
        if connection.closed:
            raise
        why = describe(error, options)
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        problem = f"its changed query is not applied: {why}{detail}"
        remedy = "correct query, key or the grants, or drop what depends on the view"
        raise MappingProblem(mapping.name, problem, remedy) from None
    log.info("view %s: the view of the new query has replaced the old one", mapping.name)
    return True


class _Migration:
    """The migration of one view, in the transaction of the caller."""

    def __init__(self, connection: Connection, mapping: ViewMapping, oid: int, schema: str) -> None:
        self._connection = connection
        self._mapping = mapping
        self._oid = oid
        self._schema = schema
        self._old = identifier(schema, mapping.relation[-1])
        self._new_name = f"terrace_next_{oid}"
        self._new = identifier(schema, self._new_name)
        self._indexes: list[tuple[str, str]] = []  # (present name, final name)

    async def build(self) -> None:
        create = render(
            "CREATE MATERIALIZED VIEW {view} AS {query}",
            view=self._new, query=query_of(self._mapping),
        )  # fmt: skip
        await once(self._connection, create)
        await self._copy_indexes()
        relation = sql.Identifier(self._schema, self._new_name).as_string(None)
        built = await relation_named(self._connection, self._schema, self._new_name)
        if built is None or not built.has_unique_index(self._mapping.columns):
            columns = joined(", ", [identifier(column) for column in self._mapping.columns])
            await self._run("CREATE UNIQUE INDEX ON {view} ({columns})", columns=columns)
        for (grant,) in await self._rows(_GRANTS):
            await self._run("GRANT {grant}", grant=verbatim(grant.replace("%s", relation, 1)))
        await self._run("ANALYZE {view}")

    async def swap(self) -> None:
        await self._drop_old()
        name = identifier(self._mapping.relation[-1])
        await self._run("ALTER MATERIALIZED VIEW {view} RENAME TO {name}", name=name)
        for name_now, name_then in self._indexes:
            index = identifier(self._schema, name_now)
            rename = "ALTER INDEX {index} RENAME TO {name}"
            await self._run(rename, index=index, name=identifier(name_then))

    async def _copy_indexes(self) -> None:
        for i, (name, is_unique, rest) in enumerate(await self._rows(_INDEXES)):
            own_name = f"{self._new_name}_{i}"
            parts = {"index": identifier(own_name), "rest": verbatim(rest)}
            try:
                async with self._connection.transaction():
                    if is_unique:
                        await self._run("CREATE UNIQUE INDEX {index} ON {view} {rest}", **parts)
                    else:
                        await self._run("CREATE INDEX {index} ON {view} {rest}", **parts)
            except (psycopg.ProgrammingError, psycopg.IntegrityError) as error:
                why = error.diag.message_primary
                log.warning("view %s: index %s was dropped: %s", self._mapping.name, name, why)
            else:
                self._indexes.append((own_name, name))

    async def _drop_old(self) -> None:
        """Request the lock often, and wait for it only briefly each time: readers queue behind."""
        set_timeout = f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
        await self._connection.execute(set_timeout)
        for attempt in range(LOCK_ATTEMPTS):
            try:
                async with self._connection.transaction():
                    await self._run("DROP MATERIALIZED VIEW {old}")
                return
            except psycopg.errors.LockNotAvailable:
                if attempt + 1 == LOCK_ATTEMPTS:
                    raise
                await asyncio.sleep(LOCK_PAUSE_S)

    async def _rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(query, (self._oid,))).fetchall()

    async def _run(self, template: LiteralString, **parts: sql.Composable) -> None:
        statement = render(template, old=self._old, view=self._new, **parts)
        await once(self._connection, statement)


async def _record(connection: Connection, mapping: ViewMapping, options: L3Options) -> None:
    """Record the new query, the new relation and a change of all keys, in one transaction."""
    relation = await relation_named(connection, *mapping.relation)
    assert relation is not None
    records = RefreshRecords(options.schema_name)
    await Relations(records, options.schema_name).adopt(connection, mapping.name, relation)
    change = await RefreshLog(options.schema_name).append(connection, mapping.name, None)
    update = render(
        "UPDATE {schema}.views SET query = %s WHERE view = %s",
        schema=identifier(options.schema_name),
    )
    await connection.execute(update, (mapping.options.query, mapping.name))
    for payload in notices.refresh_payloads(change):
        await connection.execute("SELECT pg_notify(%s, %s)", (options.schema_name, payload))
