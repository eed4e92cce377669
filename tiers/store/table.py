"""The table of the store: entries that outlive Redis.

Every statement may be repeated: only a higher version replaces an entry, and a deleted key
leaves a row without a value for a while, so that a late, older write does not bring it back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import LiteralString, NamedTuple, TypeVar

import psycopg

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..options import L3Options
from ..pg.connection import Connection, describe
from ..pg.pool import LoadPool
from ..pg.session import STORE, execute_one
from ..pg.sql import identifier, render
from .entry import Capture, Entry

log = logging.getLogger("terrace.l3.store")

T = TypeVar("T")

CLEANUP_INTERVAL_S = 30.0
CLEANUP_ROWS = 1000  # per statement: no lock is held for long
KEPT_S = 3600.0  # for expired and deleted entries: above any delay of a write or clock skew
LATEST_MS = 253_402_300_799_000  # the year 9999; Redis knows later expiries, PostgreSQL does not

TABLES: Mapping[str, tuple[LiteralString, ...]] = {
    "entries": (
        """
        CREATE TABLE {schema}.entries (
            key bytea PRIMARY KEY,
            type text,  -- 'string', or the Redis type whose DUMP is the value; NULL: deleted
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
    # The lineage that may write, see `lineage.py`. The lock makes a change of lineage wait for
    # writes under way, and a write reads the lineage only once it holds the lock.
    "lineage": (
        """
        CREATE TABLE {schema}.lineage (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            lineage bigint NOT NULL
        )""",
        """
        CREATE OR REPLACE FUNCTION {schema}.current_lineage() RETURNS bigint
        LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(hashtextextended(
                'terrace lineage ' || {channel}, 0));
            RETURN (SELECT lineage FROM {schema}.lineage);
        END $$""",
        """
        CREATE OR REPLACE FUNCTION {schema}.adopt_lineage(wanted bigint) RETURNS bigint
        LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('terrace lineage ' || {channel}, 0));
            INSERT INTO {schema}.lineage AS held (lineage) VALUES (wanted)
            ON CONFLICT (one) DO UPDATE SET lineage = wanted WHERE held.lineage < wanted;
            RETURN (SELECT lineage FROM {schema}.lineage);
        END $$""",
    ),
}

_UPSERT = """
    INSERT INTO {schema}.entries AS e (key, type, value, json, expires_at, version)
    SELECT k, t, v,
           CASE WHEN t = 'string' AND substr(v, 1, 1) IN ('\\x7b', '\\x5b')
                THEN {schema}.json_or_null(v) END,
           'epoch'::timestamptz + x * interval '1 millisecond', n
    FROM unnest(%s::bytea[], %s::text[], %s::bytea[], %s::int8[], %s::int8[], %s::int8[])
         AS w(k, t, v, x, n, l)
    WHERE l = (SELECT {schema}.current_lineage())
    ON CONFLICT (key) DO UPDATE SET
        type = excluded.type, value = excluded.value, json = excluded.json,
        expires_at = excluded.expires_at, version = excluded.version
    WHERE e.version < excluded.version"""
_VERSIONS = "SELECT key, version FROM {schema}.entries WHERE key = ANY(%s::bytea[])"
_LINEAGE = "SELECT lineage FROM {schema}.lineage"
_ADOPT = "SELECT {schema}.adopt_lineage(%s::int8)"
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


def _key_of(capture: Capture) -> bytes:
    return capture.entry.key


class Written(NamedTuple):
    versions: dict[bytes, int]  # in the table afterwards, of the keys that have a row
    lineage: bytes | None  # that of the table, if it did not take all entries


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
        self._lineage = render(_LINEAGE, schema=schema)
        self._adopt = render(_ADOPT, schema=schema)
        self._deletes = (
            render(_DELETE_EXPIRED, schema=schema),
            render(_DELETE_DELETED, schema=schema),
        )

    async def write(self, captures: Sequence[Capture]) -> Written:
        """Store the entries that are newer and of the table's lineage."""
        captures = sorted(captures, key=_key_of)  # one order of locks for all proxies
        rows = [capture.entry for capture in captures]
        keys = [entry.key for entry in rows]
        columns = [
            keys,
            [None if entry.is_absent else entry.kind for entry in rows],
            [None if entry.is_absent else entry.value for entry in rows],
            [min(entry.expires_at_ms, LATEST_MS) or None for entry in rows],
            [entry.version for entry in rows],
            [int(capture.lineage) for capture in captures],
        ]

        async def work(connection: Connection) -> Written:
            written = await execute_one(connection, self._upsert, columns)
            if written.rowcount == len(rows):
                return Written({entry.key: entry.version for entry in rows}, None)
            found = await execute_one(connection, self._versions, [keys])
            versions: dict[bytes, int] = dict(await found.fetchall())
            return Written(versions, await self._lineage_by(connection, self._lineage))

        return await self._run(work)

    async def lineage(self) -> bytes:
        """The lineage of the table; b"0" for none yet."""
        return await self._run(partial(self._lineage_by, statement=self._lineage))

    async def adopt(self, lineage: bytes) -> bytes:
        """Give the table this lineage unless it has a newer one; return the one it has then."""
        return await self._run(
            partial(self._lineage_by, statement=self._adopt, parameters=(int(lineage),))
        )

    async def _lineage_by(
        self, connection: Connection, statement: bytes, parameters: Sequence[int] = ()
    ) -> bytes:
        row = await (await execute_one(connection, statement, parameters)).fetchone()
        return b"%d" % row[0] if row is not None else b"0"

    async def read(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries that have a row, also those of deleted and of expired keys."""

        async def work(connection: Connection) -> dict[bytes, Entry]:
            cursor = await execute_one(connection, self._select, [list(keys)], binary=True)
            return {
                key: Entry(key, version, kind.decode() if kind else "none", value or b"", ms or 0)
                for key, kind, value, ms, version in await cursor.fetchall()
            }

        return await self._run(work)

    async def known(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that have a row."""

        async def work(connection: Connection) -> list[bytes]:
            found = await execute_one(connection, self._versions, [list(keys)])
            return [key for key, _ in await found.fetchall()]

        return await self._run(work) if keys else []

    async def clean(self, kept_s: float = KEPT_S) -> int:
        """Remove rows that expired or were deleted long ago; return their number."""
        removed = 0
        for statement in self._deletes:

            async def work(connection: Connection, statement: bytes = statement) -> int:
                return (await execute_one(connection, statement, (kept_s, CLEANUP_ROWS))).rowcount

            while (count := await self._run(work)) > 0:
                removed += count
        return removed

    async def clean_up(self) -> None:
        """`clean`, for the janitor."""
        try:
            if removed := await self.clean():
                log.info("removed %d expired or deleted entries", removed)
        except TierUnavailable as failure:
            log.debug("cannot clean up the store: %s", failure.reason)

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self.pool.run(work, self.lane)
        except psycopg.Error as error:
            reason = f"{self._options.schema_name}.entries: {describe(error, self._options)}"
            raise TierUnavailable(L3_POSTGRES, reason) from None
