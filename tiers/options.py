"""The options of the tiers: each field is one row of the option table.

A row is name, type, default, unit and help. The config file, the environment
variables, `terrace serve --help`, conf/terrace.toml and docs/CONFIG.md are all
derived from these rows (and from those of the front in `proxy.config.model`), so an
option is defined once.

Durations are fields ending in `_s` and hold float seconds; in a config file
they lose the suffix and may be written "50ms", "5s", "10m", "1h", "1d" or as a
number of seconds. Sizes are fields ending in `_bytes` and may be written
"256MiB", "1GB" or as a number of bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DURATION_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_BYTES = {
    "": 1, "b": 1,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]*)\s*\Z")
_LONGEST_S = 36_500 * 86_400.0  # a century: longer sums overflow in timers, libpq and PX
_LARGEST_BYTES = 1024**5  # a pebibyte: an amount of memory that no host has


def parse_duration_s(value: Any) -> Any:
    """ "50ms" -> 0.05. A bare number is seconds. Raises ValueError naming the units."""
    if not isinstance(value, str):
        return value
    match = _QUANTITY.match(value)
    unit = match[2].lower() if match else None
    if match is None or (unit and unit not in _DURATION_S):
        raise ValueError("a duration like 50ms, 5s, 10m, 1h or 1d is needed")
    return float(match[1]) * _DURATION_S[unit or "s"]


def parse_size_bytes(value: Any) -> Any:
    """ "256MiB" -> 268435456. A bare number is bytes. Raises ValueError naming the units."""
    if not isinstance(value, str):
        return value
    match = _QUANTITY.match(value)
    if match is None or match[2].lower() not in _SIZE_BYTES:
        raise ValueError("a size like 64KiB, 256MiB or 1GB is needed")
    return int(float(match[1]) * _SIZE_BYTES[match[2].lower()])


Seconds = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=_LONGEST_S)]
Bytes = Annotated[int, BeforeValidator(parse_size_bytes), Field(ge=0, le=_LARGEST_BYTES)]


class Options(BaseModel):
    """Base of all option groups: frozen, strict about names, `_s` dropped in files."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        alias_generator=lambda name: name.removesuffix("_s"),
        use_attribute_docstrings=True,
    )


