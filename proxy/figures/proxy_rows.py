"""The rows of the proxy itself: its clients, its memory, its refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tiers.proxy_door import CORE

from ..refusals import CLIENTS, KINDS
from ..refusals import Kind as Refusal
from .reading import Reading
from .row import Across, Figure, Kind, LabelValues, Row, counter, gauge, row, text

COMMANDS = Figure(
    "terrace_commands", Kind.COUNTER, "Commands received, by name", Across.SUM, labels=("command",)
)
BUILD = Figure(
    "terrace_info",
    Kind.GAUGE,
    "Version and core of this build, as labels",
    Across.FIRST,
    labels=("version", "core"),
)
WORRIES = {
    "auth_failures": "It grows: a client has an old password, or guesses passwords.",
    "acl_denied": "It grows after a change of the users: a client lacks a right.",
    "clients_refused": "It grows at all; the reason names the limit.",
    "tls_handshake_failures": "It grows after a change of certificates.",
}


def _commands(reading: Reading) -> Mapping[LabelValues, float]:
    return {(name.lower(),): count for name, count in reading.stats.commands.items()}


def _tasks(reading: Reading) -> int | None:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # called outside of an event loop
        return None


def _refusals(kind: Refusal) -> Row:
    figure = Figure(
        f"terrace_{kind.metric}", Kind.COUNTER, kind.text, Across.SUM,
        labels=kind.labels, worry=WORRIES[kind.metric],
    )  # fmt: skip
    return row(figure, lambda reading: dict(reading.host.refusals.counts[kind]))


ROWS: tuple[Row, ...] = (
    row(BUILD, lambda r: {(r.host.version, CORE): 1}),
    text("terrace_version", "The version of Terrace", lambda r: r.host.version),
    text("terrace_core", '"c", or "python" without the compiled core', lambda r: CORE),
    gauge(
        "", "Time since the start", lambda r: int(r.now - r.host.started_at), unit="seconds",
        info="terrace_uptime_in_seconds",
    ),
    gauge(
        "terrace_clients", "Connected clients", lambda r: len(r.host.sessions), across=Across.SUM,
        info="terrace_clients", worry="It comes near `listen.max_clients`.",
    ),
    gauge(
        "", "Worker processes, as configured", lambda r: r.host.config.workers,
        info="terrace_workers",
    ),
    gauge(
        "terrace_memory_bytes", "Resident memory without L1", lambda r: r.host.memory.used_bytes,
        across=Across.SUM, unit="bytes", info="terrace_memory_bytes",
        worry="It comes near `terrace_memory_max_bytes`.",
    ),
    gauge(
        "terrace_memory_max_bytes", "Limit of memory without L1 (limits.memory_bytes); 0: none",
        lambda r: r.host.memory.max_bytes, across=Across.SUM, unit="bytes",
        info="terrace_memory_max_bytes",
    ),
    gauge(
        "terrace_memory_shedding", "Whether memory is short: new clients are refused",
        lambda r: r.host.memory.shedding, across=Across.SUM, info="terrace_memory_shedding",
        worry="It is not 0.",
    ),
    counter(
        "terrace_memory_closed", "Clients closed because memory was short",
        lambda r: r.host.memory.closed, info="terrace_memory_closed", worry="It grows.",
    ),
    gauge(
        "terrace_output_unread_bytes", "Replies of slow readers",
        lambda r: r.host.output.count_bytes(), across=Across.SUM, unit="bytes",
        worry="It comes near `limits.output_total_bytes`.",
    ),
    gauge(
        "terrace_tasks", "asyncio tasks", _tasks, across=Across.SUM,
        worry="It grows while the number of clients does not.",
    ),
    row(COMMANDS, _commands),
    counter(
        "terrace_connections_accepted", "Clients accepted", lambda r: r.stats.connections_accepted,
        worry="It grows as fast as the commands: clients do not keep their connections.",
    ),
    counter(
        "terrace_connections_rejected", "Clients refused, for any reason",
        lambda r: r.host.refusals.counts[CLIENTS].total(),
        worry="It grows; `terrace_clients_refused_total` has the reasons.",
    ),
    counter(
        "terrace_protocol_errors", "Clients closed for malformed requests",
        lambda r: r.stats.protocol_errors, worry="It grows; the log names the addresses.",
    ),
    counter(
        "terrace_input_limit_closed", "Clients closed for sending too much while blocked",
        lambda r: r.stats.input_limit_closed, worry="It grows.",
    ),
    counter(
        "terrace_output_limit_closed", "Clients closed for unread replies",
        lambda r: r.stats.output_limit_closed, worry="It grows.",
    ),
    counter(
        "terrace_output_total_closed", "Clients closed for the unread replies of all clients",
        lambda r: r.stats.output_total_closed, worry="It grows.",
    ),
    counter(
        "terrace_slow_subscribers_closed", "Subscribers closed for unread messages",
        lambda r: r.stats.slow_subscribers_closed, worry="It grows.",
    ),
    counter(
        "terrace_received_bytes", "Bytes from clients", lambda r: r.stats.bytes_in, unit="bytes"
    ),
    counter("terrace_sent_bytes", "Bytes to clients", lambda r: r.stats.bytes_out, unit="bytes"),
    *map(_refusals, KINDS),
)  # fmt: skip
