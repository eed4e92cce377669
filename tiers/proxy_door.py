"""The second door: what the proxy in front needs of the tiers beyond the library's own names.

It is for the package `proxy` only. Nothing here is promised to other users; the names that are
promised are those of `tiers` itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import L1, L2, L2_REDIS, L3, L3_POSTGRES, OWN_KEYS
from .core import CORE, CORE_TEXT
from .glob import PATTERN_MAX_BYTES, literal_prefix
from .glob import matcher as glob_matcher
from .guard.breaker import BreakerStatistics
from .guard.breaker import State as BreakerState
from .host_cores import host_cores
from .host_memory import host_memory_bytes
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
from .l1.shared_arena import SharedArena, share_arena
from .l1.variants import Read, get_variant, read_variant
from .l2.check import check_l2
from .l2.private_queue import NoPlace
from .l2.tls import authorities_problem, key_pair_problems
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
from .options import VIEWS_MAX, Bytes, Options, Seconds
from .periodic import Janitor
from .store.keys import Mapped, StoreMappings
from .store.lineage import BLIND, LineageSnapshot
from .store.store import StoreStatistics
from .tasks import TaskSet
from .turns import in_turns
from .views import Mappings, ViewMapping
from .watch.audit import Audit, AuditStatistics
from .watch.hot_keys import HotKeys
from .watch.touch import Toucher
from .wire.pipe import DISCARD, TOO_LARGE, Waiter
from .wire.resp import RequestScanner
from .wire.server_limits import LARGE_COMMAND_BYTES

if TYPE_CHECKING:
    from .l3.figures import L3Statistics
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
    "CoalescerStatistics",
    "Endpoint",
    "FieldFill",
    "FieldNames",
    "Fields",
    "Fill",
    "HeldRow",
    "HotKeys",
    "Janitor",
    "L3Statistics",
    "LaneStatistics",
    "LineageSnapshot",
    "Mapped",
    "Mappings",
    "NoPlace",
    "Options",
    "Read",
    "RequestScanner",
    "Seconds",
    "SharedArena",
    "Step",
    "StoreMappings",
    "StoreStatistics",
    "TaskSet",
    "Toucher",
    "Triggers",
    "Upstream",
    "Via",
    "ViewMapping",
    "ViewStatus",
    "Waiter",
    "WarmStatistics",
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
    "read_fill",
    "read_variant",
    "run_triggers",
    "set_keepalive",
    "settle_command",
    "share_arena",
    "unused_name",
    "with_pttl",
]

# They need psycopg, which takes a tenth of the time to start: imported when first asked for.
_WITH_PSYCOPG = {
    "L3Statistics": "tiers.l3.figures",
    "LaneStatistics": "tiers.pg.lane",
    "Triggers": "tiers.l3.triggers",
    "ViewStatus": "tiers.refresh.status",
    "run_triggers": "tiers.l3.triggers",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_PSYCOPG:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_PSYCOPG[name]), name)
