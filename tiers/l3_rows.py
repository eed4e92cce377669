"""Rows of one view as Redis values: the SQL, its parameters, and reading the results.

Key text reaches SQL only as bound parameters; identifiers are quoted by psycopg.sql.
The server makes every value's text (JSON included), and it is passed on as the bytes
that arrived.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from psycopg import sql

from .base import Kind, Outcome, Value
from .l3_connection import Connection
from .l3_sql import identifier, joined, render
from .l3_types import KeyType
from .views import ViewMapping

TIER = "L3"
STREAM_ROWS = 500  # per round trip; bounds memory


class BoundView:
    """A mapping and what the catalog says of its view: all that is needed to read it."""

    def __init__(
        self,
        mapping: ViewMapping,
        oid: int,
        key_types: Sequence[KeyType],
        columns: Sequence[str],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.mapping = mapping
        self.oid = oid
        self.key_types = tuple(key_types)
        self._jitter = jitter
        self._hash_fields = tuple(column.encode() for column in columns)
        self.relation = identifier(*mapping.relation)
        self.key_texts = joined(", ", [_text(column) for column in mapping.columns])
        self._n_keys = len(mapping.columns)
        self._is_canonical = self.key_types[0].is_canonical
        values = self._values(columns)
        self._all_rows = render(
            "SELECT {keys}, {values} FROM {relation} v",
            keys=self.key_texts, values=values, relation=self.relation,
        )  # fmt: skip
        self._rows_by_key = render(
            "SELECT {keys}, {values} FROM {relation} v {by_key}",
            keys=self.key_texts, values=values, relation=self.relation, by_key=self._by_key(),
        )  # fmt: skip
        self._absent = Outcome(Kind.NEGATIVE, tier=TIER, ttl_s=mapping.options.negative_ttl_s)

    def __repr__(self) -> str:
        types = ", ".join(key_type.name for key_type in self.key_types)
        return f"<BoundView {self.mapping.name} by ({types})>"

    def values_of(self, key: bytes) -> tuple[str, ...] | None:
        """The key column values, or None if no row can have this key."""
        values = self.mapping.parse(key)
        return values if values is not None and self._are_canonical(values) else None

    def key_of(self, texts: Sequence[bytes | None]) -> bytes | None:
        """The key of a row by its key columns' text; None if no key leads to this row."""
        values = [text.decode() for text in texts if text is not None]
        if len(values) < self._n_keys or not self._are_canonical(values):
            return None
        return self.mapping.key_of(values)

    def _are_canonical(self, values: Sequence[str]) -> bool:
        if self._n_keys == 1:
            return self._is_canonical(values[0])
        pairs = zip(values, self.key_types, strict=True)
        return all(key_type.is_canonical(value) for value, key_type in pairs)

    async def load(self, connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """All keys by one query: HIT or NEGATIVE for each. Raises psycopg.Error."""
        outcomes = dict.fromkeys(keys, self._absent)
        # By the text of the key column, or a tuple of them all: most views have one.
        key_by_text: dict[bytes | tuple[bytes, ...], bytes] = {}
        wanted: list[tuple[str, ...]] = []
        is_single = self._n_keys == 1
        for key in outcomes:
            values = self.values_of(key)
            if values is not None:
                wanted.append(values)
                text = values[0].encode() if is_single else tuple(v.encode() for v in values)
                key_by_text[text] = key
        if not wanted:
            return outcomes
        cursor = connection.cursor(binary=True)
        arrays = [array_literal(column) for column in zip(*wanted, strict=True)]
        await cursor.execute(self._rows_by_key, arrays, prepare=True)
        for row in await cursor.fetchall():
            # A collation may find "jfk" for "JFK": only the very text asked for is the key.
            found = key_by_text.get(row[0] if is_single else row[: self._n_keys])
            if found is not None:
                outcomes[found] = self._outcome(row)
        return outcomes

    async def stream(
        self, connection: Connection, wanted: Callable[[bytes], bool]
    ) -> AsyncIterator[list[tuple[bytes, Outcome]]]:
        """All rows with a wanted key, some hundred at a time, from one snapshot."""
        async with connection.transaction(), connection.cursor("terrace", binary=True) as cursor:
            await cursor.execute(self._all_rows, ())
            while rows := await cursor.fetchmany(STREAM_ROWS):
                batch = []
                for row in rows:
                    key = self.key_of(row[: self._n_keys])
                    if key is not None and wanted(key):
                        batch.append((key, self._outcome(row)))
                yield batch

    def _outcome(self, row: tuple[Any, ...]) -> Outcome:
        value: Value | None
        if self.mapping.kind == "hash":
            pairs = zip(self._hash_fields, row[self._n_keys :], strict=True)
            value = {field: text for field, text in pairs if text is not None}
        else:
            value = row[self._n_keys]
            if value is None:  # reply = "string:<column>" and the column is NULL
                return self._absent
        options = self.mapping.options
        ttl_s = options.ttl_s * (1.0 - options.ttl_jitter * self._jitter())
        return Outcome(Kind.HIT, value, TIER, "", ttl_s)

    def _values(self, columns: Sequence[str]) -> sql.Composable:
        if self.mapping.kind == "hash":
            return joined(", ", [_text(column) for column in columns])
        if self.mapping.value_column is not None:
            return _text(self.mapping.value_column)
        # v.* and not v, which would be a column of that name if there is one.
        return sql.SQL("row_to_json(v.*)::text")

    def _by_key(self) -> sql.Composable:
        """The condition. Arrays have the columns' exact types, or the index would not serve."""
        arrays = [sql.SQL("%s::" + key_type.array) for key_type in self.key_types]
        columns = [identifier("v", column) for column in self.mapping.columns]
        if len(columns) == 1:
            return sql.SQL("WHERE {} = ANY({})").format(columns[0], arrays[0])
        names = [identifier(f"k{i}") for i in range(len(columns))]
        pairs = [sql.SQL("{} = w.{}").format(c, n) for c, n in zip(columns, names, strict=True)]
        return sql.SQL("JOIN unnest({}) AS w({}) ON {}").format(
            joined(", ", [*arrays]), joined(", ", names), joined(" AND ", [*pairs])
        )


def array_literal(values: Sequence[str]) -> str:
    """A parameter, to be cast to an array; psycopg's own way costs a step for each value."""
    text = "\0".join(values)  # a key never contains it
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return '{"' + text.replace("\0", '","') + '"}'


def _text(column: str) -> sql.Composable:
    return sql.SQL("{}::text").format(identifier("v", column))
