"""Looks up the relations of the mappings in the catalog, and judges whether they fit.

A relation is more than its name. Migrations drop, create and rename relations, so the
names are looked up repeatedly: all mappings with one query, from one snapshot.
`Relation.identity` changes if another relation took the name, or if its columns or its
owner changed. An index or a privilege that comes or goes changes only whether it fits.

`judge` is pure. It finds every problem, each with the SQL that fixes it, and yields a
`BoundView` for a view that can be refreshed, even if it cannot be served yet.
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

# A name without a schema is looked up as the server does it: along the search path.
_LOOK_UP = """
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
    """The relation that had a name at one moment."""

    oid: int
    namespace: str
    kind: str  # pg_class.relkind
    is_populated: bool
    owner: int
    is_reachable: bool  # USAGE on its schema
    is_readable: bool
    is_maintained: bool  # this user may refresh it
    columns: tuple[Column, ...]
    unique_indexes: tuple[frozenset[int], ...]  # of plain columns, whole and valid

    @property
    def identity(self) -> str:
        text = repr([(c.number, c.name, c.type_name) for c in self.columns])
        return f"{self.oid} {self.owner} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def has_unique_index(self, names: Iterable[str]) -> bool:
        """Whether it has a unique index on exactly these columns."""
        numbers = {column.name: column.number for column in self.columns}
        return {numbers.get(name) for name in names} in self.unique_indexes


@dataclass(frozen=True, slots=True)
class Inspection:
    """A view as found. It can be served if it has no problems."""

    mapping: ViewMapping
    relation: Relation | None  # None: no relation has that name
    bound: BoundView | None  # None: it cannot even be refreshed
    problems: tuple[MappingProblem, ...]


async def look_up(
    connection: Connection, mappings: Iterable[ViewMapping]
) -> dict[str, Relation | None]:
    """The present relation of each mapping, by its view's name. Raises psycopg.Error."""
    return await _look_up(connection, [(m.name, *_qualified(m.relation)) for m in mappings])


async def relation_named(connection: Connection, *names: str) -> Relation | None:
    """The relation with a name, which may follow its schema's name. Raises psycopg.Error."""
    return (await _look_up(connection, [("", *_qualified(names))]))[""]


async def _look_up(
    connection: Connection, names: Sequence[tuple[str, str, str]]
) -> dict[str, Relation | None]:
    if not names:
        return {}
    columns = [list(column) for column in zip(*names, strict=True)]
    rows = await (await connection.execute(_LOOK_UP, columns)).fetchall()
    return {name: None if facts[0] is None else _relation(facts) for name, *facts in rows}


def _relation(facts: Sequence[Any]) -> Relation:
    oid, namespace, kind, is_populated, owner, *may, columns, unique_indexes = facts
    is_reachable, is_readable, is_maintained = map(bool, may)  # NULL: it is being dropped
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

    def problem(text: str, remedy: str) -> None:
        problems.append(MappingProblem(mapping.name, text, remedy))

    name = regclass(mapping)
    if relation is None:
        problem("does not exist", "create it, or give the mapping a query to create it from")
        return Inspection(mapping, None, None, tuple(problems))
    if relation.kind != "m":
        problem("is not a materialized view", "map a materialized view that selects from it")
        return Inspection(mapping, relation, None, tuple(problems))
    if not relation.is_reachable:
        remedy = f'run: GRANT USAGE ON SCHEMA {_quote(relation.namespace)} TO "{user}"'
        problem(f"is in a schema that {user} may not use", remedy)
    if not relation.is_readable:
        problem(f"may not be read by {user}", f'run: GRANT SELECT ON {name} TO "{user}"')
    if not relation.is_maintained and mapping.refresh_interval_s is not None:
        remedy = f'run: ALTER MATERIALIZED VIEW {name} OWNER TO "{user}", or set refresh = "manual"'
        problem(f"may not be refreshed by {user}, who does not own it", remedy)
    misfits = _misfits(mapping, relation)
    for text, remedy in misfits:
        problem(text, remedy)
    fits = not misfits
    if fits and not relation.has_unique_index(mapping.columns):
        fits = False
        columns = ", ".join(_quote(column) for column in mapping.columns)
        remedy = f"run: CREATE UNIQUE INDEX ON {name} ({columns})"
        problem(f"has no unique index on exactly ({columns})", remedy)
    if not relation.is_populated:
        problem("is not populated", f"run: REFRESH MATERIALIZED VIEW {name}")
    return Inspection(
        mapping, relation, _bound(mapping, relation) if fits else None, tuple(problems)
    )


def _misfits(mapping: ViewMapping, relation: Relation) -> list[tuple[str, str]]:
    """Columns that are missing, or have a type that no key can have; each with its remedy."""
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
            remedy = f"cast it in the view to one of {supported}"
            found.append((f'the key column "{name}" has the type {column.type_name}', remedy))
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
