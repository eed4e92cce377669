"""Sessions, exclusive or shared through a pooler, and the settings of Terrace's statements.

An exclusive session keeps its settings, and its statements are prepared once. A connection
pooler gives the session to other applications between two transactions, or after the
connection, with all that Terrace left in it. So there every setting lasts one transaction,
statements have no names, and the connection string sets nothing, since poolers keep that, too.

The process id reveals a pooler: the server names another id than the one announced at
connecting, because a pooler invents the keys that cancel queries.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.types.string import ByteaBinaryLoader

from ..base import L3_POSTGRES
from ..errors import TierUnavailable

PREPARED_AFTER = 5  # executions of a statement
PROBE_LOCK_TIMEOUT_MS = 100

T = TypeVar("T")
_Row: TypeAlias = tuple[Any, ...]


class Connection(AsyncConnection[_Row]):
    """Prepares no statement until the session is known to be exclusive.

    `scope` is the SQL that begins each transaction of a shared session, else b"".
    `writes` says that such a transaction has something to commit.
    `kept_backend` is the process that a pooler in session mode assigned to the connection.
    """

    scope: bytes = b""
    writes: bool = False
    kept_backend: int = 0


# Settings are SQL expressions by name.
Settings = Mapping[str, LiteralString]

# Text forms must not depend on the role or the database, or two proxies would cache
# different bytes for one row.
TEXT_FORMS: Settings = {
    "datestyle": "'ISO, YMD'",
    "timezone": "'UTC'",
    "intervalstyle": "'iso_8601'",
    "bytea_output": "'hex'",
    "extra_float_digits": "'1'",
}

# Loads only fetch rows by their unique key. Statistics of a view are often missing or
# outdated right after a refresh, and a cached plan with a scan would stay. So these settings
# leave the planner only index plans, and it plans once per prepared statement.
LOADS: Settings = {
    "plan_cache_mode": "'force_generic_plan'",
    "jit": "'off'",
    "enable_seqscan": "'off'",
    "enable_hashjoin": "'off'",
    "enable_mergejoin": "'off'",
    "transaction_read_only": "'on'",
}

# synchronous_commit = off suits a cache, but it gives no durability.
STORE: Settings = {
    "plan_cache_mode": "'force_generic_plan'",
    "jit": "'off'",
    "synchronous_commit": (
        "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
        " ELSE current_setting('synchronous_commit') END"
    ),
}

_OF_SESSIONS = {"transaction_read_only": "default_transaction_read_only"}


def _set(settings: Mapping[str, str], *, is_local: bool) -> bytes:
    scope = "true" if is_local else "false"
    calls = (f"set_config('{name}', {value}, {scope})" for name, value in settings.items())
    return f"SELECT {', '.join(calls)}".encode()


async def backend_of(connection: Connection) -> int:
    """The process that serves this connection now."""
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def configure(
    connection: Connection, settings: Settings, purpose: str, *, timeout_s: float = 0.0
) -> None:
    """Prepare a connection that works only in transactions. Raises TierUnavailable."""
    if await backend_of(connection) == connection.info.backend_pid:
        await configure_session(connection, settings, purpose, timeout_s=timeout_s)
        return
    encoding = connection.info.parameter_status("client_encoding")
    if encoding != "UTF8":
        user = connection.info.user
        reason = (
            f"l3.dsn: the connection pooler delivers texts as {encoding}; "
            f"run: ALTER ROLE \"{user}\" SET client_encoding = 'UTF8'"
        )
        raise TierUnavailable(L3_POSTGRES, reason)
    _read_texts_as_bytes(connection)
    connection.writes = "transaction_read_only" not in settings
    connection.scope = _set({**TEXT_FORMS, **settings, **_timeout(timeout_s)}, is_local=True)


async def configure_session(
    connection: Connection, settings: Settings, purpose: str, *, timeout_s: float = 0.0
) -> None:
    """Prepare a session that is known to be exclusive."""
    _read_texts_as_bytes(connection)
    connection.prepare_threshold = PREPARED_AFTER
    every = {**TEXT_FORMS, **settings, **_timeout(timeout_s)}
    session = {_OF_SESSIONS.get(name, name): value for name, value in every.items()}
    if not connection.info.parameter_status("application_name"):
        session["application_name"] = f"'terrace {purpose}'"
    await connection.execute(_set({**session, "client_encoding": "'UTF8'"}, is_local=False))


def _timeout(timeout_s: float) -> dict[str, str]:
    return {"statement_timeout": f"'{max(1, int(timeout_s * 1000))}'"} if timeout_s else {}


def _read_texts_as_bytes(connection: Connection) -> None:
    # Queries select every value as ::text in binary format, and Terrace needs bytes.
    connection.adapters.register_loader("text", ByteaBinaryLoader)


async def execute_one(
    connection: Connection, query: bytes, parameters: Sequence[Any], *, binary: bool = False
) -> AsyncCursor[_Row]:
    """Run one statement, in one round trip.

    A shared session gets the settings together with it. All statements before one Sync are
    one transaction, so a read needs neither BEGIN nor COMMIT, and its error leaves nothing
    open. A write has both, since psycopg does not handle a Sync that fails to commit.
    """
    cursor = connection.cursor(binary=binary)
    if not connection.scope:
        return await cursor.execute(query, parameters, prepare=True)
    try:
        async with connection.pipeline():
            if connection.writes:
                await connection.execute("BEGIN")
            await connection.execute(connection.scope)
            await cursor.execute(query, parameters)
            if connection.writes:
                await connection.execute("COMMIT")
    except psycopg.Error:
        if connection.writes and not connection.closed:
            await connection.rollback()
        raise
    return cursor


@contextlib.asynccontextmanager
async def in_transaction(connection: Connection, *, snapshot: bool = False) -> AsyncIterator[None]:
    """Run several statements, on one snapshot if `snapshot` is true."""
    if not (snapshot or connection.scope):
        yield
        return
    async with connection.transaction():
        if snapshot:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if connection.scope:
            await connection.execute(connection.scope)
        yield


@contextlib.asynccontextmanager
async def short_lock_timeout(connection: Connection) -> AsyncIterator[None]:
    """Statements of the block give up on a lock almost at once."""
    wait = f"set_config('lock_timeout', '{PROBE_LOCK_TIMEOUT_MS}', "
    scope = connection.scope
    if scope:
        connection.scope = scope + f", {wait}true)".encode()
        try:
            yield
        finally:
            connection.scope = scope
        return
    await connection.execute(f"SELECT {wait}false)".encode())
    try:
        yield
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            await connection.execute("RESET lock_timeout")
        else:
            await connection.close()  # broken, or in the middle of a transaction


def together(work: Callable[[Connection], Awaitable[T]]) -> Callable[[Connection], Awaitable[T]]:
    """Run work of several statements in one transaction with Terrace's settings."""

    async def within(connection: Connection) -> T:
        async with in_transaction(connection):
            return await work(connection)

    return within


async def once(connection: Connection, statement: bytes) -> None:
    """Run text that comes from the configuration.

    In the binary format psycopg always uses the extended protocol, and there the server
    refuses a text of more than one statement before it runs any.
    """
    await connection.execute(statement, (), binary=True)


async def columns_of(connection: Connection, statement: bytes) -> list[str]:
    """The columns of one statement's result; the server parses it but does not run it."""
    pgconn = connection.pgconn
    async with connection.lock:
        for send in (
            partial(pgconn.send_prepare, b"", statement),
            partial(pgconn.send_describe_prepared, b""),
        ):
            send()
            (result,) = await connection.wait(execute(pgconn))
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)
    names = (result.fname(i) for i in range(result.nfields))
    return [name.decode() for name in names if name is not None]
