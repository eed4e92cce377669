"""The interface of a tier, and the outcomes that all tiers share.

A tier answers `get` with an `Outcome`, never with an exception: a hit, a miss, a
known absence, a stale value and an unavailable tier are five different answers,
and the caller decides by the predicates below. In particular an unavailable tier
is never reported as a miss (the application would trust a nil).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

Value: TypeAlias = bytes | dict[bytes, bytes]
"""A Redis string, or a Redis hash as field -> value."""

L1, L2, L3 = "L1", "L2", "L3"
"""The names of the tiers in outcomes and in TIER.EXPLAIN."""

L2_REDIS, L3_POSTGRES = f"{L2} (redis)", f"{L3} (postgres)"
"""The names of the lower tiers in errors and in the log."""

OWN_KEYS = b"__terrace:"
"""The prefix of Terrace's own keys in Redis."""


class Kind(enum.Enum):
    HIT = "hit"
    MISS = "miss"  # this tier does not have it; a tier below may
    NEGATIVE = "negative"  # known not to exist
    STALE = "stale"  # a value that is no longer provably current
    UNAVAILABLE = "unavailable"  # the tier could not answer: neither a hit nor a miss


class Outcome(NamedTuple):
    """The answer of one tier for one key."""

    kind: Kind
    value: Value | None = None
    tier: str = ""
    reason: str = ""  # for UNAVAILABLE: the cause, in words for a user
    ttl_s: float | None = None

    @property
    def has_value(self) -> bool:
        """Whether the client may get `value` (a hit, or stale where allowed)."""
        return self.kind is Kind.HIT or self.kind is Kind.STALE

    @property
    def is_absent(self) -> bool:
        """Whether this tier allows the answer that the key does not exist."""
        return self.kind is Kind.MISS or self.kind is Kind.NEGATIVE

    @property
    def is_failure(self) -> bool:
        """An infrastructure error: moves breakers, must never become a nil."""
        return self.kind is Kind.UNAVAILABLE

    @property
    def asks_below(self) -> bool:
        """Whether the next tier should be asked."""
        return self.kind is Kind.MISS or self.kind is Kind.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Size:
    """The content of a tier, as far as it is cheap to measure."""

    used_bytes: int
    entries: int


@runtime_checkable
class Tier(Protocol):
    """The interface of every tier. Keys are bytes, in database 0 by default.

    get         never raises for an unavailable tier; see `Outcome`.
    invalidate  drops cached copies; the source of truth below keeps its data.
    explain     facts for TIER.EXPLAIN, as ordered (name, text) pairs; never raises.
    """

    name: str

    async def get(self, key: bytes) -> Outcome: ...

    async def invalidate(self, keys: Sequence[bytes]) -> None: ...

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]: ...


@runtime_checkable
class WritableTier(Tier, Protocol):
    """A tier that also stores.

    set and delete return only after the tier acknowledged; otherwise they raise
    `TierUnavailable`, and `outcome_unknown` says whether the write may have happened
    all the same.
    """

    async def set(self, key: bytes, value: bytes, *, ttl_s: float | None = None) -> None: ...

    async def delete(self, keys: Sequence[bytes]) -> int: ...
