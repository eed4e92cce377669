"""Terrace's own commands."""

from __future__ import annotations

from ..access import invalidate_keys
from ..command import Kind, row

ROWS = (
    row(
        "TIER.AUDIT",
        Kind.OWN,
        "-1 @admin @slow @dangerous",
        handler="tier.audit",
        summary="Compare keys of L1 with Redis now: TIER.AUDIT [count]",
    ),
    row(
        "TIER.EXPLAIN",
        Kind.OWN,
        "2 @read @admin @slow @dangerous R:1",
        handler="tier.explain",
        summary="State of a key in each tier: present, age, ttl, size, mapping, reason of a miss",
    ),
    row(
        "TIER.INVALIDATE",
        Kind.OWN,
        "-2 @write @admin @slow @dangerous ?",
        finder=invalidate_keys,
        handler="tier.invalidate",
        summary="Forget keys in all tiers: TIER.INVALIDATE pattern | KEYS key [key ...]",
    ),
    row(
        "TIER.WARM",
        Kind.OWN,
        "-1 @write @admin @slow @dangerous",
        handler="tier.warm",
        summary="Load rows into L2: of one view, of the mapped keys of a pattern, or of all views",
    ),
    row(
        "TIER.REFRESH",
        Kind.OWN,
        "2 @admin @slow @dangerous",
        held_in_pause=True,
        handler="tier.refresh",
        summary="Refresh a materialized view now and invalidate exactly the changed keys",
    ),
    row(
        "TIER.RELOAD",
        Kind.OWN,
        "1 @admin @slow @dangerous",
        handler="tier.reload",
        summary="Reload the configuration; lists changed options and those that need a restart",
    ),
    row(
        "TIER.STATS",
        Kind.OWN,
        "1 @admin @slow @dangerous",
        handler="tier.stats",
        summary="Counters of all tiers",
    ),
    row(
        "TIER.VIEWS",
        Kind.OWN,
        "1 @admin @slow @dangerous",
        handler="views.views",
        summary="Each mapped view: rows, last refresh, duration, changed keys, lag, next refresh",
    ),
)
