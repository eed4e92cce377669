"""Strict keys: a write is acknowledged when no Terrace can serve what it replaced.

Theory
  A hit at time t is as of some instant >= t - max_staleness (coherence.py). So when
  max_staleness has passed since Redis acknowledged a write, every hit on every Terrace
  is as of an instant after it. That alone is the promise; it needs no clocks that agree,
  only ones that run equally fast. Held is the reply, not the key: others may see the
  new value before.

  Waiting is of no use when nobody else can serve the key, so each Terrace asks, after
  the write was acknowledged, who can. The answer is trusted because
    1. a Terrace serves strict hits only under a lease: it is entered in a set in Redis,
       and its own clock says that this was asked for less than LEASE_S ago. The entry
       stays twice as long, for clocks of Redis that jump;
    2. the set tells its age. Once it is older than any lease can be, every lease that
       holds was entered in this very set, however often it was lost before (FLUSHALL,
       eviction, failover): until then all are presumed to be others with our options.
  A Terrace that enters after the question was answered fills its cache after the write.
  Others are waited for as long as their own options say: the entry holds the digest of
  their strict namespaces, and the largest bound of these.

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
LEASE_S = 5.0  # how long strict hits may be served after an entry was asked for
KEPT_S = 2 * LEASE_S
RENEW_S = LEASE_S / 4
CLOCKS_DIFFER = 1.001  # by at most so much they run faster or slower than each other


@dataclass(frozen=True, slots=True)
class Peers:
    """Who else may serve strict keys, as far as is known."""

    settled: bool  # nobody can be missing
    bounds_s: tuple[tuple[bytes, float], ...] = ()  # digest of the options, largest bound

    def wait_s(self, digest: bytes, bound_s: float) -> float:
        """How long others may serve the old value of a key whose bound here is `bound_s`."""
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
        self._tables_differ = False  # from those of another Terrace, as the log says
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
        """Call `on_over` once a write that Redis has just acknowledged is seen by everybody."""
        self.held += 1
        self.holding += 1
        self._held.append((self._clock(), bound_s, on_over))
        if not self._asking:
            self._asking = True
            self._tasks.start("ask", self._ask())

    async def wait(self, keys: Sequence[bytes]) -> None:
        """The same for a caller that has just written these keys."""
        bound_s = self._namespaces.strict_s(keys)
        if bound_s:
            seen = asyncio.Event()
            self.hold(bound_s, seen.set)
            await seen.wait()

    async def _ask(self) -> None:
        """One question for all writes that were acknowledged before it."""
        loop = asyncio.get_running_loop()
        while self._held:
            held, self._held = self._held, []
            self.peers = await self._look(b"") or UNKNOWN
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
        peers = await self._look(self._member)
        if peers is None:
            return
        l1.strict_until = asked_at + LEASE_S
        differ = any(theirs != self._digest for theirs, _ in peers.bounds_s)
        if differ and not self._tables_differ:
            log.warning(
                "another Terrace on this Redis has other strict [[namespace]] tables; "
                "their promises hold only where the tables are the same"
            )
        self._tables_differ = differ

    async def _look(self, member: bytes) -> Peers | None:
        """What Redis says; None when it does not."""
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
