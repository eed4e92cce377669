"""What Terrace needs in the database: its own schema, and views that fit their mappings.

Creation is guarded by advisory locks, because all proxies of a fleet start at once.
Inspection finds every problem of a view, each with the SQL that mends it, and yields a
`BoundView` for a view that can be refreshed, whether or not it can be served yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import sql

from .errors import MappingProblem
from .l3_connection import Connection, describe
from .l3_pushed import TABLE as PUSHED_TABLE
from .l3_rows import BoundView
from .l3_sql import identifier, joined, literal, render, verbatim
from .l3_store import TABLES as STORE_TABLES
from .l3_types import KEY_TYPES
from .options import L3Options
from .refresh_records import TABLE as REFRESHES_TABLE
from .views import ViewMapping

log = logging.getLogger("terrace.l3")

MIN_SERVER_VERSION = 140000  # scans by ranges of row addresses

# One statement per table, run only where it is missing: CREATE ... IF NOT EXISTS would
# ask for the right to create even when there is nothing to do.
_TABLES: Mapping[str, tuple[LiteralString, ...]] = {
    "views": (
        """
        CREATE TABLE {schema}.views (
            view text PRIMARY KEY,
            epoch bigint NOT NULL DEFAULT 0,  -- moves with every refresh that changed rows
            refreshed_at timestamptz,
            query text  -- what Terrace created the view from; NULL if it did not
        )""",
    ),
    "refreshes": REFRESHES_TABLE,
    "pushed": PUSHED_TABLE,
    "refresh_log": (
        """
        CREATE TABLE {schema}.refresh_log (
            view text,
            epoch bigint,
            keys text[],  -- the changed Redis keys; NULL: any key of the view
            applied boolean NOT NULL DEFAULT false,  -- published to Redis
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (view, epoch)
        )""",
    ),
}

_HAS_SCHEMA = "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL"
_HAS_TABLE = "SELECT to_regclass(quote_ident(%s) || '.' || quote_ident(%s)) IS NOT NULL"
_VIEW = """
    SELECT c.oid::int8, c.relkind::text, c.relispopulated, has_table_privilege(c.oid, 'SELECT'),
           pg_has_role(c.relowner, 'USAGE')
           OR current_setting('server_version_num')::int >= 170000
              AND has_table_privilege(c.oid, 'MAINTAIN')
    FROM pg_class c WHERE c.oid = to_regclass(%s)"""
_COLUMNS = """
    SELECT a.attnum::int4, a.attname::text, t.typname::text,
           format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_UNIQUE_INDEXES = """
    SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]
    FROM pg_index i
    WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL"""

_Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A view as found. It can be served when there are no problems."""

    mapping: ViewMapping
    exists: bool
    bound: BoundView | None  # None: it cannot even be refreshed
    problems: tuple[MappingProblem, ...]


async def prepare_schema(
    connection: Connection, options: L3Options, *, create: bool = True
) -> list[str]:
    """Create what is missing of Terrace's own schema; return what stands in the way.

    With `create` false it is tried and rolled back.
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
            wanted = {**_TABLES, **(STORE_TABLES if options.store else {})}
            for table, statements in wanted.items():
                if not await one(connection, _HAS_TABLE, name, table):
                    for ddl in statements:
                        statement = render(ddl, schema=identifier(name), channel=literal(name))
                        await connection.execute(statement, ())
    except psycopg.errors.InsufficientPrivilege as error:
        user = connection.info.user
        mend = f'CREATE SCHEMA IF NOT EXISTS "{name}" AUTHORIZATION "{user}"'
        return [f"l3.schema: {describe(error, options)}; run as a superuser: {mend}"]
    return []


