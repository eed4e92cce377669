"""The checks of PostgreSQL for `terrace check`, and of a connection pooler in front of it."""

from __future__ import annotations

import psycopg

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..options import L3Options
from ..pg.connection import (
    Connection,
    Connector,
    Deadline,
    close,
    describe,
    opened,
    session_option,
)
from ..pg.session import LOADS, configure, in_transaction
from .binding import Binder, Examination
from .schema import prepare_schema

_POOLED = "L3: l3.dsn leads through a connection pooler; only loads and the store use it"
_ELSEWHERE = (
    "l3.dsn and l3.direct_dsn lead to different servers or databases; both must lead to the same"
)


async def examine(connector: Connector, binder: Binder) -> Examination:
    """Connect once and list every problem; change nothing."""
    options = connector.options
    try:
        async with connector.connected("check") as connection:
            notes = await _pooler_notes(connection, options)
            obstacles = await prepare_schema(connection, options, create=False)
            found = await binder.check(connection)
            return Examination([*obstacles, *found.problems], [*notes, *found.notes])
    except (TierUnavailable, psycopg.Error) as error:
        reason = describe(error, options)
        if not reason.startswith("l3."):  # such a reason names the remedy itself
            option = f"l3.{session_option(options)}"
            reason = f"{option}: {reason}; check that PostgreSQL runs and the dsn is right"
        return Examination([reason], [])


async def _pooler_notes(connection: Connection, options: L3Options) -> list[str]:
    is_pooled = bool(options.direct_dsn) and await examine_pooler(options, connection)
    return [_POOLED] if is_pooled else []


async def examine_pooler(options: L3Options, direct: Connection) -> bool:
    """Whether l3.dsn leads through a pooler. Raises TierUnavailable if that cannot work."""
    connection = await opened(options, "dsn")
    try:
        with Deadline(connection, options.connect_timeout_s):
            await configure(connection, LOADS, "check", timeout_s=options.deadline_s)
            async with in_transaction(connection):
                through = await _database_of(connection)
            if through != await _database_of(direct):
                raise TierUnavailable(L3_POSTGRES, _ELSEWHERE)
    except psycopg.Error as error:
        raise TierUnavailable(L3_POSTGRES, f"l3.dsn: {describe(error, options)}") from None
    finally:
        await close(connection)
    return bool(connection.scope)


async def _database_of(connection: Connection) -> object:
    """A value that differs between any two databases, on one server or on copies of it."""
    query = (
        "SELECT pg_postmaster_start_time()::text, oid::int8 FROM pg_database"
        " WHERE datname = current_database()"
    )
    return await (await connection.execute(query)).fetchone()
