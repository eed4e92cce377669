"""A deterministic Redis of a few keys, with tracking, and the wire to it.

Redis executes one request at a time, pushes invalidations to the tracked connection in
execution order, and keeps a history of every value each key ever had. A `Link` sends,
executes, delivers and loses only when told to.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from tiers.wire.pipe import UpstreamPipe
from tiers.wire.resp import NULL3, OK, PONG, RequestScanner, array, bulk, integer, push

KEYS = (b"a", b"b")


@dataclass
class Version:
    """A value of a key (None: absent) and when it was Redis' truth."""

    number: int
    value: bytes | None
    died: float = inf
    expires: float = inf


class ModelRedis:
    """Strings with expiry, and server-assisted tracking of one connection."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.carried_out: dict[tuple[bytes, bytes], int] = {}  # (tag, key) -> version
        self.history = {key: [Version(0, None)] for key in KEYS}
        self.tracked: set[bytes] = set()
        self.zombies: set[bytes] = set()  # expired, but not deleted yet: no push so far
        self.push: Callable[[bytes], None] = lambda frame: None

    def now_holds(self, key: bytes) -> Version:
        return self.history[key][-1]

    def new_tag(self) -> bytes:
        """Names one write; also the value it sets."""
        return b"v%d" % next(self._numbers)

    def write(self, key: bytes, value: bytes | None, ttl_s: float = inf, tag: bytes = b"") -> None:
        self._replace(key, value, self._clock(), self._clock() + ttl_s)
        self.carried_out[tag or value or b"", key] = self.now_holds(key).number
        self.zombies.discard(key)
        self._invalidate(key)

    def _replace(self, key: bytes, value: bytes | None, at: float, expires: float = inf) -> None:
        versions = self.history[key]
        versions[-1].died = at
        versions.append(Version(len(versions), value, expires=expires))

    def _invalidate(self, key: bytes) -> None:
        if key in self.tracked:
            self.tracked.remove(key)
            self.push(push([bulk("invalidate"), array([bulk(key)])], 3))

    def flush(self, tag: bytes = b"") -> None:
        for key in KEYS:
            self._replace(key, None, self._clock())
            self.carried_out[tag, key] = self.now_holds(key).number
        self.tracked.clear()
        self.zombies.clear()
        self.push(push([bulk("invalidate"), NULL3], 3))

    def on_time(self) -> None:
        """Expiry is the truth at once; the deletion, and the push, come later."""
        for key in KEYS:
            version = self.now_holds(key)
            if version.expires <= self._clock():
                self._replace(key, None, version.expires)
                self.zombies.add(key)

    def delete_expired(self) -> None:
        for key in sorted(self.zombies):
            self._delete_if_expired(key)

    def _delete_if_expired(self, key: bytes) -> None:
        if key in self.zombies:
            self.zombies.remove(key)
            self._invalidate(key)

    def execute(self, args: list[bytes], *, tracking: bool) -> bytes:
        """The reply to one request."""
        match args:
            case [b"PING"]:
                return PONG
            case [b"FLUSHALL", tag]:
                self.flush(tag)
                return OK
            case [b"SET" | b"EVAL", key, value]:
                self.write(key, value)
                return OK
            case [b"SET", key, value, b"PX", ttl]:
                self.write(key, value, int(ttl) / 1000)
                return OK
            case [b"DEL", key, tag]:
                self.write(key, None, tag=tag)
                return integer(1)
            case [b"GET" | b"PTTL" as name, key]:
                self._delete_if_expired(key)
                if tracking:
                    self.tracked.add(key)
                version = self.now_holds(key)
                if name == b"GET":
                    return NULL3 if version.value is None else bulk(version.value)
                if version.value is None:
                    return integer(-2)
                ttl_s = version.expires - self._clock()
                return integer(-1 if ttl_s == inf else round(ttl_s * 1000))
        raise AssertionError(f"not modelled: {args}")


class Link:
    """A connection to Redis and both directions of its wire."""

    def __init__(self, redis: ModelRedis, pipe: UpstreamPipe, *, tracking: bool) -> None:
        self.redis = redis
        self.pipe = pipe
        self.tracking = tracking
        self.up = False
        self._scanner = RequestScanner()
        self.inbox: deque[list[bytes]] = deque()
        self.outbox: deque[bytes] = deque()

    def connect(self) -> None:
        self.up = True
        if self.tracking:
            self.redis.push = self.outbox.append

    def disconnect(self, reason: str) -> None:
        """What was not executed is gone, what was not delivered, too."""
        self.up = False
        self.inbox.clear()
        self.outbox.clear()
        if self.tracking:
            self.redis.tracked.clear()
            self.redis.push = lambda frame: None
        self.pipe.fail_all(reason)

    def send(self, now: float) -> None:
        if self.pipe.has_output:
            data = self.pipe.take_output(now)
            self.inbox += [request[0] for request in self._scanner.feed(data)]

    def execute(self) -> None:
        if self.inbox:
            args = self.inbox.popleft()
            self.outbox.append(self.redis.execute(args, tracking=self.tracking))

    def deliver(self) -> float:
        return self.pipe.feed(self.outbox.popleft()) if self.outbox else 0.0
