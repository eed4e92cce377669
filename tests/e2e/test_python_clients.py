"""redis-py with each of its parsers, valkey-py and coredis: what applications do with them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.ports import free_port

CLIENTS = [
    (package, parser, proto)
    for package in ("redis", "valkey")
    for parser in ("hiredis", "Python")
    for proto in (2, 3)
    if (package, parser) != ("valkey", "hiredis")  # its C parser is a package of its own
]
BIG_BYTES = 5_000_000


def connect(package: str, parser: str, proto: int, port: int, **options: Any) -> Any:
    library = pytest.importorskip(package)
    parsers = importlib.import_module(f"{package}._parsers")
    if parser == "hiredis":
        pytest.importorskip("hiredis")
        chosen = parsers._HiredisParser
    else:
        chosen = parsers._RESP3Parser if proto == 3 else parsers._RESP2Parser
    pool = library.ConnectionPool(port=port, protocol=proto, parser_class=chosen, **options)
    return getattr(library, package.capitalize())(connection_pool=pool)


@pytest.fixture(params=CLIENTS, ids=lambda each: f"{each[0]}-{each[1]}-RESP{each[2]}")
def client(request: pytest.FixtureRequest, terrace: TerraceProcess) -> Iterator[Any]:
    client = connect(*request.param, terrace.port)
    client.flushall()
    yield client
    client.connection_pool.disconnect()


def test_values(client: Any) -> None:
    client.set("s", "v")
    client.hset("h", mapping={"a": "1", "b": "2"})
    client.zadd("z", {"a": 1.5, "b": 2})
    client.geoadd("g", (13.361389, 38.115556, "Palermo"))
    big = bytes(range(256)) * (BIG_BYTES // 256)
    client.set("big", big)
    for _ in range(3):  # miss, hit, hit
        assert client.get("s") == b"v"
        assert client.get("absent") is None
        assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert [tuple(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [
            (b"a", 1.5), (b"b", 2.0),
        ]  # fmt: skip
        assert not client.smembers("absent")
        assert client.geopos("g", "Palermo", "Nowhere")[1] is None
        assert client.get("big") == big


def test_pipelines_and_transactions(client: Any) -> None:
    client.set("n", 0)
    for transaction in (True, False):
        with client.pipeline(transaction=transaction) as pipe:
            for _ in range(100):
                pipe.incr("n").get("n").lpush("n", 1)
            replies = pipe.execute(raise_on_error=False)
        assert [int(reply) for reply in replies[1::3]] == replies[0::3]
        assert all("WRONGTYPE" in str(reply) for reply in replies[2::3])

    def double(pipe: Any) -> None:
        value = int(pipe.get("n"))
        pipe.multi()
        pipe.set("n", value * 2)

    client.transaction(double, "n")
    assert client.get("n") == b"400"


def test_blocking(client: Any) -> None:
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(client.blpop(["q1", "q2"], timeout=10)))
    waiter.start()
    client.rpush("q2", "job")
    waiter.join(10)
    assert [tuple(each) for each in got] == [(b"q2", b"job")]
    assert client.blpop("q1", timeout=0.05) is None


def test_streams(client: Any) -> None:
    client.xgroup_create("x", "g", mkstream=True)
    ident = client.xadd("x", {"f": "v"})
    assert ident in str(client.xreadgroup("g", "me", {"x": ">"}, block=1000)).encode()
    assert client.xack("x", "g", ident) == 1
    assert client.xpending("x", "g")["pending"] == 0
    assert client.xrange("x") == [(ident, {b"f": b"v"})]


def test_scripts(client: Any) -> None:
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [add(keys=["s"], args=[5]), add(keys=["s"], args=[5])] == [5, 10]
    client.script_flush()
    assert add(keys=["s"], args=[5]) == 15
    assert client.get("s") == b"15"


def test_scan_iterators(client: Any) -> None:
    client.mset({f"k{n}": n for n in range(500)})
    assert len(set(client.scan_iter("k*", count=50))) == 500
    client.hset("h", mapping={f"f{n}": n for n in range(600)})
    assert len(dict(client.hscan_iter("h"))) == 600


def test_pubsub(client: Any) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("c")
        pubsub.psubscribe("p*")
        kinds = [pubsub.get_message(timeout=5)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert client.publish("c", "one") == client.publish("p1", "two") == 1
        assert [pubsub.get_message(timeout=5)["data"] for _ in range(2)] == [b"one", b"two"]


def test_an_error_reply_is_not_retried(terrace: TerraceProcess, client: Any) -> None:
    client.set("text", "x")
    before = terrace.metrics()["terrace_connections_accepted_total"]
    for _ in range(3):
        with pytest.raises(Exception, match="not an integer"):
            client.incr("text")
    assert terrace.metrics()["terrace_connections_accepted_total"] == before


@pytest.mark.parametrize("package", ["redis", "valkey"])
def test_terrace_is_restarted(redis: RedisProcess, package: str) -> None:
    port = free_port()
    with running_terrace(redis.url, listen__port=port):
        client = connect(package, "Python", 3, port)
        client.set("lasting", "before")
    with running_terrace(redis.url, listen__port=port):
        assert client.get("lasting") == b"before"
        assert client.set("lasting", "after")
    client.connection_pool.disconnect()


async def test_coredis(terrace: TerraceProcess) -> None:
    coredis = pytest.importorskip("coredis")
    async with coredis.Redis(port=terrace.port, decode_responses=True) as client:
        await client.flushall()
        await client.set("n", "1")
        async with client.pipeline(transaction=True) as pipe:
            sent = [pipe.incr("n"), pipe.get("n")]
        assert [await each for each in sent] == [2, "2"]
        assert await client.hset("h", {"a": "1"}) == 1
        for _ in range(3):
            assert await client.hgetall("h") == {"a": "1"}
        await client.mset({f"k{n}": "v" for n in range(200)})
        assert len({key async for key in client.scan_iter("k*")}) == 200
        assert await client.blpop(["absent"], timeout=0.05) is None
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        assert await script(["n"], [5]) == 7
        async with client.pubsub(channels=["c"]) as pubsub:
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            await client.publish("c", "hello")
            assert (await pubsub.get_message(timeout=5))["data"] == "hello"
        await client.set("text", "x")
        with pytest.raises(coredis.exceptions.ResponseError, match="not an integer"):
            await client.incr("text")


def test_cluster_mode_is_off(terrace: TerraceProcess) -> None:
    """Clients that look for a cluster are told, as by Redis, that there is none."""
    with pytest.raises(redis_py.exceptions.RedisClusterException):
        redis_py.RedisCluster(port=terrace.port)
    wait_until(lambda: terrace.readiness()[0] == 200, "it is ready as before")
