"""Keys pushed by triggers of base tables: the function they call, and its outbox.

`<schema>.push(pattern, keys)` stores the keys in `<schema>.pushed` and notifies every
proxy, both in the transaction of the caller. The notices only make proxies drop at once
what they remember themselves. The leader works off the table, so a key that was pushed
while no proxy listened leaves Redis all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString, TypeAlias

from ..pg.connection import Connection
from ..pg.sql import identifier, render

Pushed: TypeAlias = list[tuple[str, list[str] | None]]  # pattern; its keys, None: all of them

ROWS_AT_ONCE = 500  # of the outbox; a row holds the keys of one call
MAX_KEYS = 10_000  # of one call; above it, all keys of the pattern

# A notice stays below 8000 bytes: keys of at most 3800 bytes that begin before byte 3900.
TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.pushed (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pattern text NOT NULL,
        keys text[],  -- NULL: any key of the pattern
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    """
    CREATE FUNCTION {schema}.push(pushed_pattern text, pushed_keys text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $terrace$
    DECLARE
        distinct_keys text[] := ARRAY(SELECT DISTINCT k FROM unnest(pushed_keys) k
                                      WHERE k IS NOT NULL);
    BEGIN
        IF octet_length(pushed_pattern) > 1000 THEN
            RAISE EXCEPTION 'the pattern is longer than 1000 bytes';
        END IF;
        IF pushed_keys IS NULL OR cardinality(distinct_keys) > 10000
           OR EXISTS (SELECT FROM unnest(distinct_keys) k
                      WHERE octet_length(to_json(k)::text) > 3800) THEN
            INSERT INTO {schema}.pushed (pattern) VALUES (pushed_pattern);
            PERFORM pg_notify({channel}, 'push-all ' || pushed_pattern);
        ELSIF cardinality(distinct_keys) > 0 THEN
            INSERT INTO {schema}.pushed (pattern, keys) VALUES (pushed_pattern, distinct_keys);
            PERFORM pg_notify({channel}, 'push ' || json_agg(k)::text)
            FROM (SELECT k, sum(octet_length(to_json(k)::text) + 2) OVER (ORDER BY k) / 3900 AS part
                  FROM unnest(distinct_keys) k) AS parts
            GROUP BY floor(part);
        END IF;
    END
    $terrace$""",
)


class PushOutbox:
    """SQL over `<schema>.pushed`, on the leader's connection. Raises psycopg.Error."""

    def __init__(self, schema_name: str) -> None:
        self._take = render(
            "DELETE FROM {schema}.pushed WHERE id = ANY(ARRAY(SELECT id FROM {schema}.pushed"
            " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING pattern, keys",
            schema=identifier(schema_name),
        )

    @asynccontextmanager
    async def taken(self, connection: Connection) -> AsyncIterator[Pushed]:
        """The oldest rows. They are deleted if the block ends without an error."""
        async with connection.transaction():
            cursor = await connection.execute(self._take, (ROWS_AT_ONCE,))
            yield [(pattern, keys) for pattern, keys in await cursor.fetchall()]
