"""The source of all rows: one snapshot of a worker, which takes each statistics once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiers import L1Memory, L2Redis, L3Postgres, Size
    from tiers.proxy_door import (
        AuditStatistics,
        BreakerStatistics,
        CoalescerStatistics,
        HotKeys,
        L3Statistics,
        LaneStatistics,
        StoreStatistics,
        Toucher,
        ViewStatus,
        WarmStatistics,
    )

    from ..client.host import Host
    from ..stats import Stats


class Part(Enum):
    """A feature that a figure needs; without it the figure does not exist."""

    ALL = ""
    L1 = "l1.enabled"
    STRICT = "a strict [[namespace]]"
    HOT_KEYS = "l1.hot_keys"
    L3 = "l3.dsn"
    STORE = "l3.store"


class Reading:
    """One snapshot of `host`. `sizes` and `views` are earlier answers of the tiers.

    A property of a part that is not in `parts` must not be read.
    """

    def __init__(
        self, host: Host, sizes: Mapping[str, Size] | None = None, views: Sequence[ViewStatus] = ()
    ) -> None:
        self.host = host
        self.stack = host.stack
        self.now = host.clock()
        self.sizes = sizes or {}
        self.views = views

    @cached_property
    def parts(self) -> frozenset[Part]:
        stack = self.stack
        in_use = {
            Part.ALL: True,
            Part.L1: stack.l1 is not None,
            Part.STRICT: bool(stack.namespaces.largest_strict_s),
            Part.HOT_KEYS: stack.hot_keys is not None and bool(stack.hot_keys.limit),
            Part.L3: stack.l3 is not None,
            Part.STORE: stack.store is not None,
        }
        return frozenset(part for part, is_used in in_use.items() if is_used)

    @cached_property
    def stats(self) -> Stats:
        return self.host.stats

    @property
    def is_l1_live(self) -> bool:
        return self.stack.l1 is not None and self.stack.l1.coherence.live

    @property
    def l1(self) -> L1Memory:
        assert self.stack.l1 is not None
        return self.stack.l1

    @cached_property
    def audit(self) -> AuditStatistics:
        assert self.stack.audit is not None
        return self.stack.audit.statistics()

    @property
    def toucher(self) -> Toucher:
        assert self.stack.toucher is not None
        return self.stack.toucher

    @property
    def hot_keys(self) -> HotKeys:
        assert self.stack.hot_keys is not None
        return self.stack.hot_keys

    @property
    def l2(self) -> L2Redis:
        return self.stack.l2

    @cached_property
    def l2_breaker(self) -> BreakerStatistics:
        return self.l2.gate.breaker.statistics()

    @property
    def l3(self) -> L3Postgres:
        assert self.stack.l3 is not None
        return self.stack.l3

    @cached_property
    def l3_breaker(self) -> BreakerStatistics:
        return self.l3.breaker

    @cached_property
    def l3_counts(self) -> L3Statistics:
        return self.l3.statistics()

    @cached_property
    def lanes(self) -> Mapping[str, LaneStatistics]:
        return self.l3.lanes()

    @cached_property
    def queues(self) -> CoalescerStatistics:
        return self.stack.queues()

    @cached_property
    def warm(self) -> WarmStatistics:
        assert self.stack.warmer is not None
        return self.stack.warmer.statistics()

    @cached_property
    def store(self) -> StoreStatistics:
        assert self.stack.store is not None
        return self.stack.store.statistics()
