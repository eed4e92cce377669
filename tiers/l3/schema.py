"""Creates Terrace's own schema in the database, and views from a configured query.

Advisory locks guard the creation, because all proxies of a fleet may start at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from ..errors import MappingProblem
from ..options import L3Options
from ..pg.connection import Connection, describe
from ..pg.relation import regclass
from ..pg.session import columns_of, once
from ..pg.sql import identifier, joined, literal, render, verbatim
from ..refresh.log import ADDED_COLUMNS, HISTORY_TABLE, LOG_TABLE, VIEWS_TABLE
from ..refresh.pushed import TABLE as PUSHED_TABLE
from ..refresh.records import TABLE as REFRESHES_TABLE
from ..refresh.relations import TABLE as RELATIONS_TABLE
from ..store.table import TABLES as STORE_TABLES
from ..views import ViewMapping

log = logging.getLogger("terrace.l3")

MIN_SERVER_VERSION = 140000  # scans by ranges of row addresses
PARSE_LOCK_TIMEOUT_MS = 500  # the parser waits for tables that another session alters

# These statements run only if the table is missing: CREATE ... IF NOT EXISTS needs the
# privilege to create even if the table exists.
_TABLES: Mapping[str, tuple[LiteralString, ...]] = {
    "views": VIEWS_TABLE,
    "refreshes": REFRESHES_TABLE,
    "relations": RELATIONS_TABLE,
    "pushed": PUSHED_TABLE,
    "refresh_log": LOG_TABLE,
    "history": HISTORY_TABLE,
}

_HAS_SCHEMA = "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL"
_HAS_TABLE = "SELECT to_regclass(quote_ident(%s) || '.' || quote_ident(%s)) IS NOT NULL"
_HAS_COLUMN = (
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid ="
    " to_regclass(quote_ident(%s) || '.' || quote_ident(%s)) AND attname = %s"
    " AND NOT attisdropped)"
)


async def prepare_schema(
    connection: Connection, options: L3Options, *, create: bool = True
) -> list[str]:
    """Create the missing parts of Terrace's own schema; return the obstacles.

    If `create` is false, try it and roll back.
    """
    if connection.info.server_version < MIN_SERVER_VERSION:
        version = connection.info.server_version // 10000
        return [f"PostgreSQL {version} is too old; Terrace needs version 14 or newer"]
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        return [f"the database has the encoding {encoding}; keys need one created with UTF8"]
    name = options.schema_name
    try:
        async with connection.transaction(force_rollback=not create):
            await lock(connection, f"terrace schema {name}")
            if not await one(connection, _HAS_SCHEMA, name):
                statement = render("CREATE SCHEMA {schema}", schema=identifier(name))
                await connection.execute(statement, ())
            tables = {**_TABLES, **(STORE_TABLES if options.store else {})}
            for table, statements in tables.items():
                if not await one(connection, _HAS_TABLE, name, table):
                    for ddl in statements:
                        statement = render(ddl, schema=identifier(name), channel=literal(name))
                        await connection.execute(statement, ())
            for table, columns in ADDED_COLUMNS.items():
                for column, ddl in columns.items():
                    if not await one(connection, _HAS_COLUMN, name, table, column):
                        await connection.execute(render(ddl, schema=identifier(name)), ())
    except psycopg.errors.InsufficientPrivilege as error:
        user = connection.info.user
        remedy = f'CREATE SCHEMA IF NOT EXISTS "{name}" AUTHORIZATION "{user}"'
        return [f"l3.schema: {describe(error, options)}; run as a superuser: {remedy}"]
    return []


async def create_view(connection: Connection, mapping: ViewMapping, options: L3Options) -> None:
    """Create a missing view from its `query`, with its unique index. Raises MappingProblem.

    A view that another proxy created meanwhile stays as it is.
    """
    view = identifier(*mapping.relation)
    columns = joined(", ", [identifier(column) for column in mapping.columns])
    create = render(
        "CREATE MATERIALIZED VIEW {view} AS {query}", view=view, query=query_of(mapping)
    )
    index = render("CREATE UNIQUE INDEX ON {view} ({columns})", view=view, columns=columns)
    record = render(
        "INSERT INTO {schema}.views (view, refreshed_at, query) VALUES (%s, now(), %s)"
        " ON CONFLICT (view) DO UPDATE SET refreshed_at = now(), query = excluded.query",
        schema=identifier(options.schema_name),
    )
    if refused := await query_problem(connection, mapping, options):
        raise refused
    try:
        async with connection.transaction():
            await lock(connection, f"terrace view {mapping.name}")
            if await one(connection, "SELECT to_regclass(%s) IS NOT NULL", regclass(mapping)):
                return
            log.info("view %s is missing: creating it from its query", mapping.name)
            await once(connection, create)
            await connection.execute(index, ())
            await connection.execute(render("ANALYZE {view}", view=view), ())
            await connection.execute(record, (mapping.name, mapping.options.query))
    except psycopg.OperationalError:
        raise  # a problem of the server, not of the view
    except psycopg.Error as error:
        why = describe(error, options)
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        problem = f"creating it from its query failed: {why}{detail}"
        raise MappingProblem(mapping.name, problem, "correct query, key or the grants") from None


async def query_problem(
    connection: Connection, mapping: ViewMapping, options: L3Options
) -> MappingProblem | None:
    """The problem of a view's query, found without running it; None if it has none.

    The server parses it twice, alone and as the definition of a view. A text that closes a
    bracket to inject SQL passes at most one of the two.
    """
    query = mapping.options.query.encode()
    define = render("CREATE MATERIALIZED VIEW terrace_probe AS {query}", query=query_of(mapping))
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(f"SET LOCAL lock_timeout = {PARSE_LOCK_TIMEOUT_MS}")
            columns = await columns_of(connection, query)
            await columns_of(connection, define.replace(b"%%", b"%"))
    except psycopg.OperationalError:
        if connection.closed:
            raise
        return None  # a table is locked; that says nothing about the query
    except psycopg.Error as error:
        problem = f"its query is refused: {describe(error, options)}"
    else:
        lacking = [column for column in mapping.columns if column not in columns]
        if not lacking:
            return None
        problem = f'its query is refused: column "{lacking[0]}" does not exist in its result'
    remedy = "query has to be one SELECT: correct it, key or the grants"
    return MappingProblem(mapping.name, problem, remedy)


async def stored_query(
    connection: Connection, mapping: ViewMapping, options: L3Options
) -> str | None:
    """The query from which Terrace created the view; None if it did not create it."""
    if not await one(connection, _HAS_TABLE, options.schema_name, "views"):
        return None
    ask = render("SELECT query FROM {s}.views WHERE view = %s", s=identifier(options.schema_name))
    stored: str | None = await one(connection, ask, mapping.name)
    return stored


def query_of(mapping: ViewMapping) -> sql.Composable:
    return verbatim(mapping.options.query)


async def lock(connection: Connection, name: str) -> None:
    """Take an advisory lock until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))


async def one(connection: Connection, query: Any, *parameters: object) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return row[0] if row else None
