"""L1 as a tier: the arena, its coherence and its options in one place.

What may be cached and under which deadline is decided here; where it is stored
is the arena's business and whether it may be served is coherence's.

Promise of get: a value that was current in Redis at some instant no longer than
`max_staleness` ago, or a miss. It never answers NEGATIVE or UNAVAILABLE: a closed
L1 (no tracking, late watermark) is a miss, because L2 can still be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .arena import Arena
from .base import Kind, Outcome
from .coherence import Coherence
from .options import L1Options
from .resp import NULL3

TTL_NONE, TTL_ABSENT = -1, -2  # PTTL replies: no expiry, no such key


def get_variant(db: int) -> bytes:
    """The variant under which GET is stored; shared by RESP2 and RESP3 clients."""
    return b"%d" % db if db else b""


def read_variant(proto: int, db: int, raw: bytes) -> bytes:
    """The variant of any other read: its very bytes, per protocol and database."""
    return b"%d:%d:%b" % (proto, db, raw)


class L1Memory:
    """`arena` and `coherence` are public: the proxy's hot path calls them directly."""

    name = "L1"

    def __init__(self, options: L1Options, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.arena = Arena(options.max_bytes, max_variants=options.max_variants_per_key)
        self.coherence = Coherence(
            self.arena,
            max_staleness_s=options.max_staleness_s,
            stale_on_error_s=options.stale_on_error_s,
        )

    def __repr__(self) -> str:
        return f"<L1Memory {self.arena!r} {self.coherence!r}>"

    def commit(
        self, key: bytes, variant: bytes, reply: bytes, token: int, epoch: int,
        sent_at: float, pttl_ms: int, max_age_s: float | None = None,
    ) -> bool:  # fmt: skip
        """Store a reply; `pttl_ms` is PTTL's answer in the same stream, before the read.

        The deadline counts from the sending, so it is never late.
        """
        if not token or reply[:1] in (b"-", b"!") or len(reply) > self.options.max_value_bytes:
            return False
        age_s = self.options.max_age_s if max_age_s is None else max_age_s
        if pttl_ms >= 0:
            age_s = min(age_s, pttl_ms / 1000)
        if reply == NULL3:
            reply = NULL3  # share one object among all nils
        return self.arena.commit_fill(key, variant, reply, token, epoch, sent_at + age_s)

    async def get(self, key: bytes) -> Outcome:
        now = self.clock()
        reply = self.arena.get(key, b"", now) if self.coherence.is_open(now) else None
        if reply is None:
            return Outcome(Kind.MISS, tier=self.name)
        if reply == NULL3:
            return Outcome(Kind.NEGATIVE, tier=self.name)
        return Outcome(Kind.HIT, value=reply[reply.index(b"\n") + 1 : -2], tier=self.name)

    async def invalidate(self, keys: Sequence[bytes]) -> None:
        self.coherence.on_push(keys)

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]:
        now = self.clock()
        variants = self.arena.variants(key)
        facts: dict[str, str] = {}
        if not variants:
            facts["L1"] = "absent"
        else:
            entry = self.arena.peek(key, get_variant(db))
            usable = variants and self.coherence.is_open(now)
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
        elif not self.coherence.is_open(now):
            facts["L1.why"] = (
                f"the watermark is {self.coherence.age_s(now) * 1000:.0f} ms old, more than "
                f"l1.max_staleness; it moves with the next reads"
            )
        return facts
