"""The figures of all tiers as text: the `# Tiers` section of INFO, and TIER.STATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiers import CORE, BreakerState, BreakerStatistics

if TYPE_CHECKING:
    from ..client.host import Host


_ADDED = frozenset((
    "terrace_clients", "terrace_memory_bytes", "terrace_memory_max_bytes",
    "terrace_memory_shedding", "terrace_memory_closed",
    "l1_hits", "l1_misses", "l1_fills", "l1_fills_refused", "l1_stale_served",
    "audit_samples", "audit_overtaken", "audit_mismatches", "l1_touched", "l1_swapdb_flushes",
    "strict_writes_held", "strict_writes_waiting", "l2_stalled", "l2_breaker_opened",
    "l2_breaker_probes", "l2_connects_delayed", "l2_hits", "l2_misses", "l2_private_connections",
    "l2_private_connections_idle", "l2_private_connections_opened", "l2_read_errors",
    "l2_write_errors", "l3_breaker_opened", "l3_breaker_probes", "l3_limit_decreases", "l3_queued",
    "l3_rejected", "l3_expired", "l3_hits", "l3_misses", "l3_rows_brought", "l3_queries",
    "l3_rows", "l3_errors",
    "l3_negative_entries", "l3_refreshes", "l3_refresh_failures", "l3_foreign_refreshes",
    "l3_replaced_views", "l3_is_refresher", "store_commits", "store_failures", "store_queued",
    "store_unsettled", "l3_warm_rows", "l3_warm_stored", "l1_warm_keys",
))  # fmt: skip
"""Each worker has its own; everything else is shared, or of the worker that is asked."""


async def tier_figures(terrace: Host) -> dict[str, str]:
    """Ordered name -> text, of all workers of this host together."""
    found = figures(terrace)
    for other in await terrace.siblings.ask("figures"):
        for name in _ADDED & found.keys() & other.keys():
            found[name] += other[name]
    if "l1_hit_ratio" in found:
        found["l1_hit_ratio"] = _ratio(found["l1_hits"], found["l1_misses"])
    return {name: str(value).replace("\n", " ") for name, value in found.items()}


def figures(terrace: Host) -> dict[str, Any]:
    """Ordered name -> number or text, of this process."""
    stack, stats = terrace.stack, terrace.stats
    now = terrace.clock()
    l1, l2, l3 = stack.l1, stack.l2, stack.l3
    found: dict[str, Any] = {
        "terrace_version": terrace.version,
        "terrace_core": CORE,
        "terrace_uptime_in_seconds": int(now - terrace.started_at),
        "terrace_clients": len(terrace.sessions),
        "terrace_workers": terrace.config.workers,
        "terrace_memory_bytes": terrace.memory.used_bytes,
        "terrace_memory_max_bytes": terrace.memory.max_bytes,
        "terrace_memory_shedding": int(terrace.memory.shedding),
        "terrace_memory_closed": terrace.memory.closed,
        "l1_mode": l2.l1_mode,
    }
    if l1 is not None:
        found |= {
            "l1_entries": len(l1.arena),
            "l1_used_bytes": l1.arena.used_bytes,
            "l1_max_bytes": l1.arena.max_bytes,
            "l1_hits": stats.l1.hits,
            "l1_misses": stats.l1.misses,
            "l1_hit_ratio": _ratio(stats.l1.hits, stats.l1.misses),
            "l1_fills": stats.fills,
            "l1_fills_refused": stats.fills_refused,
            "l1_evictions": l1.arena.evictions,
            "l1_invalidations": l1.arena.invalidations,
            "l1_epoch": l1.arena.epoch,
            "l1_watermark_age_ms": f"{l1.coherence.age_s(now) * 1000:.1f}"
            if l1.coherence.live
            else "none",
            "l1_max_staleness_ms": f"{l1.options.max_staleness_s * 1000:g}",
            "l1_stale_served": stats.stale_served,
        }
    if stack.audit is not None and stack.toucher is not None:
        audit = stack.audit.statistics()
        found |= {
            "audit_samples": audit.samples,
            "audit_overtaken": audit.overtaken,
            "audit_mismatches": audit.mismatches,
            "l1_touched": stack.toucher.touched,
            "l1_swapdb_flushes": stack.swapdb.flushes,
        }
    if stack.namespaces.largest_strict_s:
        peers = stack.strict.peers
        found |= {
            "strict_writes_held": stack.strict.held,
            "strict_writes_waiting": stack.strict.holding,
            "strict_peers": len(peers.bounds_s) if peers.settled else "not settled yet",
        }
    found |= {
        "l2_state": l2.state,
        "l2_endpoint": str(l2.endpoint),
        "l2_commands": terrace.commands.state,
        "l2_stalled": int(l2.stalled),
        "l2_role": l2.node.role,
        "l2_moves": l2.node.moves,
        "l2_database_connections": len(l2.databases),
        **_breaker("l2", l2.gate.breaker.statistics()),
        "l2_connects_delayed": l2.gate.delayed,
        "l2_hits": stats.l2.hits,
        "l2_misses": stats.l2.misses,
        "l2_private_connections": len(l2.private),
        "l2_private_connections_idle": l2.private.idle,
        "l2_private_connections_opened": l2.private.opened,
        "l2_private_connections_waited_for": l2.private.waiting,
        "l2_read_errors": stats.read_errors,
        "l2_write_errors": stats.write_errors,
    }
    if l3 is not None:
        counts, queues, lanes = l3.statistics(), stack.queues(), l3.lanes()
        found |= {
            "l3_state": l3.state,
            **_breaker("l3", l3.breaker),
            "l3_limit_decreases": sum(lane.admission.decreases for lane in lanes.values()),
            "l3_views_failing": ", ".join(
                name
                for name, lane in lanes.items()
                if lane.breaker.state is not BreakerState.CLOSED
            ),
            "l3_queued": queues.queued,
            "l3_rejected": queues.rejected,
            "l3_expired": queues.expired,
            "l3_views": len(l3.mappings),
            "l3_hits": stats.l3.hits,
            "l3_misses": stats.l3.misses,
            "l3_rows_brought": stats.rows_brought,
            "l3_queries": counts.queries,
            "l3_rows": counts.rows,
            "l3_errors": counts.errors,
            "l3_negative_entries": counts.negative_entries,
            "l3_refreshes": counts.refreshes,
            "l3_refresh_failures": counts.refresh_failures,
            "l3_foreign_refreshes": counts.foreign_refreshes,
            "l3_replaced_views": counts.replaced,
            "l3_is_refresher": int(counts.is_leader),
        }
    if stack.store is not None:
        store = stack.store.statistics()
        found |= {
            "store_commits": store.commits,
            "store_failures": store.failures,
            "store_queued": store.queued,
            "store_unsettled": store.unsettled,
        }
    if stack.warmer is not None:
        warm = stack.warmer.statistics()
        found |= {
            "l3_warming": warm.running,
            "l3_warm_rows": warm.rows,
            "l3_warm_stored": warm.stored,
        }
    if stack.hot_keys is not None and stack.hot_keys.limit:
        found["l1_warm_keys"] = stack.hot_keys.read
    return found


async def info_section(terrace: Host) -> str:
    lines = [f"{name}:{text}" for name, text in (await tier_figures(terrace)).items()]
    return "# Tiers\r\n" + "\r\n".join(lines) + "\r\n"


def _breaker(level: str, breaker: BreakerStatistics) -> dict[str, object]:
    reason = f": {breaker.reason}" if breaker.state is not BreakerState.CLOSED else ""
    return {
        f"{level}_breaker": f"{breaker.state.value}{reason}",
        f"{level}_breaker_opened": breaker.opened,
        f"{level}_breaker_probes": breaker.probes,
    }


def _ratio(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.4f}" if hits + misses else "0"
