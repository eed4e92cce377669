"""The tiers behind the proxy, usable without it.

A tier answers reads with an `Outcome` (hit, negative, miss, stale, unavailable), never with
an exception, and never with a nil if it is down. From the fastest:

  L1  `L1Memory`    raw replies in this process, kept coherent by Redis' own tracking
  L2  `L2Redis`     the Redis that writes go to
  L3  `L3Postgres`  rows of materialized views, mapped to keys

`TieredCache` combines the three, and is itself a tier:

    async with TieredCache(L2Options(url="redis://127.0.0.1:6379")) as cache:
        await cache.set(b"greeting", b"hello", ttl_s=60)
        outcome = await cache.get(b"greeting")

The consistency promise: a hit was current in Redis at some instant no longer than
`l1.max_staleness` ago, and a caller that awaited its own write reads it. The rules
are in `coherence`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Kind, Outcome, Size, Tier, Value, WritableTier
from .errors import MappingProblem, ProtocolError, ServerError, TierError, TierUnavailable
from .l1.memory import L1Memory
from .l2.redis import L2Redis
from .l2.tls import CertificateError
from .options import L1Options, L2Options, L3Options, NamespaceOptions, StoreOptions, ViewOptions
from .stack import TieredCache

if TYPE_CHECKING:
    from .l3.postgres import L3Postgres

__all__ = [
    "CertificateError",
    "Kind",
    "L1Memory",
    "L1Options",
    "L2Options",
    "L2Redis",
    "L3Options",
    "L3Postgres",
    "MappingProblem",
    "NamespaceOptions",
    "Outcome",
    "ProtocolError",
    "ServerError",
    "Size",
    "StoreOptions",
    "Tier",
    "TierError",
    "TierUnavailable",
    "TieredCache",
    "Value",
    "ViewOptions",
    "WritableTier",
]

# They need psycopg, which takes a tenth of the time to start: imported when first asked for.
_WITH_PSYCOPG = {
    "L3Postgres": "tiers.l3.postgres",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_PSYCOPG:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_PSYCOPG[name]), name)
