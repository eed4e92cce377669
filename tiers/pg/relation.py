"""The relations behind the mappings, as the catalog has them: looked up, and judged.

A relation is more than its name. Migrations drop, create and rename relations every
night, so what stands behind a name is looked up again and again: all mappings by one
query, from one snapshot. `Relation.identity` changes when another relation took the
name, or when its columns or its owner changed; an index or a privilege that comes and
goes changes only whether it fits.

Judging is pure. It finds every problem, each with the SQL that mends it, and yields a
`BoundView` for a view that can be refreshed, whether or not it can be served yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ..errors import MappingProblem
from ..views import ViewMapping
from .connection import Connection
from .rows import BoundView
from .types import KEY_TYPES

# A name without a schema is looked for as the server would: along the search path.
_LOOK = """
    SELECT m.name, c.oid::int8, c.nspname::text, c.relkind::text, c.relispopulated,
           c.relowner::int8, has_schema_privilege(c.namespace, 'USAGE'),
           has_table_privilege(c.oid, 'SELECT'),
           pg_has_role(c.relowner, 'USAGE')
           OR current_setting('server_version_num')::int >= 170000
              AND has_table_privilege(c.oid, 'MAINTAIN'),
           (SELECT json_agg(json_build_array(a.attnum, a.attname, t.typname,
                                             format_type(a.atttypid, a.atttypmod))
                            ORDER BY a.attnum)
            FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
           (SELECT json_agg((i.indkey::int2[])[0:i.indnkeyatts - 1] ORDER BY i.indexrelid)
            FROM pg_index i
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
              AND i.indpred IS NULL AND i.indexprs IS NULL)
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS m(name, namespace, relname)
    LEFT JOIN LATERAL (
        SELECT c.oid, n.oid AS namespace, n.nspname, c.relkind, c.relispopulated, c.relowner
        FROM unnest(CASE WHEN m.namespace = '' THEN current_schemas(true)::text[]
                         ELSE ARRAY[m.namespace] END) WITH ORDINALITY AS path(name, at)
        JOIN pg_namespace n ON n.nspname = path.name
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = m.relname
        ORDER BY path.at LIMIT 1
    ) AS c ON true"""


@dataclass(frozen=True, slots=True)
class Column:
    number: int
    name: str
    type: str  # pg_type.typname
    type_name: str  # with its length, as people write it


@dataclass(frozen=True, slots=True)
class Relation:
    """What stands behind a name at one moment."""

    oid: int
    namespace: str
    kind: str  # pg_class.relkind
    is_populated: bool
    owner: int
    is_reachable: bool  # USAGE on its schema
    is_readable: bool
    is_maintained: bool  # may be refreshed
    columns: tuple[Column, ...]
    unique_indexes: tuple[frozenset[int], ...]  # of plain columns, whole and valid

    @property
    def identity(self) -> str:
        text = repr([(c.number, c.name, c.type_name) for c in self.columns])
        return f"{self.oid} {self.owner} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def has_unique_index(self, names: Iterable[str]) -> bool:
        """On exactly these columns."""
        numbers = {column.name: column.number for column in self.columns}
        return {numbers.get(name) for name in names} in self.unique_indexes


@dataclass(frozen=True, slots=True)
class Inspection:
    """A view as found. It can be served when there are no problems."""

    mapping: ViewMapping
    relation: Relation | None  # None: there is none of that name
    bound: BoundView | None  # None: it cannot even be refreshed
    problems: tuple[MappingProblem, ...]


async def look_up(
    connection: Connection, mappings: Iterable[ViewMapping]
) -> dict[str, Relation | None]:
    """What stands behind each mapping now, by its view's name. Raises psycopg.Error."""
    return await _look_up(connection, [(m.name, *_qualified(m.relation)) for m in mappings])


async def relation_named(connection: Connection, *names: str) -> Relation | None:
    """What a name stands for, qualified by the one before it. Raises psycopg.Error."""
    return (await _look_up(connection, [("", *_qualified(names))]))[""]


async def _look_up(
    connection: Connection, names: Sequence[tuple[str, str, str]]
) -> dict[str, Relation | None]:
    if not names:
        return {}
    columns = [list(column) for column in zip(*names, strict=True)]
    rows = await (await connection.execute(_LOOK, columns)).fetchall()
    return {name: None if facts[0] is None else _relation(facts) for name, *facts in rows}


def _relation(facts: Sequence[Any]) -> Relation:
    oid, namespace, kind, is_populated, owner, *may, columns, unique_indexes = facts
    is_reachable, is_readable, is_maintained = map(bool, may)  # NULL: just being dropped
    return Relation(
        oid, namespace, kind, is_populated, owner, is_reachable, is_readable, is_maintained,
        tuple(Column(*column) for column in columns or ()),
        tuple(frozenset(numbers) for numbers in unique_indexes or ()),
    )  # fmt: skip


def _qualified(names: Sequence[str]) -> tuple[str, str]:
    return (names[-2] if len(names) > 1 else "", names[-1])


def judge(mapping: ViewMapping, relation: Relation | None, user: str) -> Inspection:
    """Compare a relation with its mapping."""
    problems: list[MappingProblem] = []

    def problem(text: str, mend: str) -> None:
        problems.append(MappingProblem(mapping.name, text, mend))

    name = regclass(mapping)
    if relation is None:
        problem("does not exist", "create it, or give the mapping a query to create it from")
        return Inspection(mapping, None, None, tuple(problems))
    if relation.kind != "m":
        problem("is not a materialized view", "map a materialized view that selects from it")
        return Inspection(mapping, relation, None, tuple(problems))
    if not relation.is_reachable:
        mend = f'run: GRANT USAGE ON SCHEMA {_quote(relation.namespace)} TO "{user}"'
        problem(f"is in a schema that {user} may not use", mend)
    if not relation.is_readable:
        problem(f"may not be read by {user}", f'run: GRANT SELECT ON {name} TO "{user}"')
    if not relation.is_maintained and mapping.refresh_interval_s is not None:
        mend = f'run: ALTER MATERIALIZED VIEW {name} OWNER TO "{user}", or set refresh = "manual"'
        problem(f"may not be refreshed by {user}, who does not own it", mend)
    misfits = _misfits(mapping, relation)
    for text, mend in misfits:
        problem(text, mend)
    fits = not misfits
    if fits and not relation.has_unique_index(mapping.columns):
        fits = False
        columns = ", ".join(_quote(column) for column in mapping.columns)
        mend = f"run: CREATE UNIQUE INDEX ON {name} ({columns})"
        problem(f"has no unique index on exactly ({columns})", mend)
    if not relation.is_populated:
        problem("is not populated", f"run: REFRESH MATERIALIZED VIEW {name}")
    return Inspection(
        mapping, relation, _bound(mapping, relation) if fits else None, tuple(problems)
    )


def _misfits(mapping: ViewMapping, relation: Relation) -> list[tuple[str, str]]:
    """Columns that are missing, or of a type that no key can have; each with its mend."""
    by_name = {column.name: column for column in relation.columns}
    found = [
        (f'has no column "{column}"', f"its columns are {', '.join(by_name)}")
        for column in (*mapping.columns, mapping.value_column)
        if column is not None and column not in by_name
    ]
    for name in mapping.columns:
        column = by_name.get(name)
        if column is not None and column.type not in KEY_TYPES:
            supported = ", ".join(key_type.name for key_type in KEY_TYPES.values())
            mend = f"cast it in the view to one of {supported}"
            found.append((f'the key column "{name}" has the type {column.type_name}', mend))
    return found


def _bound(mapping: ViewMapping, relation: Relation) -> BoundView:
    types = {column.name: column.type for column in relation.columns}
    return BoundView(
        mapping,
        relation.oid,
        [KEY_TYPES[types[column]] for column in mapping.columns],
        list(types),
        identity=relation.identity,
        namespace=relation.namespace,
    )


def _quote(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def regclass(mapping: ViewMapping) -> str:
    return sql.Identifier(*mapping.relation).as_string(None)
