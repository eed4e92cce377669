"""Real clients and tools, as their users run them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio
from redis.cache import CacheConfig

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire

TOOL_S = 60


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def proto(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def client(terrace: TerraceProcess, proto: int) -> Iterator[redis_py.Redis]:
    with redis_py.Redis(port=terrace.port, protocol=proto, decode_responses=True) as client:
        client.flushall()
        yield client


class TestRedisPy:
    def test_values_of_every_type(self, client: redis_py.Redis) -> None:
        client.set("s", "v", ex=100)
        client.hset("h", mapping={"a": "1", "b": "2"})
        client.rpush("l", 1, 2, 3)
        client.sadd("set", "x")
        client.zadd("z", {"a": 1.5, "b": 2})
        client.xadd("x", {"f": "v"}, id="1-1")
        client.geoadd("g", (13.361389, 38.115556, "Palermo"))
        for _ in range(3):  # miss, hit, hit
            assert client.get("s") == "v"
            assert client.hgetall("h") == {"a": "1", "b": "2"}
            assert client.hmget("h", "a", "z") == ["1", None]
            assert client.lrange("l", 0, -1) == ["1", "2", "3"]
            assert client.smembers("set") == {"x"}
            assert client.sismember("set", "x")
            assert [tuple(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [
                ("a", 1.5),
                ("b", 2.0),
            ]
            assert client.zscore("z", "a") == 1.5
            assert client.xrange("x") == [("1-1", {"f": "v"})]
            assert client.mget("s", "absent") == ["v", None]
            assert client.exists("s", "h", "absent") == 2
            assert client.type("z") == "zset"
            assert client.geopos("g", "Palermo", "Nowhere")[1] is None
        assert 0 < client.ttl("s") <= 100
        assert sorted(client.scan_iter(match="*", count=2)) == ["g", "h", "l", "s", "set", "x", "z"]

    def test_pipelines(self, client: redis_py.Redis) -> None:
        for transaction in (True, False):
            with client.pipeline(transaction=transaction) as pipe:
                pipe.set("n", 1)
                pipe.incr("n")
                pipe.get("n")
                pipe.lpush("n", "x")
                pipe.get("n")
                replies = pipe.execute(raise_on_error=False)
            assert replies[:3] == [True, 2, "2"]
            assert isinstance(replies[3], redis_py.ResponseError)
            assert replies[4] == "2"

    def test_lock(self, client: redis_py.Redis) -> None:
        with client.lock("lock", timeout=5) as held:
            assert held.owned()
            assert not client.lock("lock", blocking=False).acquire()
            held.extend(5)
        assert client.lock("lock", timeout=5, blocking=False).acquire()

    def test_errors_are_those_of_redis(self, client: redis_py.Redis) -> None:
        client.set("s", "v")
        with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
            client.lpush("s", 1)
        with pytest.raises(redis_py.ResponseError, match="unknown command"):
            client.execute_command("NOSUCH")  # type: ignore[no-untyped-call]
        with pytest.raises(redis_py.exceptions.NoScriptError):
            client.evalsha("f" * 40, 0)

    def test_about_itself(self, client: redis_py.Redis) -> None:
        client.client_setname("me")
        assert client.client_getname() == "me"
        ident = client.client_id()
        listed = {int(line["id"]): line for line in client.client_list()}
        assert listed[ident]["name"] == "me"
        assert listed[ident]["lib-name"].startswith("redis-py")
        assert int(listed[ident]["resp"]) in (2, 3)
        assert "l1_hits" in client.info()
        assert client.config_get("maxmemory") == {"maxmemory": "0"}
        assert "tier.explain" in client.command()

    def test_databases(self, terrace: TerraceProcess, client: redis_py.Redis) -> None:
        with redis_py.Redis(port=terrace.port, db=5, decode_responses=True) as other:
            other.set("k", "five")
            assert client.get("k") is None
            assert other.get("k") == "five"

    async def test_asyncio(self, terrace: TerraceProcess, proto: int) -> None:
        url = f"{terrace.url}?protocol={proto}&decode_responses=True"
        async with redis_asyncio.from_url(url) as client:
            await client.set("a", "1")
            assert [await client.get("a") for _ in range(3)] == ["1"] * 3
            async with client.pipeline() as pipe:
                pipe.incr("a")
                pipe.get("a")
                assert await pipe.execute() == [2, "2"]
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("c")
                assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
                await client.publish("c", "hello")
                assert (await pubsub.get_message(timeout=5))["data"] == "hello"
            async with client.lock("lock:a", timeout=5):
                assert await client.exists("lock:a")

    def test_its_own_client_side_cache(self, terrace: TerraceProcess, redis: RedisProcess) -> None:
        """CLIENT TRACKING through the proxy: Redis' invalidations reach the client's cache."""
        if redis.version < (7, 4):
            pytest.skip("redis-py refuses its cache with a Redis before 7.4; see test_tracking")
        with (
            redis_py.Redis(port=terrace.port, protocol=3, cache_config=CacheConfig()) as caching,
            Wire(redis.port) as stranger,
            Wire(terrace.port) as other,
        ):
            for number, writer in enumerate((stranger, other) * 20):
                writer.ask("SET", "tracked", number)
                text = b"%d" % number
                wait_until(partial(_says, caching, text), "the new value")
                assert caching.get_cache().size == 1
            assert caching.set("tracked", "mine")
            assert caching.get("tracked") == b"mine"


def _says(client: redis_py.Redis, text: bytes) -> bool:
    return bool(client.get("tracked") == text)


def test_tracking(terrace: TerraceProcess, redis: RedisProcess) -> None:
    """What client-side caches are built on: a push for every key read, whoever changes it."""
    with (
        Wire(terrace.port, 3) as caching,
        Wire(redis.port) as stranger,
        Wire(terrace.port) as other,
    ):
        assert caching.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        for number, writer in enumerate((stranger, other) * 20):
            caching.ask("GET", "tracked")
            writer.ask("SET", "tracked", number)
            assert caching.read() == [b">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n"]
        assert caching.ask("CLIENT", "TRACKING", "OFF") == b"+OK\r\n"
        caching.ask("GET", "tracked")
        other.ask("SET", "tracked", "quietly")
        assert caching.ask("GET", "tracked") == b"$7\r\nquietly\r\n"


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on the PATH")
    return path


def run(*command: str, given: bytes = b"") -> str:
    done = subprocess.run(command, input=given, capture_output=True, timeout=TOOL_S, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode()


@pytest.mark.parametrize("flags", [[], ["-P", "16"], ["-3"]], ids=str)
def test_redis_benchmark(terrace: TerraceProcess, flags: list[str]) -> None:
    command = tool("redis-benchmark")
    tests = "ping,set,get,incr,lpush,rpop,sadd,hset,mset,lrange_100"
    printed = run(
        command, "-p", str(terrace.port), "-q", "-n", "300", "-c", "10", "-t", tests, *flags
    )
    rates = [
        line for line in printed.replace("\r", "\n").splitlines() if "requests per second" in line
    ]
    assert len(rates) >= 10, printed
    assert "rror" not in printed
