"""The tiers behind the proxy, usable without it.

A tier answers reads with an `Outcome` (hit, negative, miss, stale, unavailable), never with
an exception, and never with a nil if it is down. From the fastest:

  L1  `L1Memory`    raw replies in this process, kept coherent by Redis' own tracking
  L2  `L2Redis`     the Redis that writes go to
  L3  `L3Postgres`  rows of materialized views, mapped to keys

`TieredCache` combines the three, and is itself a tier:

    async with TieredCache(L2Options(url="redis://127.0.0.1:6379")) as cache:
        await cache.set(b"greeting", b"hello", ttl_s=60)
        outcome = await cache.get(b"greeting")

The consistency promise: a hit was current in Redis at some instant no longer than
`l1.max_staleness` ago, and a caller that awaited its own write reads it. The rules
are in `coherence`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import (
    L1,
    L2,
    L2_REDIS,
    L3,
    L3_POSTGRES,
    OWN_KEYS,
    Kind,
    Outcome,
    Size,
    Tier,
    Value,
    WritableTier,
)
from .core import CORE, CORE_TEXT
from .errors import MappingProblem, ProtocolError, ServerError, TierError, TierUnavailable
from .glob import PATTERN_MAX_BYTES, literal_prefix
from .glob import matcher as glob_matcher
from .guard.breaker import BreakerStatistics
from .guard.breaker import State as BreakerState
from .host_cores import host_cores
from .host_memory import host_memory_bytes
from .l1.coherence import Coherence
from .l1.fill import Fill, with_pttl
from .l1.hash_fields import (
    FIELDS_MAX,
    FieldFill,
    FieldNames,
    Fields,
    absent_in,
    ask_fields,
    fields_of,
)
from .l1.memory import L1Memory
from .l1.namespaces import Namespace, Namespaces
from .l1.shared_arena import SharedArena, share_arena
from .l1.variants import Read, get_variant, read_variant
from .l2.check import check_l2
from .l2.kept_upstream import KeptUpstream
from .l2.private_queue import NoPlace
from .l2.redis import L2Redis
from .l2.tls import CertificateError, authorities_problem, key_pair_problems
from .l2.upstream import ANY_DB, Endpoint, Upstream, Via, set_keepalive
from .load.coalesce import CoalescerStatistics
from .load.held_rows import (
    TOMBSTONE,
    HeldRow,
    Step,
    fill_commands,
    read_fill,
    settle_command,
    unused_name,
)
from .load.warm import WarmStatistics
from .options import (
    VIEWS_MAX,
    Bytes,
    L1Options,
    L2Options,
    L3Options,
    NamespaceOptions,
    Options,
    Seconds,
    StoreOptions,
    ViewOptions,
    parse_duration_s,
)
from .periodic import Janitor
from .stack import TieredCache
from .store.keys import Mapped, StoreMapping, StoreMappings
from .store.lineage import BLIND, LineageSnapshot
from .store.store import StoreStatistics
from .tasks import TaskSet
from .turns import in_turns
from .views import Mappings, ViewMapping
from .watch.audit import Audit, AuditStatistics
from .watch.hot_keys import HotKeys
from .watch.touch import Toucher
from .wire.pipe import DISCARD, TOO_LARGE, Waiter
from .wire.resp import Request, RequestScanner
from .wire.server_limits import LARGE_COMMAND_BYTES

if TYPE_CHECKING:
    from .l3.figures import L3Statistics
    from .l3.postgres import L3Postgres
    from .l3.triggers import Triggers, run_triggers
    from .pg.lane import LaneStatistics
    from .refresh.status import ViewStatus

__all__ = [
    "ANY_DB",
    "BLIND",
    "CORE",
    "CORE_TEXT",
    "DISCARD",
    "FIELDS_MAX",
    "L1",
    "L2",
    "L2_REDIS",
    "L3",
    "L3_POSTGRES",
    "LARGE_COMMAND_BYTES",
    "OWN_KEYS",
    "PATTERN_MAX_BYTES",
    "TOMBSTONE",
    "TOO_LARGE",
    "VIEWS_MAX",
    "Audit",
    "AuditStatistics",
    "BreakerState",
    "BreakerStatistics",
    "Bytes",
    "CertificateError",
    "CoalescerStatistics",
    "Coherence",
    "Endpoint",
    "FieldFill",
    "FieldNames",
    "Fields",
    "Fill",
    "HeldRow",
    "HotKeys",
    "Janitor",
    "KeptUpstream",
    "Kind",
    "L1Memory",
    "L1Options",
    "L2Options",
    "L2Redis",
    "L3Options",
    "L3Postgres",
    "L3Statistics",
    "LaneStatistics",
    "LineageSnapshot",
    "Mapped",
    "MappingProblem",
    "Mappings",
    "Namespace",
    "NamespaceOptions",
    "Namespaces",
    "NoPlace",
    "Options",
    "Outcome",
    "ProtocolError",
    "Read",
    "Request",
    "RequestScanner",
    "Seconds",
    "ServerError",
    "SharedArena",
    "Size",
    "Step",
    "StoreMapping",
    "StoreMappings",
    "StoreOptions",
    "StoreStatistics",
    "TaskSet",
    "Tier",
    "TierError",
    "TierUnavailable",
    "TieredCache",
    "Toucher",
    "Triggers",
    "Upstream",
    "Value",
    "Via",
    "ViewMapping",
    "ViewOptions",
    "ViewStatus",
    "Waiter",
    "WarmStatistics",
    "WritableTier",
    "absent_in",
    "ask_fields",
    "authorities_problem",
    "check_l2",
    "fields_of",
    "fill_commands",
    "get_variant",
    "glob_matcher",
    "host_cores",
    "host_memory_bytes",
    "in_turns",
    "key_pair_problems",
    "literal_prefix",
    "parse_duration_s",
    "read_fill",
    "read_variant",
    "run_triggers",
    "set_keepalive",
    "settle_command",
    "share_arena",
    "unused_name",
    "with_pttl",
]

# These need psycopg, which takes a tenth of the start time: imported on first use.
_WITH_PSYCOPG = {
    "L3Postgres": "l3.postgres",
    "L3Statistics": "l3.figures",
    "LaneStatistics": "pg.lane",
    "Triggers": "l3.triggers",
    "ViewStatus": "refresh.status",
    "run_triggers": "l3.triggers",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_PSYCOPG:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WITH_PSYCOPG[name]}", __name__), name)
