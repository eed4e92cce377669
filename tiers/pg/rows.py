"""Reads rows of one view as Redis values: the SQL, its parameters, and the results.

Key text reaches SQL only as bound parameters; psycopg.sql quotes the identifiers. The
server makes the text of every value (JSON included), and Terrace passes its bytes on
unchanged.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from ..base import L3, Kind, Outcome, Value
from ..views import MAX_KEY_BYTES, ViewMapping
from .connection import Connection
from .session import execute_one
from .sql import identifier, joined, render
from .types import SEPARATOR, KeyType

_HIT = Kind.HIT  # saves the look-up of an enum member for every row
_KeyByText: TypeAlias = dict[bytes | tuple[bytes, ...], bytes]  # a tuple of several columns
STREAM_ROWS = 500  # per round trip; bounds memory
STREAM_LOCK_TIMEOUT_MS = 10_000  # views are warmed in turn: a locked one must not delay the next


class RelationReplaced(psycopg.ProgrammingError):
    """Another relation than the expected one answered the statement."""


class BoundView:
    """A mapping with the facts from the catalog that are needed to read its view."""

    def __init__(
        self,
        mapping: ViewMapping,
        oid: int,
        key_types: Sequence[KeyType],
        columns: Sequence[str],
        *,
        identity: str,
        namespace: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.mapping = mapping
        self.oid = oid
        self.identity = identity
        self.key_types = tuple(key_types)
        self._jitter = jitter
        self._hash_fields = tuple(column.encode() for column in columns)
        self.relation = identifier(namespace, mapping.relation[-1])
        self.key_texts = joined(", ", [_text(column) for column in mapping.columns])
        self._n_keys = len(mapping.columns)
        self._is_hash = mapping.kind == "hash"
        self._ttl_s, self._ttl_jitter = mapping.options.ttl_s, mapping.options.ttl_jitter
        values = self._values(columns)
        self._all_rows = render(
            "SELECT {keys}, {values} FROM {relation} v",
            keys=self.key_texts, values=values, relation=self.relation,
        )  # fmt: skip
        self._rows_by_key = render(
            "SELECT {keys}, {values} FROM {relation} v {by_key}",
            keys=self.key_texts, values=values, relation=self.relation, by_key=self._by_key(),
        )  # fmt: skip
        self._absent = Outcome(Kind.NEGATIVE, tier=L3, ttl_s=mapping.options.negative_ttl_s)

    def __repr__(self) -> str:
        types = ", ".join(key_type.name for key_type in self.key_types)
        return f"<BoundView {self.mapping.name} by ({types})>"

    def values_of(self, key: bytes) -> tuple[str, ...] | None:
        """The key column values, or None if no row can have this key."""
        values = self.mapping.parse(key)
        return values if values is not None and self._are_canonical(values) else None

    def key_of(self, texts: Sequence[bytes | None]) -> bytes | None:
        """The key of a row, from the text of its key columns; None if no key leads to it."""
        values = [text.decode() for text in texts if text is not None]
        if len(values) < self._n_keys or not self._are_canonical(values):
            return None
        return self.mapping.key_of(values)

    def _are_canonical(self, values: Sequence[str]) -> bool:
        pairs = zip(values, self.key_types, strict=True)
        return all(key_type.is_canonical(value) for value, key_type in pairs)

    async def load(self, connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Load all keys with one query: HIT or NEGATIVE for each. Raises psycopg.Error."""
        outcomes = dict.fromkeys(keys, self._absent)
        key_by_text, arrays = self._wanted(outcomes)
        if not key_by_text:
            return outcomes
        cursor = await execute_one(connection, self._rows_by_key, arrays, binary=True)
        is_single = self._n_keys == 1
        rows = await cursor.fetchall()
        self._check_relation(rows)
        for row in rows:
            # A collation may find "jfk" for "JFK", but only the exact text is the key.
            found = key_by_text.get(row[0] if is_single else row[: self._n_keys])
            if found is not None:
                outcomes[found] = self._outcome(row)
        return outcomes

    def _wanted(self, keys: Collection[bytes]) -> tuple[_KeyByText, list[str]]:
        """The keys that can have a row, by the text that the row's key columns will have, and
        the parameters of the query: an array for each column."""
        at = self.mapping.field_at
        if at and keys:  # the usual case: one check of all texts together
            texts = [key[at:] for key in keys]
            text = b"\0".join(texts).decode(errors="replace")
            if (
                all(texts)
                and max(map(len, texts)) + at <= MAX_KEY_BYTES
                and "\ufffd" not in text
                and text.count(SEPARATOR) == len(texts) - 1
                and self.key_types[0].are_canonical(text)
            ):
                return dict(zip(texts, keys, strict=True)), [array_literal(text)]
        key_by_text: _KeyByText = {}
        wanted: list[tuple[str, ...]] = []
        for key in keys:
            values = self.values_of(key)
            if values is not None:
                wanted.append(values)
                encoded = tuple(value.encode() for value in values)
                key_by_text[encoded[0] if len(encoded) == 1 else encoded] = key
        columns = zip(*wanted, strict=True)
        return key_by_text, [array_literal(SEPARATOR.join(column)) for column in columns]

    async def stream(
        self, connection: Connection, wanted: Callable[[bytes], bool]
    ) -> AsyncIterator[list[tuple[bytes, Outcome]]]:
        """All rows with a wanted key, some hundreds at a time, from one snapshot."""
        async with connection.transaction(), connection.cursor("terrace", binary=True) as cursor:
            await connection.execute(f"SET LOCAL lock_timeout = {STREAM_LOCK_TIMEOUT_MS}")
            await cursor.execute(self._all_rows, ())
            while rows := await cursor.fetchmany(STREAM_ROWS):
                self._check_relation(rows)
                batch = []
                for row in rows:
                    key = self.key_of(row[: self._n_keys])
                    if key is not None and wanted(key):
                        batch.append((key, self._outcome(row)))
                yield batch

    def _check_relation(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """The catalog named the fields of a hash, so the rows must come from that relation.
        All rows of one statement come from the same relation."""
        if self._is_hash and rows and rows[0][-1] != self.oid:
            raise RelationReplaced("another relation has the name of the view")

    def _outcome(self, row: tuple[Any, ...]) -> Outcome:
        value: Value | None
        if self._is_hash:
            pairs = zip(self._hash_fields, row[self._n_keys : -1], strict=True)
            value = {field: text for field, text in pairs if text is not None}
        else:
            value = row[self._n_keys]
            if value is None:  # reply = "string:<column>" and the column is NULL
                return self._absent
        ttl_s = self._ttl_s * (1.0 - self._ttl_jitter * self._jitter())
        return Outcome(_HIT, value, L3, "", ttl_s)

    def _values(self, columns: Sequence[str]) -> sql.Composable:
        if self.mapping.kind == "hash":
            texts = [_text(column) for column in columns]
            return joined(", ", [*texts, identifier("v", "tableoid")])
        if self.mapping.value_column is not None:
            return _text(self.mapping.value_column)
        # v.*, because v alone would be the column of that name if the view has one.
        return sql.SQL("row_to_json(v.*)::text")

    def _by_key(self) -> sql.Composable:
        """The condition. The index needs arrays of the exact column types."""
        arrays = [sql.SQL("%s::" + key_type.array) for key_type in self.key_types]
        columns = [identifier("v", column) for column in self.mapping.columns]
        if len(columns) == 1:
            return sql.SQL("WHERE {} = ANY({})").format(columns[0], arrays[0])
        names = [identifier(f"k{i}") for i in range(len(columns))]
        pairs = [sql.SQL("{} = w.{}").format(c, n) for c, n in zip(columns, names, strict=True)]
        return sql.SQL("JOIN unnest({}) AS w({}) ON {}").format(
            joined(", ", [*arrays]), joined(", ", names), joined(" AND ", [*pairs])
        )


def array_literal(text: str) -> str:
    """Texts joined by SEPARATOR, as a parameter that SQL casts to an array of their type.

    A list, which psycopg would adapt itself, costs more time per value.
    """
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return '{"' + text.replace(SEPARATOR, '","') + '"}'


def _text(column: str) -> sql.Composable:
    return sql.SQL("{}::text").format(identifier("v", column))
