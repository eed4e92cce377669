"""L1 as a tier: the arena, its coherence and its options in one place.

This module and `coherence` decide whether an entry may be served; `fill` decides what may be
stored, and under which deadline; the arena decides where.

Promise of get: a value that was current in Redis at some instant no longer than
`max_staleness` ago, or a miss. A closed L1 (no tracking, late watermark) is a miss, never
UNAVAILABLE, because L2 may have the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, cast

from ..base import L1, Kind, Outcome
from ..options import L1Options
from ..wire.resp import NULL2, NULL3
from .arena import Arena
from .coherence import Coherence
from .namespaces import Namespace, Namespaces
from .samples import HitSamples
from .variants import get_variant

if TYPE_CHECKING:
    from .shared_arena import SharedArena


class L1Memory:
    """`arena` and `coherence` are public: the proxy's hot path calls them directly."""

    name = L1

    def __init__(
        self,
        options: L1Options,
        clock: Callable[[], float],
        namespaces: Namespaces | None = None,
        arena: SharedArena | None = None,
    ) -> None:
        self.options = options
        self.namespaces = Namespaces() if namespaces is None else namespaces
        self.strict_until = 0.0  # the end of the lease to serve strict keys (`watch/strict.py`)
        self.samples = HitSamples()
        # Called at every read by clients: the watermark has to move (`L2Redis.keep_watermark`).
        self.on_read: Callable[[float, Namespace | None], object] = lambda now, space: None
        self.clock = clock
        if arena is None:
            self.arena = Arena(options.max_bytes, max_variants=options.max_variants_per_key)
        else:
            self.arena = cast(Arena, arena)  # the twins have the same interface
            self.arena.max_staleness_s = options.max_staleness_s
        self._smallest_bytes = options.max_bytes // 32
        self.coherence = Coherence(
            self.arena,
            max_staleness_s=options.max_staleness_s,
            stale_on_error_s=options.stale_on_error_s,
        )

    def __repr__(self) -> str:
        return f"<L1Memory {self.arena!r} {self.coherence!r}>"

    def can_hold(self, max_bytes: int) -> bool:
        """Whether `adopt` can set this budget: the compiled arena has reserved its addresses."""
        return self._smallest_bytes <= max_bytes <= self.arena.reserve_bytes

    def adopt(self, options: L1Options) -> None:
        """Take other options: the budget, bounds on staleness and ages."""
        if options.max_bytes != self.options.max_bytes:
            self.arena.resize(options.max_bytes)
        if self.arena.workers > 1:
            self.arena.max_staleness_s = options.max_staleness_s
        self.options = options
        self.coherence.max_staleness_s = options.max_staleness_s
        self.coherence.stale_on_error_s = options.stale_on_error_s

    @property
    def max_age_s(self) -> float:
        """The largest age of an entry outside all namespaces."""
        return min(self.options.max_age_s, self.coherence.age_bound_s)

    def age_s(self, space: Namespace | None, max_age_s: float | None = None) -> float:
        """The largest age of an entry of this namespace; `max_age_s` may lower it."""
        age_s = self.max_age_s if space is None else space.max_age_s
        if max_age_s is not None:
            age_s = min(age_s, max_age_s)
        if space is not None and self.coherence.age_bound_s != inf:
            age_s = min(age_s, self.coherence.age_bound_s)
            if space.gated:  # without tracking, the age bounds the staleness
                age_s = min(age_s, space.max_staleness_s)
        return age_s

    def is_open(self, now: float, space: Namespace | None = None) -> bool:
        """Whether hits of a namespace may be served."""
        if space is None or not space.gated:
            return self.coherence.is_open(now)
        if space.strict and now >= self.strict_until:
            return False
        return self.coherence.live and now - self.coherence.asof <= space.max_staleness_s

    def read(
        self,
        key: bytes,
        variant: bytes,
        now: float,
        proto: int = 3,
        *,
        may_serve: bool = True,
        moves_watermark: bool = True,
    ) -> bytes | None:
        """The reply that may be served now, in the form of the protocol; else None.

        Every read of one key calls this, also for a client that may not be served: while clients
        read, the watermark keeps moving. (`ClientPipe._run` does the same inline for a batch of
        plain GETs.)
        """
        spaces = self.namespaces
        space = spaces.find(key) if spaces.prefixes else None
        if space is not None and not space.cached:
            return None
        if moves_watermark:
            self.on_read(now, space)
        if not may_serve or not self.is_open(now, space):
            return None
        if space is not None:
            variant = space.variant(variant)
        reply = self.arena.get(key, variant, now)
        if reply is None:
            return None
        if now >= self.samples.due:
            self.samples.note(key, variant, now)
        return NULL2 if proto == 2 and reply == NULL3 else reply

    def read_all(
        self,
        keys: Sequence[bytes],
        variant: bytes,
        now: float,
        proto: int = 3,
        *,
        room_bytes: int,
        may_serve: bool = True,
    ) -> list[bytes | None] | None:
        """As `read`, for keys that are read at one instant; None if they exceed `room_bytes`.

        The entries are valid together: they are one state of Redis. They are not sampled.
        """
        self.on_read(now, None)
        found: list[bytes | None] = [None] * len(keys)
        if not may_serve or not self.coherence.is_open(now):
            return found
        get = self._get_in_space if self.namespaces else self.arena.get
        for position, key in enumerate(keys):
            reply = found[position] = get(key, variant, now)
            if reply is not None:
                room_bytes -= len(reply)
                if room_bytes < 0:
                    return None
        return [NULL2 if r == NULL3 else r for r in found] if proto == 2 else found

    def _get_in_space(self, key: bytes, variant: bytes, now: float) -> bytes | None:
        space = self.namespaces.find(key)
        if not self.is_open(now, space):
            return None
        return self.arena.get(key, space.variant(variant) if space else variant, now)

    def is_hot(self, key: bytes, variant: bytes, now: float) -> bool:
        """Whether the next read would be a hit, and clients read the entry: an entry that was
        refreshed after a write, and not read since, is not worth another refresh."""
        space = self.namespaces.find(key)
        if space is not None:
            variant = space.variant(variant)
        return self.is_open(now, space) and self.arena.is_hot(key, variant, now)

    def get_suspect(self, key: bytes, variant: bytes, now: float) -> bytes | None:
        """An entry to serve while Redis is out of reach, if the key's namespace allows it."""
        space = self.namespaces.find(key)
        if space is None:
            return self.coherence.get_suspect(key, variant, now)
        return self.coherence.get_suspect(key, space.variant(variant), now, space.stale_on_error_s)

    async def get(self, key: bytes) -> Outcome:
        # A miss needs no PING: it goes to Redis on the same connection.
        now = self.clock()
        reply = self.read(key, get_variant(0), now, moves_watermark=False)
        if reply is None:
            return Outcome(Kind.MISS, tier=self.name)
        self.on_read(now, self.namespaces.find(key))
        if reply == NULL3:
            return Outcome(Kind.NEGATIVE, tier=self.name)
        return Outcome(Kind.HIT, value=reply[reply.index(b"\n") + 1 : -2], tier=self.name)

    async def invalidate(self, keys: Sequence[bytes]) -> None:
        self.coherence.on_push(keys)

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]:
        now = self.clock()
        variants = self.arena.variants(key)
        facts: dict[str, str] = {}
        space = self.namespaces.find(key)
        variant = get_variant(db)
        if space is not None:
            facts["namespace"] = f"{space.pattern.decode('utf-8', 'replace')} ({space.consistency})"
            variant = space.variant(variant)
        if space is not None and not space.cached:
            facts["L1"] = "off for this namespace"
        elif not variants:
            facts["L1"] = "absent"
        else:
            entry = self.arena.peek(key, variant)
            usable = variants and self.is_open(now, space)
            fresh = entry is not None and entry[3] == self.arena.epoch and now < entry[1]
            facts["L1"] = (
                "present" if usable and (fresh or entry is None) else "present, not served"
            )
            facts["L1.variants"] = str(variants)
            facts["L1.size"] = f"{self.arena.size_bytes(key)} bytes"
            if entry is not None:
                facts["L1.deadline"] = f"in {max(0.0, entry[1] - now):.3f} s"
        if not self.coherence.live:
            facts["L1.why"] = "no tracked connection to L2: no hits and no fills"
        elif space is not None and space.strict and now >= self.strict_until:
            facts["L1.why"] = "no lease to serve strict keys; Terrace requests one in Redis"
        elif not self.is_open(now, space):
            facts["L1.why"] = (
                f"the watermark is {self.coherence.age_s(now) * 1000:.0f} ms old, more than "
                f"max_staleness; it moves with the next reads"
            )
        return facts
