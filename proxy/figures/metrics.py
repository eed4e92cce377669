"""Counters as Prometheus metrics, read at scrape time; the hot path knows nothing of it.

Labels come from fixed sets (levels, commands of the table), never from keys or clients.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tiers import CORE, Size, TierUnavailable

from ..refusals import CLIENTS
from ..stats import BUCKETS_S, Histogram
from .view_metrics import BREAKER_STATES, lane_metrics, view_metrics
from .worker_metrics import Packed, added, is_total, packed

if TYPE_CHECKING:
    from tiers import ViewStatus

    from ..client.host import Host


MEASURE_TIMEOUT_S = 0.5  # a scrape does not wait longer for a tier that is down


class TerraceCollector(Collector):
    """Yields every metric of one worker."""

    def __init__(self, terrace: Host) -> None:
        self._terrace = terrace
        self._measured: dict[str, Size] = {}
        self._views: list[ViewStatus] = []
        self._others: list[Packed] = []

    async def measure(self) -> None:
        """Ask the tiers below for their sizes; a tier that does not answer has none. And the
        other workers for their share."""
        self._others = await self._terrace.siblings.ask("metrics")
        self._measured = {}
        stack = self._terrace.stack
        for name, tier in (("l2", stack.l2), ("l3", stack.l3)):
            with contextlib.suppress(TierUnavailable, TimeoutError):
                if tier is not None:
                    async with asyncio.timeout(MEASURE_TIMEOUT_S):
                        self._measured[name] = await tier.size()
        self._views = []
        with contextlib.suppress(TierUnavailable, TimeoutError):
            if stack.l3 is not None:
                async with asyncio.timeout(MEASURE_TIMEOUT_S):
                    self._views = await stack.l3.views()

    def collect(self) -> Iterator[Metric]:
        own = self._counted_on()
        if len(self._others) < self._terrace.siblings.expected:
            own = [metric for metric in own if not is_total(metric)]
        return added(own, self._others)

    def share(self) -> Packed:
        """What this worker adds to the metrics of all."""
        return packed(self._counted_on())

    def _counted_on(self) -> list[Metric]:
        """The own metrics, from where the worker before stopped, kept for the one after."""
        siblings = self._terrace.siblings
        own = list(added(self._own(), [siblings.retired]))
        if siblings.expected:
            siblings.keep(packed(filter(is_total, own)))
        return own

    def _own(self) -> Iterator[Metric]:
        yield from self._levels()
        yield from self._proxy()
        yield from self._refusals()
        yield from self._upstream()
        l3 = self._terrace.stack.l3
        if l3 is not None:
            yield from view_metrics(l3.served(), self._views)

    def _levels(self) -> Iterator[Metric]:
        stats = self._terrace.stats
        levels = {"l1": stats.l1, "l2": stats.l2, "l3": stats.l3}
        hits = CounterMetricFamily("cache_hits", "Reads answered by a level", labels=["level"])
        misses = CounterMetricFamily("cache_misses", "Reads a level lacked", labels=["level"])
        seconds = HistogramMetricFamily(
            "cache_access_seconds", "Time to answer a read, by answering level", labels=["level"]
        )
        for name, level in levels.items():
            hits.add_metric([name], level.hits)
            misses.add_metric([name], level.misses)
            seconds.add_metric([name], _buckets(level.seconds), level.seconds.sum_s)
        yield from (hits, misses, seconds)

        l1 = self._terrace.stack.l1
        size = GaugeMetricFamily("cache_size_bytes", "Bytes held by a level", labels=["level"])
        # The name ends in _total although it is a gauge: dashboards expect it so.
        entries = GaugeMetricFamily("cache_entries_total", "Keys held by a level", labels=["level"])
        if l1 is not None:
            size.add_metric(["l1"], l1.arena.used_bytes)
            entries.add_metric(["l1"], len(l1.arena))
        for name, measured in self._measured.items():
            size.add_metric([name], measured.used_bytes)
            entries.add_metric([name], measured.entries)
        yield from (size, entries)

    def _proxy(self) -> Iterator[Metric]:
        terrace, stats = self._terrace, self._terrace.stats
        yield InfoMetricFamily("terrace", "Build", value={"version": terrace.version, "core": CORE})
        commands = CounterMetricFamily(
            "terrace_commands", "Commands received, by name", labels=["command"]
        )
        for name, count in stats.commands.items():
            commands.add_metric([name.lower()], count)
        yield commands
        yield GaugeMetricFamily("terrace_clients", "Connected clients", len(terrace.sessions))
        yield GaugeMetricFamily(
            "terrace_output_unread_bytes", "Replies of slow readers", terrace.output.count_bytes()
        )
        with contextlib.suppress(RuntimeError):  # asked outside of the loop
            yield GaugeMetricFamily("terrace_tasks", "asyncio tasks", len(asyncio.all_tasks()))
        memory = terrace.memory
        for name, text, value in (
            ("bytes", "Resident memory beside L1", memory.used_bytes),
            ("max_bytes", "What limits.memory_bytes leaves beside L1; 0: no bound",
             memory.max_bytes),
            ("shedding", "Whether memory is short: new clients are refused", memory.shedding),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"terrace_memory_{name}", text, value)
        for name, text, value in (
            ("connections_accepted", "Clients accepted", stats.connections_accepted),
            ("connections_rejected", "Clients turned away, for whatever reason",
             terrace.refusals.counts[CLIENTS].total()),
            ("protocol_errors", "Clients closed for malformed requests", stats.protocol_errors),
            ("input_limit_closed", "Clients closed for sending too much while blocked",
             stats.input_limit_closed),
            ("output_limit_closed", "Clients closed for unread replies", stats.output_limit_closed),
            ("output_total_closed", "Clients closed for the unread replies of all clients",
             stats.output_total_closed),
            ("memory_closed", "Clients closed because memory was short", memory.closed),
            ("slow_subscribers_closed", "Subscribers closed for unread messages",
             stats.slow_subscribers_closed),
            ("received_bytes", "Bytes from clients", stats.bytes_in),
            ("sent_bytes", "Bytes to clients", stats.bytes_out),
            ("read_errors", "Reads answered with an infrastructure error", stats.read_errors),
            ("write_errors", "Writes answered with an infrastructure error", stats.write_errors),
            ("stale_served", "L1 entries served while L2 was down", stats.stale_served),
            ("l3_rows_brought", "Rows read again: Redis lacked a mapped key when its command ran",
             stats.rows_brought),
            ("l1_fills", "Replies stored in L1", stats.fills),
            ("l1_fills_refused", "Replies not stored: outdated or too big", stats.fills_refused),
        ):  # fmt: skip
            yield CounterMetricFamily(f"terrace_{name}", text, value)

    def _refusals(self) -> Iterator[Metric]:
        for kind, counts in self._terrace.refusals.counts.items():
            refused = CounterMetricFamily(f"terrace_{kind.metric}", kind.text, labels=kind.labels)
            for values, count in counts.items():
                refused.add_metric(values, count)
            yield refused

    def _upstream(self) -> Iterator[Metric]:
        terrace = self._terrace
        l1, l2, l3 = terrace.stack.l1, terrace.stack.l2, terrace.stack.l3
        up = GaugeMetricFamily("terrace_tier_up", "Whether a tier can answer", labels=["level"])
        up.add_metric(["l1"], float(l1 is not None and l1.coherence.live))
        up.add_metric(["l2"], float(l2.ready))
        if l3 is not None:
            up.add_metric(["l3"], float(l3.ready))
        yield up
        yield from self._ladder()
        if l1 is not None:
            yield CounterMetricFamily(
                "terrace_l1_evictions", "Entries evicted from L1", l1.arena.evictions
            )
            yield CounterMetricFamily(
                "terrace_l1_invalidations", "Entries invalidated in L1", l1.arena.invalidations
            )
            yield from self._audit()
            age_s = l1.coherence.age_s(terrace.clock()) if l1.coherence.live else float("inf")
            yield GaugeMetricFamily(
                "terrace_l1_watermark_age_seconds", "Bound on the staleness of a hit now", age_s
            )
        yield CounterMetricFamily(
            "terrace_l2_moves",
            "Times its address was found to lead to another Redis",
            l2.node.moves,
        )
        yield GaugeMetricFamily(
            "terrace_l2_database_connections",
            "Shared connections in databases other than 0",
            len(l2.databases),
        )
        yield GaugeMetricFamily(
            "terrace_l2_private_connections", "Private connections to Redis", len(l2.private)
        )
        yield GaugeMetricFamily(
            "terrace_l2_private_connections_waited_for",
            "Clients that wait for a private connection",
            l2.private.waiting,
        )
        if l3 is not None:
            counts = l3.statistics()
            assert terrace.stack.warmer is not None
            warm = terrace.stack.warmer.statistics()
            yield GaugeMetricFamily("terrace_l3_warming", "Warm-ups under way", warm.running)
            for name, text, value in (
                ("l3_queries", "Queries for rows", counts.queries),
                ("l3_rows", "Rows loaded", counts.rows),
                ("l3_errors", "Queries that failed", counts.errors),
                ("l3_refreshes", "Views refreshed by this process", counts.refreshes),
                ("l3_refresh_failures", "Refreshes that failed", counts.refresh_failures),
                ("l3_foreign_refreshes", "Refreshes by somebody else, noticed",
                 counts.foreign_refreshes),
                ("l3_replaced_views", "Views that another relation took the name of, noticed",
                 counts.replaced),
                ("l3_warm_rows", "Rows read to warm L2", warm.rows),
                ("l3_warm_stored", "Of these, stored in Redis", warm.stored),
            ):  # fmt: skip
                yield CounterMetricFamily(f"terrace_{name}", text, value)
        if self._terrace.stack.store is not None:
            store = self._terrace.stack.store.statistics()
            for name, text, value in (
                ("store_commits", "Keys whose writes reached PostgreSQL", store.commits),
                ("store_failures", "Keys whose writes had an unknown outcome", store.failures),
            ):
                yield CounterMetricFamily(f"terrace_{name}", text, value)

    def _audit(self) -> Iterator[Metric]:
        stack = self._terrace.stack
        if stack.audit is None:
            return
        figures = stack.audit.statistics()
        for name, text, value in (
            ("audit_samples", "Hits of L1 compared with L2", figures.samples),
            ("audit_overtaken", "Of these, changed meanwhile and followed", figures.overtaken),
            ("audit_mismatches", "Of these, wrong and not invalidated", figures.mismatches),
            ("strict_writes_held", "Replies held for strict keys", stack.strict.held),
        ):
            yield CounterMetricFamily(f"terrace_{name}", text, value)

    def _ladder(self) -> Iterator[Metric]:
        """The states between up and down."""
        stack = self._terrace.stack
        breakers = {"l2": stack.l2.gate.breaker.statistics()}
        if stack.l3 is not None:
            breakers["l3"] = stack.l3.breaker
        state = GaugeMetricFamily(
            "terrace_breaker_state", "0 closed, 1 half-open, 2 open", labels=["level"]
        )
        opened = CounterMetricFamily(
            "terrace_breaker_opened", "Times a breaker left closed", labels=["level"]
        )
        for name, breaker in breakers.items():
            state.add_metric([name], BREAKER_STATES.index(breaker.state))
            opened.add_metric([name], breaker.opened)
        yield from (state, opened)
        yield GaugeMetricFamily(
            "terrace_l2_stalled", "Whether L2 owes replies for too long", int(stack.l2.stalled)
        )
        if stack.l3 is not None:
            queues = stack.queues()
            yield from lane_metrics(stack.l3.lanes())
            yield GaugeMetricFamily("terrace_l3_queued", "Keys waiting to be loaded", queues.queued)
            for name, text, value in (
                ("l3_rejected", "Loads refused at once for overload", queues.rejected),
                ("l3_expired", "Loads that waited too long", queues.expired),
            ):
                yield CounterMetricFamily(f"terrace_{name}", text, value)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
