"""The rows of L2: Redis, the connections to it, and failed reads and writes."""

from __future__ import annotations

from tiers import Size

from .levels import ENTRIES, HITS, MISSES, SECONDS, SIZE, TIER_UP, breaker_rows
from .reading import Part, Reading
from .row import Across, Row, counter, gauge, row, text


def size_rows(level: str) -> tuple[Row, ...]:
    """The rows of a level that reports its size; without an answer there is no series."""

    def size(reading: Reading) -> Size | None:
        return reading.sizes.get(level)

    return (
        row(SIZE, lambda r: found.used_bytes if (found := size(r)) else None, level),
        row(ENTRIES, lambda r: found.entries if (found := size(r)) else None, level),
    )


ROWS: tuple[Row, ...] = (
    *size_rows("l2"),
    row(
        TIER_UP, lambda r: float(r.l2.ready), "l2", info="l2_state", show=lambda r: r.l2.state
    ),
    text("l2_endpoint", "The address of Redis", lambda r: r.l2.endpoint),
    text(
        "l2_commands", "The commands of Redis, compared with the table of Terrace",
        lambda r: r.host.commands.state, worry="Its own commands are unknown to Terrace.",
    ),
    gauge(
        "terrace_l2_stalled", "Whether replies of L2 are overdue", lambda r: r.l2.stalled,
        across=Across.MAX, info="l2_stalled",
        worry="It is 1: reads are answered as if L2 were down.",
    ),
    text(
        "l2_role", "The role of Redis: master or slave", lambda r: r.l2.node.role,
        worry="It is not master: writes fail.",
    ),
    counter(
        "terrace_l2_moves", "Times the address of L2 led to another Redis",
        lambda r: r.l2.node.moves, info="l2_moves",
        worry="It grows without a failover: two servers answer at one address.",
    ),
    gauge(
        "terrace_l2_database_connections", "Shared connections in databases other than 0",
        lambda r: len(r.l2.databases), info="l2_database_connections",
    ),
    *breaker_rows("l2", Part.ALL, lambda r: r.l2_breaker),
    counter(
        "", "Attempts to connect that had to wait", lambda r: r.l2.gate.delayed,
        info="l2_connects_delayed",
    ),
    row(HITS, lambda r: r.stats.l2.hits, "l2", info="l2_hits"),
    row(MISSES, lambda r: r.stats.l2.misses, "l2", info="l2_misses"),
    row(SECONDS, lambda r: r.stats.l2.seconds, "l2"),
    gauge(
        "terrace_l2_private_connections", "Private connections to Redis",
        lambda r: len(r.l2.private), across=Across.SUM, info="l2_private_connections",
        worry="It comes near `l2.max_pinned` of all workers.",
    ),
    gauge(
        "", "Idle private connections, kept for reuse",
        lambda r: r.l2.private.idle, across=Across.SUM, info="l2_private_connections_idle",
    ),
    counter(
        "", "Private connections opened", lambda r: r.l2.private.opened,
        info="l2_private_connections_opened",
        worry="It grows as fast as transactions: raise `l2.max_idle_pinned`.",
    ),
    gauge(
        "terrace_l2_private_connections_waited_for", "Clients that wait for a private connection",
        lambda r: r.l2.private.waiting, info="l2_private_connections_waited_for",
        worry="It stays above 0: raise `l2.max_pinned`.",
    ),
    counter(
        "terrace_read_errors", "Reads answered with an infrastructure error",
        lambda r: r.stats.read_errors, info="l2_read_errors", worry="It grows.",
    ),
    counter(
        "terrace_write_errors", "Writes answered with an infrastructure error",
        lambda r: r.stats.write_errors, info="l2_write_errors", worry="It grows.",
    ),
)  # fmt: skip
