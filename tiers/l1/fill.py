"""The fill of L1: it decides whether to store the reply of a read, and until when.

Rules of this file
  1. It does no IO and reads no clock. Its owner sends what `with_pttl` gives, feeds the replies,
     and asks for the commit.
  2. It begins before the bytes of the read can enter the socket. A token from then on refuses
     the reply if the key is changed meanwhile; the epoch refuses it if tracking was lost.
  3. PTTL is sent in front of the read, in the same stream. Redis tracks the key from there on, so
     no change stays unnoticed between the two replies. The deadline counts from the sending, so
     it is never late.

Every read that fills L1 uses this one rule. The compiled twin of `Fill.commit` is
`proxy/client/_in_flight.pyx`, for reads of keys without a namespace.
"""

from __future__ import annotations

import enum

from ..wire.resp import NULL3
from .memory import L1Memory

TTL_ABSENT = -2  # PTTL's reply for a key that is absent
TTL_REFUSED = -9  # PTTL's reply was an error

_PTTL_HEAD = b"*2\r\n$4\r\nPTTL\r\n"


class Refusal(enum.Enum):
    """Why L1 does not store a reply."""

    NOT_BEGUN = "no L1, no tracking, or a write of the key was under way when the read began"
    NO_TTL = "the reply to PTTL is an error"
    ERROR = "the reply is an error"
    TOO_LARGE = "the reply is larger than l1.max_value_bytes"
    NOT_CACHED = "the namespace of the key is not cached"
    OVERTAKEN = "the key was changed or tracking was lost since, or the arena has no room for it"


def with_pttl(key: bytes, command: bytes = b"") -> bytes:
    """PTTL of the key, and the encoded read behind it."""
    return b"%b$%d\r\n%b\r\n%b" % (_PTTL_HEAD, len(key), key, command)


class Fill:
    """One read of one key, from before its sending until L1 stores or refuses its reply.

    Without an L1 it has no token and only knows the reply to PTTL. `unasked`: no client sent
    the read (see `L1Memory.is_hot`).
    """

    __slots__ = ("_l1", "_unasked", "epoch", "key", "max_age_s", "pttl_ms", "reply", "sent_at",
                 "token", "variant")  # fmt: skip

    def __init__(
        self, l1: L1Memory | None, key: bytes, variant: bytes, *, unasked: bool = False
    ) -> None:
        self._l1, self.key, self.variant, self._unasked = l1, key, variant, unasked
        self.token = self.epoch = 0
        if l1 is not None:
            self.token = l1.coherence.begin_fill(key)
            self.epoch = l1.arena.epoch
        self.pttl_ms: int | None = None
        self.reply = b""
        self.sent_at = 0.0
        self.max_age_s: float | None = None  # less than the options allow

    @classmethod
    def begun(cls, l1: L1Memory | None, key: bytes, variant: bytes, token: int, epoch: int) -> Fill:
        """A fill that the compiled lane began."""
        fill = cls(None, key, variant)
        fill._l1, fill.token, fill.epoch = l1, token, epoch
        return fill

    def __repr__(self) -> str:
        return f"<Fill {self.key!r} token={self.token} pttl_ms={self.pttl_ms}>"

    @property
    def is_absent(self) -> bool:
        """Whether PTTL reported that the key does not exist."""
        return self.pttl_ms == TTL_ABSENT

    @property
    def ttl_unknown(self) -> bool:
        """Whether PTTL has not reported the end of the key."""
        return self.pttl_ms is None or self.pttl_ms == TTL_REFUSED

    # twin: _in_flight._pttl
    def feed(self, reply: bytes, sent_at: float) -> bool:
        """Take PTTL's reply, then that of the read. Returns whether both are there."""
        if self.pttl_ms is None:
            self.pttl_ms = int(reply[1:-2]) if reply[:1] == b":" else TTL_REFUSED
            return False
        self.reply, self.sent_at = reply, sent_at
        return True

    def end_in(self, left_ms: int) -> None:
        """Let the entry end no later than `left_ms` after the sending, even before its key."""
        if self.pttl_ms is None or not 0 <= self.pttl_ms <= left_ms:
            self.pttl_ms = left_ms

    # twin: _in_flight._commit
    def commit(self) -> Refusal | None:
        """Store the reply. Returns None, or the reason why L1 refuses it."""
        l1, pttl_ms, reply = self._l1, self.pttl_ms, self.reply
        if l1 is None or not self.token:
            return Refusal.NOT_BEGUN
        if pttl_ms is None or pttl_ms == TTL_REFUSED:
            return Refusal.NO_TTL
        if reply[:1] in (b"-", b"!"):
            return Refusal.ERROR
        if len(reply) > l1.options.max_value_bytes:
            return Refusal.TOO_LARGE
        variant = self.variant
        space = l1.namespaces.find(self.key)
        if space is not None:
            if not space.cached:
                return Refusal.NOT_CACHED
            variant = space.variant(variant)
        age_s = l1.age_s(space, self.max_age_s)
        if pttl_ms >= 0:
            age_s = min(age_s, pttl_ms / 1000)
        if reply == NULL3:
            reply = NULL3  # all nils share one object
        kept = l1.arena.commit_fill(
            self.key, variant, reply, self.token, self.epoch, self.sent_at + age_s, self._unasked
        )
        return None if kept else Refusal.OVERTAKEN
