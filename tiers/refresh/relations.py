"""The recorded relation behind each view, shared by all proxies, in `<schema>.relations`.

Redis holds rows of the recorded relation. The proxy that finds another relation records
it in the same transaction that logs a change of all keys. So the rows of the old relation
leave Redis, even if no Terrace ran when it was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from ..pg.connection import Connection
from ..pg.relation import Relation
from ..pg.rows import BoundView
from ..pg.sql import identifier, render
from .records import RefreshRecords

TABLE: tuple[LiteralString, ...] = (
    """
    CREATE TABLE {schema}.relations (
        view text PRIMARY KEY,
        identity text NOT NULL,  -- OID, owner, digest of the columns
        replaced bigint NOT NULL DEFAULT 0,  -- how often the relation changed
        replaced_at timestamptz
    )""",
)


class Relations:
    """SQL over `<schema>.relations`, on connections of the caller. Raises psycopg.Error."""

    def __init__(self, records: RefreshRecords, schema_name: str) -> None:
        self._records = records
        schema = identifier(schema_name)
        self._unknown = render(
            "SELECT name FROM unnest(%s::text[], %s::text[]) AS seen(name, identity)"
            " LEFT JOIN {schema}.relations r ON view = name"
            " WHERE r.identity IS DISTINCT FROM seen.identity",
            schema=schema,
        )
        self._adopt = render(
            "INSERT INTO {schema}.relations AS r (view, identity) VALUES (%s, %s)"
            " ON CONFLICT (view) DO UPDATE SET identity = excluded.identity,"
            " replaced = r.replaced + 1, replaced_at = clock_timestamp()"
            " WHERE r.identity <> excluded.identity RETURNING replaced > 0",
            schema=schema,
        )

    async def unknown(self, connection: Connection, relations: Mapping[str, Relation]) -> list[str]:
        """Names of the views with another relation than the recorded one, or none recorded."""
        identities = [relation.identity for relation in relations.values()]
        cursor = await connection.execute(self._unknown, (list(relations), identities))
        return [name for (name,) in await cursor.fetchall()]

    async def adopt(
        self, connection: Connection, view: str, relation: Relation | BoundView
    ) -> bool:
        """Record the relation behind the view; true if another one was recorded before.

        Then the caller logs a change of all keys in the same transaction.
        """
        cursor = await connection.execute(self._adopt, (view, relation.identity))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return False
        await self._records.restart(connection, view, relation.oid)
        return True