class L1Options(Options):
    """The cache in the proxy's own memory."""

    enabled: bool = True
    """Answer cacheable reads from memory."""
    max_bytes: Bytes = 256 * 1024**2
    """Byte budget of the cache, keys and bookkeeping included."""
    max_staleness_s: Annotated[Seconds, Field(gt=0)] = 0.05
    """Bound on staleness: every hit was current at some instant no longer ago than this."""
    max_age_s: Annotated[Seconds, Field(gt=0)] = 3600.0
    """An entry is read again from Redis after this time even if nothing changed it."""
    max_variants_per_key: Annotated[int, Field(ge=1, le=1024)] = 16
    """How many different reads (HGETALL k, HGET k f, ...) of one key are kept."""
    max_value_bytes: Bytes = 1024**2
    """Replies longer than this are never cached."""
    stale_on_error_s: Seconds = 30.0
    """While Redis is unreachable, entries known to be current at most this long ago are served."""
    fallback: Literal["off", "ttl"] = "off"
    """L1 if the server refuses CLIENT TRACKING: "off", or bounded by age alone ("ttl"): then writes
    past this Terrace become visible within fallback_max_age, not max_staleness."""
    fallback_max_age_s: Annotated[Seconds, Field(gt=0)] = 1.0
    """With fallback = "ttl": an entry is read again from Redis after this time."""
    hot_keys: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many of the most read keys are remembered in Redis and read into L1 at the next start."""
    warm_wait_s: Seconds = 0.0
    """How long /readyz waits for these keys. 0: not at all."""
    swapdb_watch_s: Seconds = 2.0
    """How often Terrace asks Redis, while L1 is in use, whether another client swapped databases,
    which Redis does not announce; 0 never."""
    refresh_on_write: bool = True
    """Read a key into L1 again after a write by a client of this Terrace, if clients read it."""
    touch_interval_s: Seconds = 1.0
    """How often sampled hits are touched in Redis, which would evict them as unused; 0 never."""
    audit_interval_s: Seconds = 1.0
    """How often a sampled hit is compared with Redis; 0 never, else at least 100ms."""


class NamespaceOptions(Options):
    """The promises for the keys that match a pattern, where they differ from [l1]."""

    match: str = Field(min_length=1)
    """Glob of the keys, like "cart:*". Of several that match, the one with most literal text."""
    consistency: Literal["bounded", "host", "strict", "bypass"] = "bounded"
    """"bounded": hits are at most max_staleness old. "host": and follow every write through this
    Terrace. "strict": and every acknowledged write through any Terrace, whose reply waits for it.
    "bypass": read from Redis each time."""
    max_staleness_s: Annotated[Seconds, Field(gt=0)] = 0.05
    """Bound on staleness of a hit. Left out: l1.max_staleness."""
    max_age_s: Annotated[Seconds, Field(gt=0)] = 3600.0
    """An entry is read again after this time. Left out: l1.max_age."""
    stale_on_error_s: Seconds = 30.0
    """How old an entry may be served while Redis is unreachable; never where strict. Left out:
    l1.stale_on_error."""
    l1: Literal["on", "off"] = "on"
    """Whether these keys may be kept in L1."""


class L2Options(Options):
    """The Redis behind the proxy."""

    url: str = "redis://127.0.0.1:6379/0"
    """redis://[user:password@]host:port, rediss:// for TLS, unix:///path/to.sock."""
    tls_ca_file: str = ""
    """For rediss://: PEM file of the authorities to trust. Empty: those of the system."""
    tls_cert_file: str = ""
    """For rediss://: PEM file of the certificate that Terrace shows to Redis. Empty: none."""
    tls_key_file: str = ""
    """Its private key, without a passphrase. Empty: it is in tls_cert_file."""
    tls_verify: bool = True
    """Refuse a Redis whose certificate is not trusted or is for another host name."""
    connect_timeout_s: Annotated[Seconds, Field(gt=0)] = 2.0
    """Time to connect and finish the handshake."""
    deadline_s: Annotated[Seconds, Field(gt=0)] = 6.0
    """A connection whose oldest request waits longer than this is considered dead. More than Redis'
    busy-reply-threshold (5 s), so that its -BUSY comes first."""
    ping_interval_s: Annotated[Seconds, Field(gt=0)] = 2.0
    """An idle shared connection is probed with PING this often."""
    backoff_min_s: Annotated[Seconds, Field(gt=0)] = 0.05
    """First pause before a reconnect; doubles, with jitter, up to backoff_max."""
    backoff_max_s: Annotated[Seconds, Field(gt=0)] = 0.5
    """Longest pause before a reconnect."""
    connect_rate: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Most new connections to Redis in a second (as many at once); further ones wait."""
    max_pinned: Annotated[int, Field(ge=1)] = 512
    """Most private connections at once (transactions, pub/sub, blocking commands)."""
    max_idle_pinned: Annotated[int, Field(ge=0)] = 16
    """Private connections kept open for reuse."""
    max_in_flight: Annotated[int, Field(ge=1)] = 200_000
    """Most requests waiting for replies on one shared connection; above it, requests fail fast."""
    on_error: Literal["error", "disconnect"] = "error"
    """What a client gets if Redis and all other tiers cannot answer: an error that says so, or
    (as when Redis itself goes) its connection is closed. Libraries try again after the latter,
    writes of unknown outcome included; applications like a Celery worker end at the former."""


VIEWS_MAX = 1024  # a cursor of SCAN has room for the index of as many


class ViewOptions(Options):
    """One mapping from a Redis key pattern to a PostgreSQL materialized view."""

    keys: str
    """Pattern of the Redis keys, like "airport:{iata}"; each field in braces is a key column."""
    view: str
    """The materialized view, optionally schema-qualified."""
    key: dict[str, str] = Field(default_factory=dict)
    """Field of the pattern -> column of the view. Default: the column of the same name."""
    reply: str = "json"
    """"json" (the row as a JSON string), "hash" (a Redis hash) or "string:<column>"."""
    query: str = ""
    """SELECT that defines the view; when the view does not exist it is created from this."""
    ttl_s: Annotated[Seconds, Field(gt=0)] = 300.0
    """How long L2 keeps a loaded row."""
    ttl_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """The ttl is shortened by a random share up to this, so rows don't expire together."""
    negative_ttl_s: Seconds = 5.0
    """How long the absence of a row is remembered."""
    refresh: str = "manual"
    """"manual", how often to refresh the view, like "60s", or "auto": as often as it pays, from the
    time a refresh takes and the number of keys it finds changed."""
    on_delete: Literal["reload", "tombstone"] = "reload"
    """After DEL of a mapped key: "reload" it at the next read, or keep it absent ("tombstone")."""
    scan: bool = True
    """Whether SCAN also returns the keys of the view."""
    warm: bool = False
    """Load all rows into Redis at start; of proxies that start together, one does it."""


class StoreOptions(Options):
    """Keys that PostgreSQL stores, too, and that outlive Redis."""

    keys: str
    """The keys: their common prefix and a star, like "session:*"."""


class L3Options(Options):
    """PostgreSQL materialized views behind Redis."""

    dsn: str = ""
    """libpq connection string or postgresql:// URL. Empty: no L3."""
    direct_dsn: str = ""
    """The same database past a connection pooler, if l3.dsn leads through one in transaction
    mode: for refreshes, LISTEN, Terrace's own tables and warming. Empty: l3.dsn."""
    pool_max: Annotated[int, Field(ge=2)] = 4
    """Most connections to PostgreSQL for loading rows. One view gets half of them at most, so that
    a locked view leaves some to the other views."""
    connect_timeout_s: Annotated[Seconds, Field(gt=0)] = 3.0
    """Time to connect."""
    deadline_s: Annotated[Seconds, Field(gt=0)] = 2.0
    """Statement timeout of one batch of row loads."""
    batch_max: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Most keys loaded by one query."""
    lease_s: Annotated[Seconds, Field(le=10)] = 0.1
    """How long other processes wait for a row that one process loads; 0: not at all."""
    queue_max: Annotated[int, Field(ge=1)] = 20_000
    """Most keys waiting to be loaded; above it, loads fail fast."""
    on_error: Literal["error", "nil"] = "error"
    """What a read of a mapped key answers when L3 is down: an error, or as if absent."""
    schema_name: str = Field(default="terrace", alias="schema")
    """PostgreSQL schema of Terrace's own tables."""
    warm_rate: Annotated[int, Field(ge=0)] = 0
    """Most rows per second that warming loads, for each view. 0: no limit."""
    warm_wait_s: Seconds = 0.0
    """How long /readyz waits for the views with warm = true. 0: not at all."""
    watch_s: Seconds = 2.0
    """How often to check whether another client refreshed a view; then all of its keys that are in
    Redis are loaded again. 0: never."""
    view: tuple[ViewOptions, ...] = ()
    """The mappings, one [[l3.view]] table each."""
    store: tuple[StoreOptions, ...] = ()
    """The durable keys, one [[l3.store]] table each."""
