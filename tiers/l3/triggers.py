"""Triggers that push the keys of changed rows of a base table (`terrace install-triggers`).

A table and a pattern get one function and four statement-level triggers: transition
tables give all rows of a statement at once, so a bulk UPDATE pushes once. TRUNCATE
pushes every key of the pattern, and so does a statement that changes very many rows.
"""

from __future__ import annotations

import hashlib
import string

import psycopg
from psycopg import sql

from ..base import L3_POSTGRES
from ..errors import MappingProblem, TierUnavailable
from ..options import L3Options, ViewOptions
from ..pg.connection import Connector, describe
from ..pg.session import once
from ..refresh.pushed import MAX_KEYS
from ..views import ViewMapping
from .schema import prepare_schema

_EVENTS = {
    "INSERT": "REFERENCING NEW TABLE AS new_rows ",
    "UPDATE": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
    "DELETE": "REFERENCING OLD TABLE AS old_rows ",
    "TRUNCATE": "",
}

_FUNCTION = """\
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' AS {quote}
DECLARE
    pushed_keys text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        pushed_keys := ARRAY(SELECT DISTINCT {key} FROM new_rows AS r LIMIT {most});
    ELSIF TG_OP = 'DELETE' THEN
        pushed_keys := ARRAY(SELECT DISTINCT {key} FROM old_rows AS r LIMIT {most});
    ELSIF TG_OP = 'UPDATE' THEN
        pushed_keys := ARRAY(SELECT {key} FROM old_rows AS r
                             UNION SELECT {key} FROM new_rows AS r LIMIT {most});
    END IF;  -- TRUNCATE: NULL, for all keys
    PERFORM {push}({pattern}, pushed_keys);
    RETURN NULL;
END
{quote}"""


class Triggers:
    """The SQL for one table and one pattern. Raises MappingProblem for invalid ones."""

    def __init__(self, schema_name: str, table: str, pattern: str) -> None:
        parts = table.split(".")
        if not all(parts) or len(parts) > 2:
            raise MappingProblem(
                f"table {table}", "is not a table name", 'write "table" or "schema.table"'
            )
        try:
            ViewMapping(ViewOptions(keys=pattern, view=table))  # checks the pattern
        except MappingProblem as error:
            problem = error.problem.replace("keys = ", "--key ")
            raise MappingProblem(f"table {table}", problem, error.remedy) from None
        self._table = sql.Identifier(*parts).as_string(None)
        self._schema = schema_name
        self._pattern = pattern
        digest = hashlib.sha256(f"{table}\0{pattern}".encode()).hexdigest()[:12]
        self._name = f"terrace_push_{digest}"
        self._function = sql.Identifier(schema_name, self._name).as_string(None)

    def install(self) -> list[str]:
        """Statements that may run any number of times."""
        function = _FUNCTION.format(
            function=self._function,
            key=self._key(),
            push=sql.Identifier(self._schema, "push").as_string(None),
            pattern=sql.Literal(self._pattern).as_string(None),
            most=MAX_KEYS + 1,
            quote=f"${self._name}$",  # a digest of the pattern cannot be part of the pattern
        )
        triggers = [
            f"CREATE OR REPLACE TRIGGER {self._trigger(event)} AFTER {event} ON {self._table} "
            f"{tables}FOR EACH STATEMENT EXECUTE FUNCTION {self._function}()"
            for event, tables in _EVENTS.items()
        ]
        # The probe comes first: a function with a missing column would fail only when it fires.
        probe = f"SELECT {self._key()} FROM {self._table} AS r LIMIT 0"  # noqa: S608 (quoted)
        return [probe, function, *triggers]

    def drop(self) -> list[str]:
        triggers = [
            f"DROP TRIGGER IF EXISTS {self._trigger(event)} ON {self._table}" for event in _EVENTS
        ]
        return [*triggers, f"DROP FUNCTION IF EXISTS {self._function}()"]

    def _trigger(self, event: str) -> str:
        return sql.Identifier(f"{self._name}_{event.lower()}").as_string(None)

    def _key(self) -> str:
        parts = []
        for literal, field, _, _ in string.Formatter().parse(self._pattern):
            if literal:
                parts.append(sql.Literal(literal).as_string(None).strip())
            if field is not None:
                parts.append(f"r.{sql.Identifier(field).as_string(None)}::text")
        return " || ".join(parts)


async def run_triggers(options: L3Options, statements: list[str]) -> None:
    """All statements in one transaction. Raises TierUnavailable or MappingProblem."""
    connector = Connector(options)
    async with connector.connected("install-triggers") as connection:
        obstacles = await prepare_schema(connection, options)
        if obstacles:
            raise TierUnavailable(L3_POSTGRES, "; ".join(obstacles))
        try:
            async with connection.transaction():
                for statement in statements:
                    await once(connection, statement.replace("%", "%%").encode())
        except psycopg.OperationalError as error:
            raise TierUnavailable(L3_POSTGRES, describe(error, options)) from None
        except psycopg.Error as error:
            user = connection.info.user
            remedy = f"check the table and its columns, and that {user} owns the table"
            reason = f"{describe(error, options)}; {remedy}"
            raise TierUnavailable(L3_POSTGRES, reason) from None
