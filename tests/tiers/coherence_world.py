"""A small deterministic world around L1: clients, a Redis with tracking, and a history checker.

Nothing happens by itself: a schedule of steps says when bytes are sent, executed,
delivered or lost, and when time passes. The clients follow the rules that
`tiers.l1.coherence` demands; every L1 hit they get is judged against the history:

  own writes   a client never reads a value older than its own last write, sent or not
  bound        a hit was current at some instant no longer than max_staleness ago
  expiry       a hit is never served after its value expired
  suspects     current no longer than stale_on_error ago
  settled      when everything was delivered, what L1 holds is what Redis holds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tests.tiers.model_redis import KEYS, Link, ModelRedis
from tiers.l1.fill import Fill
from tiers.l1.memory import L1Memory
from tiers.options import L1Options
from tiers.wire.pipe import DISCARD, UpstreamPipe
from tiers.wire.resp import decode, pack

MAX_STALENESS_S = 0.05
STALE_ON_ERROR_S = 0.25
TTL_S = 0.06
ROUNDING_S = 1e-9

Step: TypeAlias = tuple[str, int]
"""What happens next, and a number that says to which key, client or connection."""


class Violation(AssertionError):
    """L1 served what it must not."""


class Client:
    """Issues commands one after the other without waiting for replies."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.in_flight = 0
        self.opaque_in_flight = 0
        self.own: dict[bytes, bytes] = {}  # key -> tag of its last write that was not lost


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.served: Counter[str] = Counter()
        self.awaiting: list[Callable[[], None]] = []  # fills that were parsed, but not stored
        options = L1Options(
            max_bytes=100_000, max_staleness_s=MAX_STALENESS_S, stale_on_error_s=STALE_ON_ERROR_S
        )
        self.l1 = L1Memory(options, self.clock)
        self.redis = ModelRedis(self.clock)
        self.tracked = Link(self.redis, UpstreamPipe(tap=self._on_push), tracking=True)
        self.plain = Link(self.redis, UpstreamPipe(), tracking=False)
        self.links = (self.tracked, self.plain)
        self.clients = (Client(), Client())
        self.plain.connect()
        self.connect()

    def clock(self) -> float:
        return self.now

    def run(self, schedule: Sequence[Step]) -> None:
        """Raises Violation where L1 breaks its promises."""
        for name, number in schedule:
            STEPS[name](self, number)
        self.settle()

    # Steps

    def read(self, number: int) -> None:
        client, key = self.clients[number % 2], KEYS[number // 2 % len(KEYS)]
        coherence = self.l1.coherence
        if coherence.is_open(self.now) and not client.opaque_in_flight:
            reply = self.l1.arena.get(key, b"", self.now)
            if reply is not None:
                self.served["hit"] += 1
                self._judge(client, key, decode(reply), MAX_STALENESS_S)
                return
        link = self._route(client, number)
        if not link.up:
            return
        slow = number // 6 % 4 == 0
        read = _Read(self, client, key, fills=link is self.tracked, slow=slow)
        if link is self.tracked:
            link.pipe.queue(pack([b"PTTL", key]), read, 0)
        link.pipe.queue(pack([b"GET", key]), read, 0)

    def write(self, number: int) -> None:
        client, key = self.clients[number % 2], KEYS[number // 2 % len(KEYS)]
        tag = self.redis.new_tag()
        request = (
            [b"SET", key, tag],
            [b"SET", key, tag],
            [b"SET", key, tag, b"PX", b"%d" % (TTL_S * 1000)],
            [b"DEL", key, tag],
        )[number // 6 % 4]
        link = self._route(client, number)
        if link.up:
            link.pipe.queue(pack(request), _Write(self, client, key, tag), 0)

    def opaque(self, number: int) -> None:
        """A script that writes a key it did not declare."""
        client, key = self.clients[number % 2], KEYS[number // 2 % len(KEYS)]
        link = self._route(client, number)
        if link.up:
            tag = self.redis.new_tag()
            link.pipe.queue(pack([b"EVAL", key, tag]), _Barrier(self, client, [key], tag), 0)

    def flush(self, number: int) -> None:
        client = self.clients[number % 2]
        link = self._route(client, number)
        if link.up:
            tag = self.redis.new_tag()
            waiter = _Barrier(self, client, KEYS, tag, flushes=True)
            link.pipe.queue(pack([b"FLUSHALL", tag]), waiter, 0)

    def stranger(self, number: int) -> None:
        """Somebody else writes."""
        key = KEYS[number % len(KEYS)]
        match number // len(KEYS) % 8:
            case 0:
                self.redis.write(key, None)
            case 1:
                self.redis.flush()
            case 2 | 3:
                self.redis.write(key, self.redis.new_tag(), TTL_S)
            case _:
                self.redis.write(key, self.redis.new_tag())

    def resume(self, number: int = 0) -> None:
        """Store what slow reads have parsed."""
        for commit in self.awaiting:
            commit()
        self.awaiting.clear()

    def ping(self, number: int) -> None:
        """As the proxy does while hits are served."""
        if self.tracked.up:
            self.tracked.pipe.queue(pack([b"PING"]), DISCARD, 0)

    def send(self, number: int) -> None:
        self.links[number % 2].send(self.now)

    def execute(self, number: int) -> None:
        self.links[number % 2].execute()

    def deliver(self, number: int) -> None:
        link = self.links[number % 2]
        sent_at = link.deliver()
        if link is self.tracked:
            self.l1.coherence.on_reply(sent_at)

    def exchange(self, number: int) -> None:
        """Everything on one connection, at once: the usual quick case."""
        link = self.links[number % 2]
        for _ in range(2):  # a delivered reply may queue a barrier
            link.send(self.now)
            while link.inbox:
                link.execute()
            while link.outbox:
                self.deliver(number)

    def wait(self, number: int) -> None:
        self.now += (0.001, 0.005, 0.01, 0.01, 0.04, 0.2)[number % 6]
        self.redis.on_time()

    def lose(self, number: int) -> None:
        link = self.links[number % 2]
        link.disconnect("connection lost")
        if link is self.tracked:
            self.l1.coherence.on_loss()

    def connect(self, number: int = 0) -> None:
        if not self.plain.up:
            self.plain.connect()
        if not self.tracked.up:
            self.tracked.connect()
            self.l1.coherence.on_connect(self.now)

    def suspect(self, number: int) -> None:
        """A read while Redis cannot be asked."""
        client, key = self.clients[number % 2], KEYS[number // 2 % len(KEYS)]
        if self.tracked.up or client.opaque_in_flight:
            return
        reply = self.l1.coherence.get_suspect(key, b"", self.now)
        if reply is not None:
            self.served["suspect"] += 1
            self._judge(client, key, decode(reply), STALE_ON_ERROR_S)

    def settle(self) -> None:
        """Deliver everything; whatever L1 then still holds must be the truth."""
        self.connect()
        self.redis.delete_expired()
        self.ping(0)
        for number in (0, 1, 0, 1):
            self.exchange(number)
        self.resume()
        for key in KEYS:
            reply = self.l1.arena.get(key, b"", self.now)
            if reply is not None:
                self.served["settled"] += 1
                if decode(reply) != self.redis.now_holds(key).value:
                    raise Violation(f"{key!r} stays stale for ever: {reply!r}")
        if any(client.in_flight or client.opaque_in_flight for client in self.clients):
            raise Violation("a waiter was never told")
        self.l1.arena.check()

    # Behind the steps

    def _route(self, client: Client, number: int) -> Link:
        """Commands of one client in flight stay on one connection, as in the session."""
        if client.link is None or not client.in_flight:
            wanted = number // 24 % 3 == 2  # a third goes beside the tracked connection
            client.link = self.links[wanted] if self.links[wanted].up else self.links[not wanted]
        return client.link

    def _on_push(self, frame: bytes) -> bool:
        self.l1.coherence.on_push(decode(frame)[1])
        return True

    def _judge(self, client: Client, key: bytes, value: bytes | None, bound_s: float) -> None:
        versions = self.redis.history[key]
        oldest: int | None = 0
        if key in client.own:
            oldest = self.redis.carried_out.get((client.own[key], key))
        if oldest is None:
            raise Violation(f"hit on {key!r} before the client's own write was carried out")
        current = [v for v in versions if v.value == value and v.number >= oldest]
        if not current:
            raise Violation(f"{value!r} of {key!r} is older than the client's own write")
        died = max(v.died for v in current)
        if died < self.now - bound_s - ROUNDING_S:
            raise Violation(f"{value!r} of {key!r} is {self.now - died:.3f} s stale")
        if max(v.expires for v in current) < self.now - ROUNDING_S:
            raise Violation(f"{value!r} of {key!r} was served after it expired")


class _Waiting:
    """A request of a client: tells it when the wait is over, whichever way."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.over = False
        client.in_flight += 1

    def finish(self) -> None:
        if not self.over:
            self.over = True
            self.client.in_flight -= 1


class _Read(_Waiting):
    """[PTTL k][GET k] on the tracked connection, or GET alone on the plain one.

    A slow one lets other things happen between parsing the reply and storing it, which
    the tokens must make harmless.
    """

    def __init__(
        self, world: World, client: Client, key: bytes, *, fills: bool, slow: bool
    ) -> None:
        super().__init__(world, client)
        self.key = key
        self.slow = slow
        self.fill = Fill(world.l1, key, b"") if fills else None

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.fill is not None and not self.fill.feed(reply, sent_at):
            return
        self.finish()
        if self.slow:
            self.world.awaiting.append(self.commit)
        else:
            self.commit()

    def commit(self) -> None:
        if self.fill is not None and self.fill.commit() is None:
            self.world.served["fill"] += 1

    def on_lost(self, reason: str, sent: bool) -> None:
        self.finish()


class _Write(_Waiting):
    """A write with a known key."""

    def __init__(self, world: World, client: Client, key: bytes, tag: bytes) -> None:
        super().__init__(world, client)
        self.key = key
        client.own[key] = tag
        world.l1.coherence.begin_write([key])

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.world.l1.coherence.end_write([self.key])
        self.finish()

    def on_lost(self, reason: str, sent: bool) -> None:
        self.world.l1.coherence.end_write([self.key])
        self.client.own.pop(self.key, None)  # its outcome is not known: nothing is promised
        self.finish()


class _Barrier(_Waiting):
    """A write of unknown keys: over when a PING sent after it on the tracked connection is.

    Without that connection nobody can tell which suspects it made wrong: for those the
    client is promised only the bound.
    """

    def __init__(
        self, world: World, client: Client, keys: Sequence[bytes], tag: bytes,
        *, flushes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(world, client)
        self.keys = keys
        self.flushes = flushes
        self.answered = False
        client.opaque_in_flight += 1
        client.own.update(dict.fromkeys(keys, tag))
        if flushes:
            world.l1.coherence.flush()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if self.answered:
            self.finish()
            return
        self.answered = True
        if self.flushes:
            self.world.l1.coherence.flush()
        if self.world.tracked.up:
            self.world.tracked.pipe.queue(pack([b"PING"]), self, 0)
        else:
            self.forget_own()
            self.finish()

    def on_lost(self, reason: str, sent: bool) -> None:
        if not self.answered and self.flushes:
            self.world.l1.coherence.flush()
        self.forget_own()
        self.finish()

    def forget_own(self) -> None:
        for key in self.keys:
            self.client.own.pop(key, None)

    def finish(self) -> None:
        if not self.over:
            self.client.opaque_in_flight -= 1
        super().finish()


STEPS: dict[str, Callable[[World, int], None]] = {
    "read": World.read,
    "resume": World.resume,
    "write": World.write,
    "opaque": World.opaque,
    "flush": World.flush,
    "stranger": World.stranger,
    "ping": World.ping,
    "send": World.send,
    "execute": World.execute,
    "deliver": World.deliver,
    "exchange": World.exchange,
    "wait": World.wait,
    "lose": World.lose,
    "connect": World.connect,
    "suspect": World.suspect,
    "expire": lambda world, number: world.redis.delete_expired(),
}
