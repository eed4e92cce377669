"""An entry of the store, as it is kept in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key held, under the version at which it did."""

    key: bytes
    version: int
    kind: str  # a Redis type; "none": deleted
    value: bytes  # of a string; else its DUMP
    expires_at_ms: int  # since 1970; 0: never

    @property
    def is_absent(self) -> bool:
        return self.kind == "none"


@dataclass(frozen=True, slots=True)
class Capture:
    """One written key: what it held, and the lineage of the Redis that says so."""

    entry: Entry
    lineage: bytes
