"""The option models of the proxy; `Config` has all options, those of the tiers included.

Each field is one row of the option table, as in `tiers.options`, which explains the
syntax of durations and sizes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tiers import L1Options, L2Options, L3Options, NamespaceOptions
from tiers.proxy_door import CORE, Bytes, Options, Seconds, host_cores

from ..acl.options import AclOptions

MiB = 1024**2
WORKERS_MAX = 255  # an entry of L1 has one byte for the number of its worker

Port = Annotated[int, Field(ge=0, le=65535)]


def _one_per_core(value: Any) -> Any:
    """ "auto" -> one per core of this process; one without the compiled core."""
    if value != "auto":
        return value
    if CORE != "c":
        return 1
    return min(host_cores(), WORKERS_MAX)


class ListenOptions(Options):
    """The listening sockets for Redis clients."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; "0.0.0.0" or "::" for all."""
    port: Port = 7379
    """TCP port; 0: any free port, or none if tls.port or listen.unix_socket is set."""
    unix_socket: str = ""
    """Path of an additional unix socket for clients on this host. Empty: none."""
    handover: str = ""
    """Path of a unix socket on which a second `terrace serve` with this configuration takes over
    the listening sockets; it then serves, and this process drains. Empty: none."""
    backlog: Annotated[int, Field(ge=1, le=65535)] = 511
    """Maximum number of connections that wait to be accepted."""
    max_clients: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Maximum number of clients; a further client gets an error and is closed."""
    password: str = Field(default="", repr=False, json_schema_extra={"secret": True})
    """Password that clients must AUTH with (like Redis' requirepass). Empty: no password."""
    protected_mode: bool = True
    """Without a password, refuse clients from other hosts."""
    tcp_keepalive_s: Seconds = 300.0
    """Silence after which the system probes whether a client is alive. 0: never."""
    idle_timeout_s: Seconds = 0.0
    """A client that sends no command for this long is closed. 0: never."""


class TlsOptions(Options):
    """The port for clients that speak TLS. A reload reads its files again."""

    port: Port = 0
    """TCP port, on listen.host; 0: no TLS."""
    cert_file: str = ""
    """PEM file of the server certificate, with its chain below the root."""
    key_file: str = ""
    """PEM file of the private key, without a passphrase. Empty: the key is in cert_file."""
    client_ca_file: str = ""
    """PEM file of the authorities that sign client certificates."""
    client_auth: Literal["off", "optional", "required"] = "off"
    """Whether clients must, may or need not present a certificate signed by client_ca_file."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Minimum version of TLS."""


class AdminOptions(Options):
    """The HTTP port for metrics and health."""

    enabled: bool = True
    """Serve /metrics, /healthz and /readyz."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: Port = 7380
    """TCP port; 0: any free port."""


class LimitOptions(Options):
    """Limits on clients and on memory."""

    query_buffer_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 256 * MiB
    """Maximum size of a command: all its arguments together."""
    bulk_bytes: Annotated[Bytes, Field(ge=1024)] = 128 * MiB
    """Maximum size of a single argument (a value)."""
    multibulk: Annotated[int, Field(ge=16, le=2**31 - 1)] = 1_048_576
    """Maximum number of arguments of a command."""
    output_buffer_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 256 * MiB
    """A client with more unread replies than this gets no further replies until it reads."""
    unread_timeout_s: Seconds = 60.0
    """A client above output_buffer_bytes that reads nothing for this long is dropped. 0: never."""
    subscriber_buffer_bytes: Annotated[Bytes, Field(ge=64 * 1024)] = 32 * MiB
    """A subscriber with more unread messages than this is dropped."""
    output_total_bytes: Annotated[Bytes, Field(ge=1 * MiB)] = 1024 * MiB
    """When the unread replies of all clients exceed this, the client with the most is dropped."""
    memory_bytes: Bytes = 0
    """Total memory, l1.max_bytes included. Above it, new clients are refused and the clients that
    use the most are dropped. 0: nine tenths of the memory of the host or container."""
    pipeline: Annotated[int, Field(ge=1)] = 10_000
    """Commands of one client that may wait for replies; then reading from the client pauses."""


class LogOptions(Options):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    format: Literal["text", "json"] = "text"
    """Readable lines, or one JSON object per line."""


class ShutdownOptions(Options):
    """The reaction to SIGTERM and SIGINT."""

    deadline_s: Seconds = 10.0
    """Time for commands in flight to finish; then their connections are closed."""


class Config(Options):
    """All options of `terrace serve`."""

    workers: Annotated[int, BeforeValidator(_one_per_core), Field(ge=1, le=WORKERS_MAX)] = 1
    """Number of worker processes, which share one L1; "auto": one per core. More than one needs the
    compiled core. Limits on connections to L2 and L3 apply to each worker."""
    namespace: tuple[NamespaceOptions, ...] = ()
    """Promises for groups of keys, one [[namespace]] table each; the same in every Terrace on one
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
