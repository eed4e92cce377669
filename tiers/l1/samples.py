"""A few of the reads that L1 answers, for what works on hot keys: `touch` and `audit`.

At most one hit in SAMPLE_EVERY_S is noted, whatever the load: the hot path compares one
number, and a key is noted as often as its share of the hits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..wire.resp import pack
from .namespaces import ungated

SAMPLE_EVERY_S = 0.005
KEPT = 256


@dataclass(frozen=True, slots=True)
class Read:
    """One read that was a hit: its key, and the variant it is stored under."""

    key: bytes
    variant: bytes

    @property
    def _parts(self) -> list[bytes]:
        return ungated(self.variant).split(b":", 2)

    @property
    def proto(self) -> int:
        """The protocol that the stored reply is written in; GET is always stored as RESP3."""
        parts = self._parts
        return int(parts[0]) if len(parts) == 3 else 3

    @property
    def db(self) -> int:
        parts = self._parts
        return int(parts[1] if len(parts) == 3 else parts[0] or b"0")

    @property
    def request(self) -> bytes:
        parts = self._parts
        return parts[2] if len(parts) == 3 else pack([b"GET", self.key])


class HitSamples:
    """The newest samples. Whoever serves hits calls `note` when `due` has come."""

    def __init__(self) -> None:
        self.due = 0.0
        self.taken = 0
        self._reads: deque[Read] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<HitSamples {len(self._reads)} of {self.taken}>"

    def note(self, key: bytes, variant: bytes, now: float) -> None:
        self.due = now + SAMPLE_EVERY_S
        self.taken += 1
        self._reads.append(Read(key, variant))

    def newest(self, count: int) -> list[Read]:
        """The last `count` of them, newest first, each read once."""
        chosen = dict.fromkeys(reversed(self._reads))
        return list(chosen)[:count]
