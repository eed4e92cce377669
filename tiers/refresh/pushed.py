"""Keys pushed by triggers of base tables: the function they call, and its outbox.

`<schema>.push(pattern, keys)` notes the keys in `<schema>.pushed` and notifies every
proxy, both with the transaction of whoever calls it. The notices only make proxies
forget at once what they know by themselves; the table is what the leader works off, so
a key that was pushed while nobody listened leaves Redis all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString, TypeAlias

from ..pg.connection import Connection
from ..pg.sql import identifier, render

Pushed: TypeAlias = list[tuple[str, list[str] | None]]  # pattern; its keys, None: all of them

ROWS_AT_ONCE = 500  # of the outbox, each of one statement or transaction
MAX_KEYS = 10_000  # of one call; above it, all keys of the pattern

# A notice has less than 8000 bytes: "push ", and texts that end before 3900 and begin so.
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
        """The oldest rows; they are gone when the block ends well, else as they were."""
        async with connection.transaction():
            cursor = await connection.execute(self._take, (ROWS_AT_ONCE,))
            yield [(pattern, keys) for pattern, keys in await cursor.fetchall()]
