"""An entry of the store, in the form that PostgreSQL holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """The content of a key at one version."""

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
    """One written key: its content, and the lineage of the Redis that held it."""

    entry: Entry
    lineage: bytes
