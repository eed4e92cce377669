"""Keeps L1 coherent with Redis: the rules, as synchronous code without IO or clock.

Rules of this file
  1. Everything here runs in the order in which bytes are read from, or queued to,
     the tracked connection; there is no await between reading a state and acting on it.
  2. Time comes in as an argument (seconds of a monotonic clock).
  3. It knows keys and tokens, not commands or clients.

Theory
  The tracked connection (RESP3, CLIENT TRACKING ON in default mode) delivers, in one
  stream, the replies to our reads and a push for every tracked key that any client
  changes; in default mode stream order is execution order. So:
  - a read whose token did not change between *before its bytes were sent* and the
    parsing of its reply was not overtaken by a change: it may be stored;
  - every entry that is stored and still valid after parsing a prefix of the stream was
    the state of Redis when it executed the last request of that prefix, which is no
    earlier than the send time of that request. That send time is `asof`, the
    watermark: a hit at time t was current at some instant >= t - (t - asof).
    Refusing hits when now - asof > max_staleness makes the bound provable, without
    synchronised clocks, and covers half-open connections.
  The writer may get its reply on another connection before Redis pushes the
  invalidation, so own writes need more: no hit and no fill for a key while a write to
  it is in flight through us (`begin_write` / `end_write`).

If the server offers no tracking, an operator may bound entries by their age
(`age_bound_s`): then there is no watermark, a change by another client becomes visible at
the entry's deadline, and own writes stay exact: `begin_write` and `end_write` for known
keys, `flush` around all others.

Several workers (processes of one host) share one arena, each with a tracked connection of
its own. The connection of the worker that filled an entry tracks it, so the entry is as stale
as the watermark of that worker (`Arena.max_staleness_s`). Workers share tokens and writes in
flight: every later read through any worker sees a write through one of them. Writes of unknown
keys raise the `floor`; entries of older watermarks are no hits.

Promise: bounded staleness (max_staleness) for writes of other clients; a client that
waits for the reply of its own write reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf

from .arena import Arena

REMEMBERED_EPOCHS = 8
HEARD_MAX = 256  # invalidations remembered for the audit's report


class Coherence:
    """The state of one tracked connection, and the steps of every read and write.

    States: not live (no tracking: no hits, no fills) and live. `is_open(now)`
    says whether hits may be served at all.
    """

    def __init__(self, arena: Arena, *, max_staleness_s: float, stale_on_error_s: float) -> None:
        self.arena = arena
        self.max_staleness_s = max_staleness_s
        self.stale_on_error_s = stale_on_error_s
        self.live = False
        self.asof = 0.0
        self.age_bound_s = inf  # the largest age of any entry; finite without tracking
        self._heard: deque[tuple[float, bytes | None]] = deque(maxlen=HEARD_MAX)
        self._ended: dict[int, float] = {}  # epoch -> its last asof

    @classmethod
    def detached(cls) -> Coherence:
        """A coherence over an empty arena, to try a connection with."""
        return cls(Arena(0), max_staleness_s=1.0, stale_on_error_s=0.0)

    def __repr__(self) -> str:
        return f"<Coherence live={self.live} epoch={self.arena.epoch} asof={self.asof:.3f}>"

    # The tracked connection

    def on_connect(self, sent_at: float, age_bound_s: float = inf) -> None:
        """Tracking is confirmed; `sent_at` is when the confirmed request was sent.

        With an `age_bound_s` there is no tracking; the watermark is then infinite.
        """
        self._end_epoch()
        self.live = True
        self.asof = self.arena.asof = sent_at if age_bound_s == inf else inf
        self.arena.live = True
        self.age_bound_s = age_bound_s

    @property
    def tracks(self) -> bool:
        """Whether Redis announces the writes of other clients."""
        return self.live and self.age_bound_s == inf

    def on_loss(self) -> None:
        """Invalidations may be missed from now on; tracking cannot resume."""
        if self.live:
            self.live = self.arena.live = False
            self._end_epoch()

    def _end_epoch(self) -> None:
        self._ended[self.arena.epoch] = self.asof
        self.arena.bump_epoch()
        while len(self._ended) > REMEMBERED_EPOCHS:
            del self._ended[next(iter(self._ended))]

    def on_push(self, keys: Iterable[bytes] | None) -> None:
        """An `invalidate` push: these keys changed, or with None the whole database was flushed."""
        heard, asof = self._heard, self.asof
        if keys is None:
            self.arena.flush()
            heard.append((asof, None))
        else:
            for key in keys:
                self.arena.invalidate(key)
                heard.append((asof, key))

    def on_key_push(self, key: bytes) -> None:
        """As `on_push` of one key, the usual case."""
        self.arena.invalidate(key)
        self._heard.append((self.asof, key))

    def on_reply(self, sent_at: float) -> None:
        """A reply to a request sent at `sent_at` was parsed: the watermark moves."""
        if sent_at > self.asof:
            self.asof = self.arena.asof = sent_at

    def heard_of(self, key: bytes) -> list[str]:
        """The last invalidations of a key, with the watermark at which they were parsed."""
        return [
            f"{'flushed' if name is None else 'invalidated'} at {asof:.3f}"
            for asof, name in self._heard
            if name is None or name == key
        ]

    # Reads

    # twin: _lane.is_open
    def is_open(self, now: float) -> bool:
        """Step 1 of a read: whether any hit may be served."""
        return self.live and now - self.asof <= self.max_staleness_s

    def age_s(self, now: float) -> float:
        """The largest possible staleness of a hit."""
        return now - self.asof if self.age_bound_s == inf else self.age_bound_s

    def begin_fill(self, key: bytes) -> int:
        """Call it before the bytes of the read can enter the socket. 0: do not fill."""
        return self.arena.begin_fill(key) if self.live else 0

    def get_suspect(
        self, key: bytes, variant: bytes, now: float, window_s: float | None = None
    ) -> bytes | None:
        """Only for times without Redis: an entry that was known to be current at most
        `window_s` (None: `stale_on_error_s`) ago and was not invalidated since."""
        asof: float | None
        if (entry := self.arena.peek(key, variant)) is not None:
            reply, deadline, _, epoch = entry
            asof = self.asof if epoch == self.arena.epoch else self._ended.get(epoch)
        elif (other := self.arena.peek_other(key, variant)) is not None:
            reply, deadline, asof = other
        else:
            return None
        limit_s = self.stale_on_error_s if window_s is None else window_s
        if asof is None or now - asof > limit_s or not limit_s:
            return None
        return reply if now < deadline and asof >= self.arena.floor else None

    # Writes through this proxy

    def begin_write(self, keys: Iterable[bytes]) -> None:
        """Call it before the write can enter the socket: from here on no hit and no fill."""
        self.arena.begin_writes(keys)

    def end_write(self, keys: Iterable[bytes]) -> None:
        """The reply of the write was parsed, or will never come. Release the reply after this."""
        self.arena.end_writes(keys)

    def end_opaque_write(self, now: float) -> None:
        """The reply of a write that may have changed any key was parsed.

        Its invalidations in the own stream come before the reply to the next PING. Entries of
        other workers are no hits before their streams have passed `now` as well.
        """
        if self.arena.workers > 1:
            self.arena.raise_floor(now)

    def flush(self) -> None:
        """For an own FLUSHALL, FLUSHDB or SWAPDB: when it is sent and again at its reply."""
        self.arena.flush()
