"""The tiers behind the proxy, usable without it.

A tier answers reads: L1 from memory, L2 from Redis, L3 from PostgreSQL views; each
is asked only for what the one above does not have.
"""

from .options import (
    Bytes,
    L1Options,
    L2Options,
    L3Options,
    Options,
    Seconds,
    ViewOptions,
    parse_duration_s,
)

__all__ = [
    "Bytes",
    "L1Options",
    "L2Options",
    "L3Options",
    "Options",
    "Seconds",
    "ViewOptions",
    "parse_duration_s",
]
