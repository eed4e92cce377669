"""Random dialogues of several clients with one proxy, told line by line.

    TERRACE_CORE=py python -m tests.proxy.random_dialogue FIRST_SEED LAST_SEED

One seed is one dialogue: what the clients send and how it is cut, when Redis reads, what it
delivers and how that is cut, what L3 has, writes of strangers, the passing of time and, at the
end, perhaps the loss of a connection. Nothing depends on the core, so two cores must tell the
same story.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from tests.proxy.session_play import NOWHERE, Client, Peer, Play, command
from tests.proxy.step_play import name_steps_alike, stood
from tiers import Kind, Outcome
from tiers.l2 import script_lanes
from tiers.proxy_door import HeldRow, Mapped, ViewMapping
from tiers.wire.resp import (
    NULL2,
    NULL3,
    OK,
    PONG,
    QUEUED,
    RequestScanner,
    array,
    bulk,
    integer,
    mapping,
    push,
)

OnHeld = Callable[[list[HeldRow], Outcome | None], None]
STEPS = 150
ROW = b"row:1"  # in every second dialogue L3 may have it
KEYS = (b"a", b"b", b"c", b"ro", b"k" * 100)
VIEW = {"keys": "row:{id}", "view": "rows", "reply": "string:text"}
VALUES = (b"", b"1", b"x" * 70, b"\r\n$-1\r\n", b"y" * 5000)
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NO_NUMBER = b"-ERR value is not an integer or out of range\r\n"
READS = (b"GET", b"get", b"gEt", b"STRLEN", b"EXISTS", b"HGETALL", b"HGET", b"MGET", b"TYPE")
# All run in one step. (Asked again, a "get" reads GET where it passed the compiled lane.)
OF_ROW = (b"GET", b"GET", b"STRLEN", b"HGETALL", b"SET", b"DEL")
WRITES = (b"SET", b"set", b"DEL", b"INCR", b"HSET", b"APPEND")
STATE = (
    command("SELECT", 1), command("SELECT", 0), command("HELLO", 3), command("HELLO", 2),
    command("PING"), command("ECHO", "e"), command("CLIENT", "REPLY", "SKIP"), b"get a\r\n",
    command("EVAL", "return 1", 0), command("GET"), command("GET", "a", "b"),
    command("RESET"), b"\r\n", command("OBJECT", "ENCODING", "a"), command("SET", "a"),
)  # fmt: skip


class OneL3:
    """Asked by the proxy, and answers when it is its turn."""

    mapping: ViewMapping

    def __init__(self, play: Play, redis: OneRedis, story: list[str]) -> None:
        self.redis, self.story = redis, story
        self.waiting: deque[tuple[bytes, Callable[[Outcome], None]]] = deque()
        stack = play.terrace.stack
        if stack.fault_in is not None and stack.l3 is not None:
            stack.fault_in.load = self.load  # type: ignore[method-assign]
            stack.hold = self.hold  # type: ignore[method-assign]
            (self.mapping,) = stack.l3.mappings

    def load(self, mapping: Mapped, key: bytes, on_done: Callable[[Outcome], None]) -> None:
        self.waiting.append((key, on_done))
        self.story.append(f"L3 is asked for {key!r}")

    def hold(self, keys: Sequence[bytes], on_done: OnHeld) -> None:
        (key,) = keys
        self.waiting.append((key, partial(self.held, key, on_done)))
        self.story.append(f"L3 is asked to show {key!r}")

    def held(self, key: bytes, on_done: OnHeld, outcome: Outcome) -> None:
        is_failure = outcome.kind in (Kind.UNAVAILABLE, Kind.MISS)
        value = outcome.value
        rows = [] if value is None else [HeldRow(key, self.mapping, b"", value)]
        on_done(rows, Outcome(Kind.UNAVAILABLE, tier="L3", reason="why") if is_failure else None)

    def answer(self, chance: Random) -> str:
        """What became of the oldest load; a row is in Redis before it is told."""
        key, on_done = self.waiting.popleft()
        kind = chance.choice((Kind.HIT, Kind.HIT, Kind.NEGATIVE, Kind.UNAVAILABLE, Kind.MISS))
        value = chance.choice(VALUES) if kind is Kind.HIT else None
        if value is not None or (kind is Kind.MISS and chance.random() < 0.7):
            self.redis.write(0, key, value or b"another's")
        on_done(Outcome(kind, value, "L3", "why"))
        return f"L3 said {kind.name} {value!r} of {key!r}"


class OneRedis:
    """Strings and hashes in two databases, and the tracking of one connection."""

    def __init__(self) -> None:
        self.dbs: tuple[dict[bytes, Any], ...] = ({}, {})
        self.tracked: set[bytes] = set()
        self.push_to: deque[bytes] = deque()

    def run(self, args: list[bytes], db: int, proto: int) -> bytes:
        data, null = self.dbs[db], NULL3 if proto == 3 else NULL2
        name, keys = args[0].upper(), args[1:]
        value = data.get(keys[0]) if keys else None
        match name:
            case b"PING":
                return PONG
            case b"PTTL":
                return integer(-2 if value is None else -1)
            case b"HPTTL" if not isinstance(value, bytes):
                return array([integer(-1 if f in (value or {}) else -2) for f in keys[3:]])
            case b"EVAL" if args[2] == b"3":  # fill.lua with one row
                if args[5] not in data:
                    self.write(db, args[5], args[-1])
                return array([integer(1)])
            case b"EVAL":
                return integer(stood(args, data))
            case b"EXISTS":
                return integer(sum(key in data for key in keys))
            case b"DEL":
                return integer(sum(self.write(db, key, None) for key in keys))
            case b"MGET":
                found = [data.get(key) for key in keys]
                return array([bulk(v) if isinstance(v, bytes) else null for v in found])
            case b"SET":
                self.write(db, keys[0], keys[1])
                return OK
            case b"TYPE":
                return {dict: b"+hash\r\n", bytes: b"+string\r\n"}.get(type(value), b"+none\r\n")
            case b"GET" | b"STRLEN" | b"INCR" | b"APPEND" if isinstance(value, dict):
                return WRONG_TYPE
            case b"GET":
                return null if value is None else bulk(value)
            case b"STRLEN":
                return integer(len(value or b""))
            case b"INCR":
                if not (value or b"0").isdigit():
                    return NO_NUMBER
                self.write(db, keys[0], b"%d" % (int(value or 0) + 1))
                return integer(int(value or 0) + 1)
            case b"APPEND":
                self.write(db, keys[0], (value or b"") + keys[1])
                return integer(len((value or b"") + keys[1]))
            case b"HGETALL" | b"HGET" | b"HSET" | b"HPTTL" if isinstance(value, bytes):
                return WRONG_TYPE
            case b"HGETALL":
                return mapping({f: bulk(v) for f, v in (value or {}).items()}, proto)
            case b"HGET":
                field = (value or {}).get(keys[1])
                return null if field is None else bulk(field)
            case b"HSET":
                self.write(db, keys[0], {**(value or {}), keys[1]: keys[2]})
                return integer(int(keys[1] not in (value or {})))
        return b"-ERR unknown command '%b'\r\n" % args[0]

    def write(self, db: int, key: bytes, value: Any) -> bool:
        was = self.dbs[db].pop(key, None)
        if value is not None:
            self.dbs[db][key] = value
        if key in self.tracked and (was is not None or value is not None):
            self.tracked.remove(key)
            self.push_to.append(push([bulk("invalidate"), array([bulk(key)])], 3))
        return was is not None


class Link:
    """Redis' end of one connection."""

    def __init__(
        self, redis: OneRedis, peer: Peer, proto: int, *, tracking: bool, db: int = 0
    ) -> None:
        self.redis, self.peer, self.proto, self.tracking = redis, peer, proto, tracking
        self.db, self.lost = db, False
        self.scanner = RequestScanner()
        self.inbox: deque[list[bytes]] = deque()
        self.outbox: deque[bytes] = redis.push_to if tracking else deque()
        self.queue: list[list[bytes]] | None = None
        self.dirty = False  # what is watched

    def read(self) -> bytes:
        sent, self.peer.wire.written = self.peer.wire.written, b""
        self.inbox += [request[0] for request in self.scanner.feed(sent)]
        return sent

    def execute(self) -> None:
        if not self.inbox:
            return
        args = self.inbox.popleft()
        if args[0].upper() == b"SELECT":
            self.db = int(args[1])
            self.outbox.append(OK)
            return
        self.outbox.append(self.answer(args))

    def answer(self, args: list[bytes]) -> bytes:
        name = args[0].upper()
        if name == b"WATCH":
            self.dirty = False
            return OK
        if name == b"MULTI":
            self.queue = []
            return OK
        if name == b"EXEC":
            queue, self.queue = self.queue or [], None
            if self.dirty:
                self.dirty = False
                return NULL3 if self.proto == 3 else b"*-1\r\n"
            return array([self.run(queued) for queued in queue])
        if self.queue is not None:
            self.queue.append(args)
            return QUEUED
        if name == b"EVAL":
            self.dirty = not stood(args, self.redis.dbs[self.db])
        return self.run(args)

    def run(self, args: list[bytes]) -> bytes:
        try:
            reply = self.redis.run(args, self.db, self.proto)
        except IndexError:
            reply = b"-ERR wrong number of arguments for '%b' command\r\n" % args[0].lower()
        if self.tracking and args[0].upper() != b"PING":
            self.redis.tracked.update(args[1:])
        return reply

    def deliver(self, chance: Random) -> bytes:
        data = b"".join(self.outbox)
        self.outbox.clear()
        place = chance.randint(0, len(data)) if chance.random() < 0.5 else len(data)
        if data[place:]:
            self.outbox.append(data[place:])
        if place:
            self.peer >> data[:place]
        return data[:place]


