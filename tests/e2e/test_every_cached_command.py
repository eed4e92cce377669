"""Every cached command against every way to change its key.

The keys of all commands are read into L1, changed in one way, and read again: what the
same connection changed it must read at once; what a stranger changed within the bound.
Redis itself, asked directly, is the judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxy.commands.command import Kind
from proxy.commands.table import TABLE
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Argument, Wire

BOUND_S = 0.05
SCHEDULING_S = 0.5
K = "{key}"

Words = tuple[Argument, ...]


@dataclass(frozen=True)
class Sort:
    """A type of key: how it comes to be, one change of it, and the reads of it."""

    made: Words
    change: Words
    reads: tuple[Words, ...]


SORTS = (
    Sort(
        ("SET", K, "aaa"),
        ("SET", K, b"\xff\xfe\x01zz"),
        (
            ("BITCOUNT", K), ("BITFIELD_RO", K, "GET", "u8", 0), ("BITPOS", K, 1), ("EXISTS", K),
            ("GET", K), ("GETBIT", K, 3), ("GETRANGE", K, 0, -1), ("MGET", K), ("STRLEN", K),
            ("SUBSTR", K, 0, -1), ("TYPE", K),
        ),
    ),
    Sort(
        ("HSET", K, "f", "a", "g", "b"),
        ("HSET", K, "f", "zzz", "h", "c"),
        (
            ("HEXISTS", K, "h"), ("HGET", K, "f"), ("HGETALL", K), ("HKEYS", K), ("HLEN", K),
            ("HMGET", K, "f", "h"), ("HSTRLEN", K, "f"), ("HVALS", K),
        ),
    ),
    Sort(
        ("RPUSH", K, "a", "b"),
        ("LPUSH", K, "z"),
        (("LINDEX", K, 0), ("LLEN", K), ("LPOS", K, "z"), ("LRANGE", K, 0, -1)),
    ),
    Sort(
        ("SADD", K, "a", "b"),
        ("SADD", K, "c"),
        (("SCARD", K), ("SISMEMBER", K, "c"), ("SMEMBERS", K), ("SMISMEMBER", K, "a", "c")),
    ),
    Sort(
        ("ZADD", K, 1, "a", 2, "b"),
        ("ZADD", K, 5, "a", 3, "c"),
        (
            ("ZCARD", K), ("ZCOUNT", K, 0, 2), ("ZLEXCOUNT", K, "-", "+"), ("ZMSCORE", K, "a", "c"),
            ("ZRANGE", K, 0, -1, "WITHSCORES"), ("ZRANGEBYLEX", K, "-", "+"),
            ("ZRANGEBYSCORE", K, 0, 9), ("ZRANK", K, "a"), ("ZREVRANGE", K, 0, -1),
            ("ZREVRANGEBYLEX", K, "+", "-"), ("ZREVRANGEBYSCORE", K, 9, 0), ("ZREVRANK", K, "a"),
            ("ZSCORE", K, "a"),
        ),
    ),
    Sort(
        ("GEOADD", K, 13, 38, "a", 15, 37, "b"),
        ("GEOADD", K, 2, 48, "a"),
        (
            ("GEODIST", K, "a", "b"), ("GEOHASH", K, "a"), ("GEOPOS", K, "a"),
            ("GEOSEARCH", K, "FROMLONLAT", 15, 37, "BYRADIUS", 300, "km", "ASC"),
        ),
    ),
    Sort(
        ("XADD", K, "1-1", "f", "v"),
        ("XADD", K, "2-1", "f", "w"),
        (("XLEN", K), ("XRANGE", K, "-", "+"), ("XREVRANGE", K, "+", "-")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    key: str
    sort: Sort
    read: Words

    def to(self, words: Words, key: str = "") -> Words:
        return tuple((key or self.key) if word == K else word for word in words)


CASES = [Case(f"m:{read[0]}", sort, read) for sort in SORTS for read in sort.reads]


def test_no_cached_command_is_left_out() -> None:
    cached = {row.name for row in TABLE.rows.values() if row.kind is Kind.CACHED}
    assert {case.read[0] for case in CASES} == cached


class Scene:
    """`wire` goes through Terrace, `direct` to Redis."""

    def __init__(self, wire: Wire, direct: Wire) -> None:
        self.wire = wire
        self.direct = direct

    def make(self) -> None:
        self.direct.ask("FLUSHALL")
        self.direct.ask_all(*[case.to(case.sort.made) for case in CASES])

    def read_all(self, wire: Wire) -> list[bytes]:
        return wire.ask_all(*[case.to(case.read) for case in CASES])


Way = Callable[[Scene, Wire], None]
"""Changes all keys by this connection, which may be the client's own or a stranger's."""


def each(make: Callable[[Case], list[Words]]) -> Way:
    def change(scene: Scene, wire: Wire) -> None:
        for case in CASES:
            for reply in wire.ask_all(*make(case)):
                assert not reply.startswith(b"-"), (case.key, reply)

    return change


def once(*commands: Words) -> Way:
    def change(scene: Scene, wire: Wire) -> None:
        for reply in wire.ask_all(*commands):
            assert not reply.startswith(b"-"), reply

    return change


def changed(case: Case) -> Words:
    return case.to(case.sort.change)


def apart(case: Case) -> list[Words]:
    """Another key that holds what the key would hold after the change."""
    other = f"{case.key}:other"
    return [case.to(case.sort.made, other), case.to(case.sort.change, other)]


def restored(scene: Scene, wire: Wire) -> None:
    for case in CASES:
        scene.direct.ask_all(*apart(case))
        dump = scene.direct.ask("DUMP", f"{case.key}:other")
        payload = dump[dump.index(b"\n") + 1 : -2]
        assert wire.ask("RESTORE", case.key, 0, payload, "REPLACE") == b"+OK\r\n"


def evicted(scene: Scene, wire: Wire) -> None:
    direct = scene.direct
    direct.ask_all(
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-random"), ("CONFIG", "SET", "maxmemory", 1)
    )
    try:
        wait_until(lambda: direct.ask("DBSIZE") == b":0\r\n", "all are evicted")
    finally:
        direct.ask_all(
            ("CONFIG", "SET", "maxmemory", 0),
            ("CONFIG", "SET", "maxmemory-policy", "noeviction"),
        )


def in_another_database(scene: Scene, wire: Wire) -> None:
    """Nothing changes here; and what a stranger left there must not show."""
    wire.ask("SELECT", 1)
    each(lambda case: [case.to(case.sort.made), changed(case)])(scene, wire)
    wire.ask("SELECT", 0)


def swapped(scene: Scene, wire: Wire) -> None:
    scene.direct.ask("SELECT", 1)
    each(lambda case: [case.to(case.sort.made), changed(case)])(scene, scene.direct)
    scene.direct.ask("SELECT", 0)
    assert wire.ask("SWAPDB", 0, 1) == b"+OK\r\n"


EVAL = "return redis.call(unpack(ARGV))"
SPARE = "spare"

WAYS: dict[str, Way] = {
    "write": each(lambda case: [changed(case)]),
    "script": each(lambda case: [("EVAL", EVAL, 1, case.key, *changed(case))]),
    "script, undeclared": each(lambda case: [("EVAL", EVAL, 0, *changed(case))]),
    "transaction": each(lambda case: [("MULTI",), changed(case), ("EXEC",)]),
    "transaction with a script": each(
        lambda case: [("MULTI",), ("EVAL", EVAL, 0, *changed(case)), ("EXEC",)]
    ),
    "expiry": each(lambda case: [("PEXPIRE", case.key, 1)]),
    "expiry in the past": each(lambda case: [("PEXPIREAT", case.key, 1)]),
    "persist": each(lambda case: [("PEXPIRE", case.key, 100_000), ("PERSIST", case.key)]),
    "delete": each(lambda case: [("DEL", case.key)]),
    "unlink": each(lambda case: [("UNLINK", case.key)]),
    "overwrite by another type": each(
        lambda case: [("SET", SPARE, "s"), ("RENAME", SPARE, case.key)]
    ),
    "rename onto": each(
        lambda case: [*apart(case), ("RENAME", f"{case.key}:other", case.key)]
    ),
    "rename away": each(lambda case: [("RENAME", case.key, f"{case.key}:gone")]),
    "copy": each(
        lambda case: [*apart(case), ("COPY", f"{case.key}:other", case.key, "REPLACE")]
    ),
    "move": each(lambda case: [("MOVE", case.key, 1)]),
    "restore": restored,
    "flushdb": once(("FLUSHDB",)),
    "flushall in a transaction": once(("MULTI",), ("FLUSHALL",), ("EXEC",)),
    "eviction": evicted,
    "another database": in_another_database,
    "swapdb": swapped,
}  # fmt: skip

NEVER_OWN = {"eviction"}
NEVER_FOREIGN = {"swapdb"}  # Redis tells nobody: see the tests of the watch
NOTHING_CHANGES = {"persist", "another database"}
TAKES_TIME = {"expiry"}  # a millisecond, after the reply


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("name", [name for name in WAYS if name not in NEVER_OWN])
def test_own_changes_are_read_at_once(
    redis: RedisProcess, terrace: TerraceProcess, name: str, proto: int
) -> None:
    with Wire(terrace.port, proto) as wire, Wire(redis.port, proto) as direct:
        scene = begin(terrace, wire, direct)
        before = scene.read_all(direct)
        WAYS[name](scene, wire)
        if name in TAKES_TIME:
            wait_until(lambda: direct.ask("EXISTS", CASES[-1].key) == b":0\r\n", "it expired")
        after = scene.read_all(wire)
        truth = scene.read_all(direct)
        assert_same(after, truth)
        assert (before == truth) == (name in NOTHING_CHANGES), "the way did nothing"
        assert_same(scene.read_all(wire), truth)  # and what was filled by these reads is right


@pytest.mark.parametrize("name", [name for name in WAYS if name not in NEVER_FOREIGN])
def test_changes_by_strangers_are_read_within_the_bound(
    redis: RedisProcess, terrace: TerraceProcess, name: str
) -> None:
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        scene = begin(terrace, wire, direct)
        with Wire(redis.port) as stranger:
            WAYS[name](scene, stranger)
        if name in TAKES_TIME:
            wait_until(lambda: direct.ask("EXISTS", CASES[-1].key) == b":0\r\n", "it expired")
        truth = scene.read_all(direct)
        wait_until(lambda: scene.read_all(wire) == truth, "all agree", BOUND_S + SCHEDULING_S)
        assert_same(scene.read_all(wire), truth)


def begin(terrace: TerraceProcess, wire: Wire, direct: Wire) -> Scene:
    """All keys exist, and all their reads are answered from L1."""
    scene = Scene(wire, direct)
    scene.make()
    truth = scene.read_all(direct)

    def all_hit() -> bool:
        before = int(terrace.figure("l1_hits"))
        replies = scene.read_all(wire)
        return replies == truth and int(terrace.figure("l1_hits")) - before == len(CASES)

    wait_until(all_hit, "all reads are hits")
    return scene


def assert_same(replies: list[bytes], truth: list[bytes]) -> None:
    differing = [
        (case.read[0], reply, right)
        for case, reply, right in zip(CASES, replies, truth, strict=True)
        if reply != right
    ]
    assert not differing
