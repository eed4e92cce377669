"""Strict keys: acknowledges a write only when no Terrace can serve the old value.

Theory
  A hit at time t is as of some instant >= t - max_staleness (coherence.py). So when
  max_staleness has passed since Redis acknowledged a write, every hit on every Terrace
  is as of an instant after it. That alone is the promise; it needs no synchronised clocks,
  only clocks that run equally fast. The reply is held, not the key: other clients may see
  the new value before.

  The wait is needless if no other Terrace can serve the key. So each Terrace asks Redis for
  the list of its peers, after the write was acknowledged. The answer is reliable because
    1. a Terrace serves strict hits only under a lease: it is entered in a set in Redis,
       and it requested that less than LEASE_S ago by its own clock. The entry stays twice
       as long, in case the clock of Redis jumps;
    2. the set has an age. Once it is older than any lease, every valid lease was entered
       in this very set, even if the set was lost before (FLUSHALL, eviction, failover).
       Until then Terrace assumes unknown peers with its own options.
  A Terrace that enters after the answer fills its cache after the write. The wait for a peer
  depends on its own options: the entry holds the digest of its strict namespaces, and
  their largest bound.

  The own cache needs no wait: its rules for own writes are exact.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import ServerError, TierUnavailable
from ..l1.memory import L1Memory
from ..l1.namespaces import Namespaces
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..periodic import Janitor
from ..tasks import TaskSet

log = logging.getLogger("terrace.l2")

PEERS = b"__terrace:peers"
LEASE_S = 5.0  # how long strict hits may be served after an entry was requested
KEPT_S = 2 * LEASE_S
RENEW_S = LEASE_S / 4
CLOCKS_DIFFER = 1.001  # the largest ratio between the speeds of two clocks


@dataclass(frozen=True, slots=True)
class Peers:
    """The other Terraces that may serve strict keys, as far as they are known."""

    settled: bool  # the list is complete
    bounds_s: tuple[tuple[bytes, float], ...] = ()  # digest of the options, largest bound

    def wait_s(self, digest: bytes, bound_s: float) -> float:
        """How long peers may serve the old value of a key whose bound here is `bound_s`."""
        known = [bound_s if theirs == digest else largest for theirs, largest in self.bounds_s]
        return max(known + ([] if self.settled else [bound_s]), default=0.0)


UNKNOWN = Peers(settled=False)


class StrictWrites:
    """Holds replies of strict writes, and keeps the lease under which `l1` serves strict keys."""

    def __init__(
        self,
        l2: L2Redis,
        l1: L1Memory | None,
        namespaces: Namespaces,
        clock: Callable[[], float],
    ) -> None:
        self._l2 = l2
        self._l1 = l1
        self._namespaces = namespaces
        self._clock = clock
        self._tasks = TaskSet("strict")
        self._digest = namespaces.strict_digest
        largest_us = round(namespaces.largest_strict_s * 1e6)
        self._member = b"%b %d %b" % (uuid.uuid4().hex.encode(), largest_us, self._digest)
        self._script = Script("watch/peers.lua")
        self._held: list[tuple[float, float, Callable[[], None]]] = []
        self._asking = False
        self._tables_differ = False  # from those of another Terrace; logged once
        self.holding = 0  # replies that wait now
        self.held = 0  # since the start
        self.peers = UNKNOWN

    def __repr__(self) -> str:
        return f"<StrictWrites {self.holding} held, {self.peers}>"

    def start(self) -> None:
        if self._l1 is not None and self._namespaces.largest_strict_s:
            renew = partial(self._renew_lease, self._l1)
            Janitor(self._tasks).register("lease", RENEW_S, renew, at_once=True)

    async def close(self) -> None:
        await self._tasks.close()

    def hold(self, bound_s: float, on_over: Callable[[], None]) -> None:
        """Call `on_over` once every reader sees a write that Redis has just acknowledged."""
        self.held += 1
        self.holding += 1
        self._held.append((self._clock(), bound_s, on_over))
        if not self._asking:
            self._asking = True
            self._tasks.start("ask", self._ask())

    async def wait(self, keys: Sequence[bytes]) -> None:
        """As `hold`, for a caller that has just written these keys."""
        bound_s = self._namespaces.strict_s(keys)
        if bound_s:
            seen = asyncio.Event()
            self.hold(bound_s, seen.set)
            await seen.wait()

    async def _ask(self) -> None:
        """Ask once for all writes that were acknowledged before."""
        loop = asyncio.get_running_loop()
        while self._held:
            held, self._held = self._held, []
            self.peers = await self._read_peers(b"") or UNKNOWN
            for acked_at, bound_s, on_over in held:
                wait_s = self.peers.wait_s(self._digest, bound_s) * CLOCKS_DIFFER
                loop.call_soon(self._release, acked_at + wait_s, on_over)
        self._asking = False

    def _release(self, due: float, on_over: Callable[[], None]) -> None:
        left_s = due - self._clock()
        if left_s > 0:  # also when a timer was early
            asyncio.get_running_loop().call_later(left_s, self._release, due, on_over)
        else:
            self.holding -= 1
            on_over()

    async def _renew_lease(self, l1: L1Memory) -> None:
        asked_at = self._clock()
        peers = await self._read_peers(self._member)
        if peers is None:
            return
        l1.strict_until = asked_at + LEASE_S
        differ = any(theirs != self._digest for theirs, _ in peers.bounds_s)
        if differ and not self._tables_differ:
            log.warning(
                "another Terrace on this Redis has other strict [[namespace]] tables; "
                "their promises hold only for tables that are the same"
            )
        self._tables_differ = differ

    async def _read_peers(self, member: bytes) -> Peers | None:
        """The peers by the set in Redis; None if Redis does not answer."""
        try:
            age_ms, members = await self._l2.run_script(
                self._script, [PEERS], [member, b"%d" % (KEPT_S * 1000)]
            )
        except (TierUnavailable, ServerError):
            return None
        others = (m.split(b" ") for m in members if m != self._member)
        return Peers(
            settled=age_ms > KEPT_S * 1000,
            bounds_s=tuple((digest, int(bound) / 1e6) for _, bound, digest in others),
        )
