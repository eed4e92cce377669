"""The rows of L1 and its helpers: the audit, strict keys, SWAPDB, hot keys."""

from __future__ import annotations

from math import inf

from .levels import ENTRIES, HITS, MISSES, SECONDS, SIZE, TIER_UP
from .reading import Part, Reading
from .row import Across, Row, counter, gauge, row, text

L1, ALL, STRICT = Part.L1, Part.ALL, Part.STRICT


def hit_ratio(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.4f}" if hits + misses else "0"


def _age_s(reading: Reading) -> float:
    return reading.l1.coherence.age_s(reading.now) if reading.is_l1_live else inf


def _age_text(reading: Reading) -> str:
    return f"{_age_s(reading) * 1000:.1f}" if reading.is_l1_live else "none"


def _peers(reading: Reading) -> object:
    peers = reading.stack.strict.peers
    return len(peers.bounds_s) if peers.settled else "not settled yet"


ROWS: tuple[Row, ...] = (
    row(
        TIER_UP, lambda r: float(r.is_l1_live), "l1", info="l1_mode", show=lambda r: r.l2.l1_mode
    ),
    row(ENTRIES, lambda r: len(r.l1.arena), "l1", info="l1_entries", part=L1),
    row(SIZE, lambda r: r.l1.arena.used_bytes, "l1", info="l1_used_bytes", part=L1),
    gauge(
        "", "The budget of L1", lambda r: r.l1.arena.max_bytes, across=Across.SHARED, unit="bytes",
        info="l1_max_bytes", part=L1,
    ),
    row(HITS, lambda r: r.stats.l1.hits, "l1", info="l1_hits", part=L1, metric_part=ALL),
    row(MISSES, lambda r: r.stats.l1.misses, "l1", info="l1_misses", part=L1, metric_part=ALL),
    row(SECONDS, lambda r: r.stats.l1.seconds, "l1"),
    text(
        "l1_hit_ratio", "l1_hits of all hits and misses, of all workers",
        lambda r: hit_ratio(r.stats.l1.hits, r.stats.l1.misses), L1,
    ),
    counter(
        "terrace_l1_fills", "Replies stored in L1", lambda r: r.stats.fills,
        info="l1_fills", part=L1, metric_part=ALL,
    ),
    counter(
        "terrace_l1_fills_refused", "Replies not stored: outdated or too large",
        lambda r: r.stats.fills_refused, info="l1_fills_refused", part=L1, metric_part=ALL,
        worry="It grows nearly as fast as the fills: keys are written as often as read, or large.",
    ),
    counter(
        "terrace_l1_evictions", "Entries evicted from L1", lambda r: r.l1.arena.evictions,
        across=Across.SHARED, info="l1_evictions", part=L1,
        worry="It grows nearly as fast as the fills: L1 is too small (`l1.max_bytes`).",
    ),
    counter(
        "terrace_l1_invalidations", "Entries invalidated in L1",
        lambda r: r.l1.arena.invalidations, across=Across.SHARED, info="l1_invalidations", part=L1,
    ),
    gauge("", "Times L1 was emptied", lambda r: r.l1.arena.epoch, across=Across.SHARED,
          info="l1_epoch", part=L1, worry="It grows: the tracked connection is lost often."),
    gauge(
        "terrace_l1_watermark_age_seconds", "Current bound on the staleness of a hit", _age_s,
        unit="seconds", info="l1_watermark_age_ms", show=_age_text, part=L1,
        worry="It is above `l1.max_staleness` while L1 is read, or infinite: L1 does not serve.",
    ),
    text(
        "l1_max_staleness_ms", "l1.max_staleness, in milliseconds",
        lambda r: f"{r.l1.options.max_staleness_s * 1000:g}", L1,
    ),
    counter(
        "terrace_stale_served", "L1 entries served while L2 was down",
        lambda r: r.stats.stale_served, info="l1_stale_served", part=L1, metric_part=ALL,
        worry="It grows: L2 is down or stalled.",
    ),
    counter(
        "terrace_audit_samples", "Hits of L1 compared with L2", lambda r: r.audit.samples,
        info="audit_samples", part=L1,
    ),
    counter(
        "terrace_audit_overtaken", "Audited hits that changed meanwhile and were invalidated",
        lambda r: r.audit.overtaken, info="audit_overtaken", part=L1,
    ),
    counter(
        "terrace_audit_mismatches", "Audited hits that were wrong and not invalidated",
        lambda r: r.audit.mismatches, info="audit_mismatches", part=L1,
        worry="It is not 0: a promise was broken. The log has the key and its invalidations.",
    ),
    counter(
        "", "Keys that TOUCH kept warm in L2", lambda r: r.toucher.touched,
        info="l1_touched", part=L1,
    ),
    counter(
        "", "Times L1 was emptied because of a SWAPDB by another client of Redis",
        lambda r: r.stack.swapdb.flushes, info="l1_swapdb_flushes", part=L1,
    ),
    counter(
        "terrace_strict_writes_held", "Replies to writes of strict keys that were held back",
        lambda r: r.stack.strict.held, info="strict_writes_held", part=STRICT, metric_part=L1,
    ),
    gauge(
        "", "Replies for strict keys that are held back now", lambda r: r.stack.strict.holding,
        across=Across.SUM, info="strict_writes_waiting", part=STRICT,
        worry="It grows: writes of strict keys come faster than their wait ends.",
    ),
    text(
        "strict_peers", "Other Terraces that may serve strict keys", _peers, STRICT,
        worry='It stays at "not settled yet" for more than 10 seconds.',
    ),
)  # fmt: skip
HOT_KEY_ROWS: tuple[Row, ...] = (
    counter(
        "", "Keys read into L1 at the start (l1.hot_keys)", lambda r: r.hot_keys.read,
        info="l1_warm_keys", part=Part.HOT_KEYS,
    ),
)  # fmt: skip