def requests(chance: Random, rows: float) -> bytes:
    """A pipeline of a few commands, `rows` of them about ROW."""
    chunk, reads = [], chance.choice((0.4, 0.7, 0.97))
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        key, value = chance.choice(KEYS), chance.choice(VALUES)
        kind = chance.random()
        if rows and chance.random() < rows:
            name = chance.choice(OF_ROW)
            chunk.append(command(name, ROW, *[value] * (name == b"SET")))
        elif kind < reads:
            name = chance.choice(READS)
            more = [value] if name == b"HGET" else [chance.choice(KEYS)] * (name == b"MGET")
            chunk.append(command(name, key, *more))
        elif kind < 0.6 + 0.4 * reads:
            name = chance.choice(WRITES)
            more = [] if name in (b"DEL", b"INCR") else [b"f", value][name != b"HSET" :]
            chunk.append(command(name, key, *more))
        else:
            chunk.append(chance.choice(STATE))
    return b"".join(chunk)


def dialogue(seed: int) -> list[str]:
    """The story of one seed; raises AssertionError where the proxy is left unsound."""
    chance = Random(seed)
    name_steps_alike()
    script_lanes.LANES_MAX = 1  # all are open from the start
    story: list[str] = []
    settings: dict[str, Any] = {
        "l1": {"max_staleness": "60s", "refresh_on_write": chance.random() < 0.3}
    }
    rows = 0.0
    if chance.random() < 0.5:
        rows = chance.choice((0.1, 0.5))
        settings |= {"l2": {"url": NOWHERE}, "l3": {"dsn": "host=/nonexistent", "view": [VIEW]}}
    with Play(fields_expire=chance.random() < 0.3, **settings) as play:
        redis = OneRedis()
        l3 = OneL3(play, redis, story)
        links = [
            Link(redis, play.plain2, 2, tracking=False),
            Link(redis, play.plain3, 3, tracking=False),
            Link(redis, play.tracked, 3, tracking=True),
            Link(redis, play.scout, 2, tracking=False),
            *(
                Link(redis, play.database(1, proto), proto, tracking=False, db=1)
                for proto in (2, 3)
            ),
            Link(redis, play.scripts2, 2, tracking=False),
            *(
                Link(redis, play.script_lane(db, proto), proto, tracking=False, db=db)
                for db, proto in ((0, 3), (1, 2), (1, 3))
            ),
        ]
        clients = [play.client, play.connect(), play.connect(3)]
        client = play.client
        woken = Woken(play, clients)
        for each in clients:
            each.session.express = chance.random() < 0.5
            each.session.send = partial(receive, each)
            each.session.flush = partial(operator.rshift, each, b"")
            each.session.wake = partial(woken.wake, each)
        unsent = dict.fromkeys(clients, b"")

        def note() -> None:
            for number, client in enumerate(clients):
                if got := client.take():
                    story.append(f"client {number} got {got!r}")

        def redis_works(link: Link) -> None:
            if sent := link.read():
                story.append(f"{link.peer.name} was sent {sent!r}")
            for _ in range(chance.randint(0, 8)):
                link.execute()
            if got := link.deliver(chance):
                story.append(f"{link.peer.name} delivered {got!r}")

        for _ in range(STEPS):
            play.tick()
            event = chance.random()
            if is_idle(client):  # whose turn it is after a batch of replies is up to the core
                client = chance.choice(clients)
            if event < 0.4:
                whole = unsent[client] + requests(chance, rows)
                place = chance.randint(0, len(whole)) if chance.random() < 0.3 else len(whole)
                unsent[client] = whole[place:]
                story.append(f"client {clients.index(client)} sends {whole[:place]!r}")
                client.session.receive(whole[:place])
            elif event < 0.8 or (event < 0.9 and not l3.waiting):
                redis_works(chance.choice(links))
            elif event < 0.9:
                story.append(l3.answer(chance))
            elif event < 0.95:
                redis.write(0, chance.choice((ROW, *KEYS)), chance.choice((None, b"foreign")))
            else:
                play.now += chance.random()
            note()
        for client, rest in unsent.items():
            client.session.receive(rest)
        if chance.random() < 0.3:
            lost = chance.choice(links[:3])  # others are opened again
            lost.lost = True
            lost.peer.lose()
            lost.read()
            note()
        while sum(not settled(link, play) for link in links) or l3.waiting:
            for link in links:
                if not link.lost:
                    redis_works(link)
            if l3.waiting:
                story.append(l3.answer(chance))
            note()
        assert play.l1 is not None
        stats = play.terrace.stats
        play.terrace.lane.fold()
        story.append(f"hits {stats.l1.hits} {stats.l1.misses} {sorted(stats.commands.items())}")
    return story


class Woken:
    """Clients that go on once everything else that replies set off is done, and in one order:
    when in a batch a client is told is up to the core."""

    def __init__(self, play: Play, clients: list[Client]) -> None:
        self.play, self.clients = play, clients
        self.waiting: set[Client] = set()

    def wake(self, client: Client) -> None:
        if not self.waiting:
            self.play.loop.call_soon(self.play.loop.call_soon, self.proceed)
        self.waiting.add(client)

    def proceed(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for client in self.clients:
            if client in waiting:
                client._proceed()


def receive(client: Client, data: bytes) -> None:
    client.received += data


def is_idle(client: Client) -> bool:
    session = client.session
    return not (session.blocked or session.backlog or session.slot_count)


def settled(link: Link, play: Play) -> bool:
    play.tick()
    return link.lost or not (link.peer.wire.written or link.inbox or link.outbox)


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
        print(f"seed {number}", *dialogue(number), sep="\n")
