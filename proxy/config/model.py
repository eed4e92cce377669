"""The options of the proxy as models; `Config` is all of them, those of the tiers included.

Each field is one row of the option table, as in `tiers.options`, where the writing
of durations and sizes is explained.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tiers import (
    CORE,
    Bytes,
    L1Options,
    L2Options,
    L3Options,
    NamespaceOptions,
    Options,
    Seconds,
    host_cores,
)

from ..acl.options import AclOptions

MiB = 1024**2
WORKERS_MAX = 255  # their number is one byte of an entry of L1

Port = Annotated[int, Field(ge=0, le=65535)]


def _one_per_core(value: Any) -> Any:
    """ "auto" -> as many as there are cores for this process, where more than one can be."""
    if value != "auto":
        return value
    if CORE != "c":
        return 1
    return min(host_cores(), WORKERS_MAX)


class ListenOptions(Options):
    """Where Redis clients connect."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; "0.0.0.0" or "::" for all."""
    port: Port = 7379
    """TCP port; 0 takes any free one, or none where tls.port or listen.unix_socket is set."""
    unix_socket: str = ""
    """Path of a unix socket to listen on as well, for clients on this host. Empty: none."""
    handover: str = ""
    """Path of a unix socket on which a second `terrace serve` with this configuration gets the
    listening sockets; it then serves, and this process drains. Empty: none."""
    backlog: Annotated[int, Field(ge=1, le=65535)] = 511
    """Connections that may wait to be accepted."""
    max_clients: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most clients at once; a further one is told so and closed."""
    password: str = Field(default="", repr=False, json_schema_extra={"secret": True})
    """Clients must AUTH with this (like Redis' requirepass). Empty: no password."""
    protected_mode: bool = True
    """Without a password, refuse clients that do not come from this host."""
    tcp_keepalive_s: Seconds = 300.0
    """Silence after which the system probes whether a client is still there; 0 never."""
    idle_timeout_s: Seconds = 0.0
    """A client that asks nothing for this long is closed; 0 never."""


class TlsOptions(Options):
    """The port for clients that speak TLS. A reload reads its files again."""

    port: Port = 0
    """TCP port, on listen.host; 0: no TLS."""
    cert_file: str = ""
    """PEM file of the certificate to show, with the chain below its root."""
    key_file: str = ""
    """PEM file of its private key, without a passphrase. Empty: it is in cert_file."""
    client_ca_file: str = ""
    """PEM file of the authorities that sign the certificates of clients."""
    client_auth: Literal["off", "optional", "required"] = "off"
    """Whether clients show a certificate signed by client_ca_file."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest version of TLS that is spoken."""


class AdminOptions(Options):
    """The HTTP port for metrics and health."""

    enabled: bool = True
    """Serve /metrics, /healthz and /readyz."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: Port = 7380
    """TCP port; 0 takes any free one."""


class LimitOptions(Options):
    """What clients may use."""

    query_buffer_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 256 * MiB
    """Longest command, all its arguments together, that a client may send."""
    bulk_bytes: Annotated[Bytes, Field(ge=1024)] = 128 * MiB
    """Longest single argument (a value) that a client may send."""
    multibulk: Annotated[int, Field(ge=16, le=2**31 - 1)] = 1_048_576
    """Most arguments of one command."""
    output_buffer_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 256 * MiB
    """A client that leaves more replies than this unread is answered no more until it reads."""
    unread_timeout_s: Seconds = 60.0
    """A client beyond output_buffer_bytes that reads nothing for so long is dropped. 0: never."""
    subscriber_buffer_bytes: Annotated[Bytes, Field(ge=64 * 1024)] = 32 * MiB
    """A subscriber that leaves more messages than this unread is dropped."""
    output_total_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 1024 * MiB
    """When the unread replies of all clients pass this, the client with most is dropped."""
    memory_bytes: Bytes = 0
    """All memory together, l1.max_bytes included. Beyond it new clients are refused and those that
    hold most are dropped. 0: nine tenths of what the host or container has."""
    pipeline: Annotated[int, Field(ge=1)] = 10_000
    """Commands of one client that may wait for replies before reading from it pauses."""


class LogOptions(Options):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important level that is written."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object per line."""


class ShutdownOptions(Options):
    """What happens at SIGTERM or SIGINT."""

    deadline_s: Seconds = 10.0
    """Time for commands in flight to finish before connections are closed."""


class Config(Options):
    """Everything `terrace serve` can be told."""

    workers: Annotated[int, BeforeValidator(_one_per_core), Field(ge=1, le=WORKERS_MAX)] = 1
    """Worker processes, which share one L1; "auto": one per core. More than one needs the compiled
    core. Bounds on connections to L2 and L3 hold for each worker."""
    namespace: tuple[NamespaceOptions, ...] = ()
    """Promises for groups of keys, one [[namespace]] table each. The same for every Terrace on one
    Redis."""
    listen: ListenOptions = ListenOptions()
    tls: TlsOptions = TlsOptions()
    acl: AclOptions = AclOptions()
    admin: AdminOptions = AdminOptions()
    limits: LimitOptions = LimitOptions()
    log: LogOptions = LogOptions()
    shutdown: ShutdownOptions = ShutdownOptions()
    l1: L1Options = L1Options()
    l2: L2Options = L2Options()
    l3: L3Options = L3Options()
