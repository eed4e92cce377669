"""The table of the store: entries of Redis that outlive it.

Every statement may be repeated: an entry is only replaced by one of a higher version,
and a deleted key leaves a row without a value for a while, so that an older write
that arrives late does not bring it back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import LiteralString, TypeVar

import psycopg

from .errors import TierUnavailable
from .l3_connection import NAME, Connection, describe
from .l3_pool import LoadPool
from .l3_session import STORE, execute_one
from .l3_sql import identifier, render
from .options import L3Options
from .store_entry import Entry

log = logging.getLogger("terrace.l3.store")

T = TypeVar("T")

CLEANUP_INTERVAL_S = 30.0
CLEANUP_ROWS = 1000  # per statement: no lock is held for long
KEPT_S = 3600.0  # expired and deleted entries: far above any delay of a write, and any clock skew
LATEST_MS = 253_402_300_799_000  # the year 9999; Redis knows later expiries, PostgreSQL does not

TABLES: Mapping[str, tuple[LiteralString, ...]] = {
    "entries": (
        """
        CREATE TABLE {schema}.entries (
            key bytea PRIMARY KEY,
            type text,  -- 'string', or the Redis type that value is the DUMP of; NULL: deleted
            value bytea,
            json jsonb,  -- of strings that hold a JSON object or array
            expires_at timestamptz,
            version bigint NOT NULL  -- microseconds by the clock of Redis, never repeated
        )""",
        "CREATE INDEX ON {schema}.entries (expires_at) WHERE expires_at IS NOT NULL",
        "CREATE INDEX ON {schema}.entries (version) WHERE type IS NULL",
        """
        CREATE OR REPLACE FUNCTION {schema}.json_or_null(bytes bytea) RETURNS jsonb
        LANGUAGE plpgsql IMMUTABLE STRICT AS $$
        BEGIN
            RETURN convert_from(bytes, 'UTF8')::jsonb;
        EXCEPTION WHEN others THEN
            RETURN NULL;
        END $$""",
    ),
}

_UPSERT = """
    INSERT INTO {schema}.entries AS e (key, type, value, json, expires_at, version)
    SELECT k, t, v,
           CASE WHEN t = 'string' AND substr(v, 1, 1) IN ('\\x7b', '\\x5b')
                THEN {schema}.json_or_null(v) END,
           'epoch'::timestamptz + x * interval '1 millisecond', n
    FROM unnest(%s::bytea[], %s::text[], %s::bytea[], %s::int8[], %s::int8[]) AS w(k, t, v, x, n)
    ON CONFLICT (key) DO UPDATE SET
        type = excluded.type, value = excluded.value, json = excluded.json,
        expires_at = excluded.expires_at, version = excluded.version
    WHERE e.version < excluded.version"""
_VERSIONS = "SELECT key, version FROM {schema}.entries WHERE key = ANY(%s::bytea[])"
_SELECT = """
    SELECT key, type, value, (extract(epoch FROM expires_at) * 1000)::int8, version
    FROM {schema}.entries WHERE key = ANY(%s::bytea[])"""
_DELETE_EXPIRED = """
    DELETE FROM {schema}.entries WHERE key = ANY(ARRAY(
        SELECT key FROM {schema}.entries
        WHERE expires_at < now() - %s * interval '1 second'
        LIMIT %s FOR UPDATE SKIP LOCKED))"""
_DELETE_DELETED = """
    DELETE FROM {schema}.entries WHERE key = ANY(ARRAY(
        SELECT key FROM {schema}.entries
        WHERE type IS NULL AND version < (extract(epoch FROM now()) - %s) * 1000000
        LIMIT %s FOR UPDATE SKIP LOCKED))"""


class StoreTable:
    """Reads and writes entries. All methods raise TierUnavailable only."""

    def __init__(self, options: L3Options, clock: Callable[[], float]) -> None:
        self._options = options
        self.pool = LoadPool(options, clock, settings=STORE, purpose="store queries")
        self.lane = self.pool.lane(f"{options.schema_name}.entries", is_only=True)
        schema = identifier(options.schema_name)
        self._upsert = render(_UPSERT, schema=schema)
        self._versions = render(_VERSIONS, schema=schema)
        self._select = render(_SELECT, schema=schema)
        self._deletes = (
            render(_DELETE_EXPIRED, schema=schema),
            render(_DELETE_DELETED, schema=schema),
        )

    async def write(self, entries: Sequence[Entry]) -> dict[bytes, int]:
        """Store them where they are newer; the version in the table then, for each key."""
        rows = sorted(entries, key=lambda entry: entry.key)  # one order of locks for all proxies
        keys = [entry.key for entry in rows]
        columns = [
            keys,
            [None if entry.is_absent else entry.kind for entry in rows],
            [None if entry.is_absent else entry.value for entry in rows],
            [min(entry.expires_at_ms, LATEST_MS) or None for entry in rows],
            [entry.version for entry in rows],
        ]

        async def work(connection: Connection) -> dict[bytes, int]:
            written = await execute_one(connection, self._upsert, columns)
            if written.rowcount == len(rows):
                return {entry.key: entry.version for entry in rows}
            found = await execute_one(connection, self._versions, [keys])
            return dict(await found.fetchall())

        return await self._run(work)

    async def read(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries that have a row, those of deleted and of expired keys included."""

        async def work(connection: Connection) -> dict[bytes, Entry]:
            cursor = await execute_one(connection, self._select, [list(keys)], binary=True)
            return {
                key: Entry(key, version, kind.decode() if kind else "none", value or b"", ms or 0)
                for key, kind, value, ms, version in await cursor.fetchall()
            }

        return await self._run(work)

    async def clean(self, kept_s: float = KEPT_S) -> int:
        """Remove what has been expired or deleted for long; returns how many rows."""
        removed = 0
        for statement in self._deletes:

            async def work(connection: Connection, statement: bytes = statement) -> int:
                return (await execute_one(connection, statement, (kept_s, CLEANUP_ROWS))).rowcount

            while (count := await self._run(work)) > 0:
                removed += count
        return removed

    async def keep_clean(self) -> None:
        while True:
            await asyncio.sleep(CLEANUP_INTERVAL_S)
            try:
                if removed := await self.clean():
                    log.info("%d expired or deleted entries were removed", removed)
            except TierUnavailable as failure:
                log.debug("no cleanup: %s", failure.reason)

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self.pool.run(work, self.lane)
        except psycopg.Error as error:
            reason = f"{self._options.schema_name}.entries: {describe(error, self._options)}"
            raise TierUnavailable(NAME, reason) from None