async def create_view(connection: Connection, mapping: ViewMapping, options: L3Options) -> None:
    """Create a missing view from its `query`, with its unique index. Raises MappingProblem.

    A view that another proxy created meanwhile is left as it is.
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
    try:
        async with connection.transaction():
            await lock(connection, f"terrace view {mapping.name}")
            if await one(connection, "SELECT to_regclass(%s) IS NOT NULL", regclass(mapping)):
                return
            log.info("view %s is missing: creating it from its query", mapping.name)
            await connection.execute(create, ())
            await connection.execute(index, ())
            await connection.execute(render("ANALYZE {view}", view=view), ())
            await connection.execute(record, (mapping.name, mapping.options.query))
    except psycopg.OperationalError:
        raise  # the server, not the view
    except psycopg.Error as error:
        why = describe(error, options)
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        problem = f"creating it from its query failed: {why}{detail}"
        raise MappingProblem(mapping.name, problem, "correct query, key or the grants") from None


async def inspect_view(
    connection: Connection, mapping: ViewMapping, options: L3Options
) -> Inspection:
    """Compare a view with its mapping. Raises psycopg.OperationalError only."""
    try:
        return await _inspect(connection, mapping)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        mend = "grant the role USAGE on the view's schema"
        problem = MappingProblem(mapping.name, describe(error, options), mend)
        return Inspection(mapping, True, None, (problem,))


async def query_problem(
    connection: Connection, mapping: ViewMapping, options: L3Options
) -> MappingProblem | None:
    """What is wrong with the query of a view that does not exist yet, found without running it."""
    probe = render(
        "SELECT {columns} FROM ({query}\n) AS v LIMIT 0",  # the query may end with a comment
        query=query_of(mapping),
        columns=joined(", ", [identifier(column) for column in mapping.columns]),
    )
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(probe, ())
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        problem = f"its query is refused: {describe(error, options)}"
        return MappingProblem(mapping.name, problem, "correct query, key or the grants")
    return None


async def stored_query(
    connection: Connection, mapping: ViewMapping, options: L3Options
) -> str | None:
    """The query Terrace created the view from, None if it did not create it."""
    if not await one(connection, _HAS_TABLE, options.schema_name, "views"):
        return None
    ask = render("SELECT query FROM {s}.views WHERE view = %s", s=identifier(options.schema_name))
    stored: str | None = await one(connection, ask, mapping.name)
    return stored


async def has_key_index(connection: Connection, oid: int, mapping: ViewMapping) -> bool:
    """Whether a unique index is on exactly the key columns."""
    rows = await (await connection.execute(_COLUMNS, (oid,))).fetchall()
    numbers = {row[1]: row[0] for row in rows}
    key_numbers = {numbers.get(column) for column in mapping.columns}
    indexes = await (await connection.execute(_UNIQUE_INDEXES, (oid,))).fetchall()
    return any(set(row[0]) == key_numbers for row in indexes)


async def _inspect(connection: Connection, mapping: ViewMapping) -> Inspection:
    problems: list[MappingProblem] = []

    def problem(text: str, mend: str) -> None:
        problems.append(MappingProblem(mapping.name, text, mend))

    name = regclass(mapping)
    view = await (await connection.execute(_VIEW, (name,))).fetchone()
    if view is None:
        problem("does not exist", "create it, or give the mapping a query to create it from")
        return Inspection(mapping, False, None, tuple(problems))
    oid, kind, populated, readable, maintained = view
    if kind != "m":
        problem("is not a materialized view", "map a materialized view that selects from it")
        return Inspection(mapping, True, None, tuple(problems))
    user = connection.info.user
    if not readable:
        problem(f"may not be read by {user}", f'run: GRANT SELECT ON {name} TO "{user}"')
    if not maintained and mapping.refresh_interval_s is not None:
        mend = f'run: ALTER MATERIALIZED VIEW {name} OWNER TO "{user}", or set refresh = "manual"'
        problem(f"may not be refreshed by {user}, who does not own it", mend)
    rows = await (await connection.execute(_COLUMNS, (oid,))).fetchall()
    bound = _bind(mapping, oid, rows, problem)
    if bound is not None and not await has_key_index(connection, oid, mapping):
        bound = None
        columns = ", ".join(_quote(column) for column in mapping.columns)
        mend = f"run: CREATE UNIQUE INDEX ON {name} ({columns})"
        problem(f"has no unique index on exactly ({columns})", mend)
    if not populated:
        problem("is not populated", f"run: REFRESH MATERIALIZED VIEW {name}")
    return Inspection(mapping, True, bound, tuple(problems))


def _bind(
    mapping: ViewMapping, oid: int, rows: list[_Row], problem: Callable[[str, str], None]
) -> BoundView | None:
    names = [row[1] for row in rows]
    types = {row[1]: row[2] for row in rows}
    type_names = {row[1]: row[3] for row in rows}
    fits = True
    for column in (*mapping.columns, mapping.value_column):
        if column is not None and column not in types:
            fits = False
            problem(f'has no column "{column}"', f"its columns are {', '.join(names)}")
    for column in mapping.columns:
        if column in types and types[column] not in KEY_TYPES:
            fits = False
            supported = ", ".join(key_type.name for key_type in KEY_TYPES.values())
            mend = f"cast it in the view to one of {supported}"
            problem(f'the key column "{column}" has the type {type_names[column]}', mend)
    if not fits:
        return None
    return BoundView(mapping, oid, [KEY_TYPES[types[c]] for c in mapping.columns], names)


def query_of(mapping: ViewMapping) -> sql.Composable:
    return verbatim(mapping.options.query.strip().rstrip(";"))


def _quote(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def regclass(mapping: ViewMapping) -> str:
    return sql.Identifier(*mapping.relation).as_string(None)


async def lock(connection: Connection, name: str) -> None:
    """Held to the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))


async def one(connection: Connection, query: Any, *parameters: object) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return row[0] if row else None
