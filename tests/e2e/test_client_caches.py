"""Clients that cache for themselves (CLIENT TRACKING): whoever changes a key, they hear of it.

Two Terraces share one Redis and one PostgreSQL. `near` is the one that the caching client
is connected to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
import redis as redis_py
from redis.cache import CacheConfig

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres
from tiers.wire.resp import decode

__all__ = ["postgres"]

VIEW = {"keys": "row:{id}", "view": "cached_rows", "query": "SELECT id, text FROM facts"}
PATIENCE_S = 10.0


@dataclass
class World:
    redis: RedisProcess
    database: Database
    near: TerraceProcess
    far: TerraceProcess
    _numbers: list[int] = field(default_factory=lambda: [0])

    @property
    def server_name(self) -> str:
        with Wire(self.redis.port) as wire:
            fields = decode(wire.ask("HELLO", 3))
        return str(fields[b"server"].decode())

    def direct(self, *words: str) -> bytes:
        return self._ask(self.redis.port, *words)

    def here(self, *words: str) -> bytes:
        return self._ask(self.near.port, *words)

    def there(self, *words: str) -> bytes:
        return self._ask(self.far.port, *words)

    def _ask(self, port: int, *words: str) -> bytes:
        with Wire(port) as wire:
            reply = wire.ask(*words)
        assert not reply.startswith(b"-"), reply
        return reply

    def new_id(self) -> str:
        self._numbers[0] += 1
        return f"n{self._numbers[0]}"

    def write_row(self, ident: str, text: str) -> None:
        self.database.run(
            f"INSERT INTO facts VALUES ('{ident}', '{text}')"
            " ON CONFLICT (id) DO UPDATE SET text = excluded.text"
        )


@pytest.fixture(scope="module")
def world(postgres: Postgres) -> Iterator[World]:
    database = postgres.create_database()
    database.run("CREATE TABLE facts (id text PRIMARY KEY, text text)")
    options = {"l3__dsn": database.dsn, "l3__view": json.dumps([VIEW | {"reply": "string:text"}])}
    with (
        running_redis() as redis,
        running_terrace(redis.url, **options) as near,
        running_terrace(redis.url, **options) as far,
    ):
        for terrace in (near, far):
            wait_until(lambda t=terrace: t.readiness()[1]["l3"] == "ready", "PostgreSQL")
            with Wire(terrace.port) as wire:
                wait_until(lambda wire=wire: wire.ask("GET", "row:none")[:1] == b"$", "the view")
        yield World(redis, database, near, far)
    database.close()


class Cache(Protocol):
    """A client and its own cache."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, text: str) -> None: ...

    def holds(self, key: str) -> bool: ...


Opened = AbstractAsyncContextManager[Cache]


class RedisPyCache:
    def __init__(self, client: redis_py.Redis) -> None:
        self._client = client

    async def get(self, key: str) -> str | None:
        found = await asyncio.to_thread(self._client.get, key)
        assert found is None or isinstance(found, str)
        return found

    async def set(self, key: str, text: str) -> None:
        await asyncio.to_thread(self._client.set, key, text)

    def holds(self, key: str) -> bool:
        cache = self._client.get_cache()
        assert cache is not None
        return any(key in entry.redis_keys for entry in cache.collection)


class CoredisCache:
    def __init__(self, client: Any, cache: Any) -> None:
        self._client = client
        self._cache = cache

    async def get(self, key: str) -> str | None:
        found = await self._client.get(key)
        assert found is None or isinstance(found, str)
        return found

    async def set(self, key: str, text: str) -> None:
        await self._client.set(key, text)

    def holds(self, key: str) -> bool:
        return key.encode() in self._cache._storage


class WireCache:
    """What a client author builds on: a dictionary, and every push obeyed as it comes."""

    def __init__(self, port: int, *tracking: str, optin: bool = False) -> None:
        self._wire = Wire(port, 3)
        self._optin = optin
        self._kept: dict[str, str | None] = {}
        assert self._wire.ask("CLIENT", "TRACKING", "ON", *tracking) == b"+OK\r\n"

    def close(self) -> None:
        self._wire.close()

    def _ask(self, *words: str) -> bytes:
        self._wire.send(*words)
        while (frame := self._wire.read()[0]).startswith(b">"):
            self._obey(frame)
        return frame

    def _obey(self, frame: bytes) -> None:
        lines = frame.split(b"\r\n")
        assert lines[2] == b"invalidate", frame
        if lines[3] == b"_":
            self._kept.clear()
        for key in lines[5::2]:
            self._kept.pop(key.decode(), None)

    async def get(self, key: str) -> str | None:
        self._ask("PING")  # what has been pushed comes first
        if key not in self._kept:
            if self._optin:
                assert self._ask("CLIENT", "CACHING", "YES") == b"+OK\r\n"
            reply = self._ask("GET", key)
            assert reply[:1] in (b"$", b"_"), reply
            self._kept[key] = reply.split(b"\r\n")[1].decode() if reply[:1] == b"$" else None
        found = self._kept[key]
        self._ask("PING")  # what came right behind
        return found

    async def set(self, key: str, text: str) -> None:
        assert self._ask("SET", key, text) == b"+OK\r\n"
        self._kept.pop(key, None)  # NOLOOP tells nobody

    def holds(self, key: str) -> bool:
        return self._kept.get(key) is not None


@asynccontextmanager
async def redis_py_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    from redis.connection import CacheProxyConnection

    # It asks for 7.4 "to maximize compatibility"; nothing that it uses is newer than 6.0.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "6.0.0")
    monkeypatch.setattr(CacheProxyConnection, "DEFAULT_SERVER_NAME", world.server_name)
    with redis_py.Redis(
        port=world.near.port, protocol=3, cache_config=CacheConfig(), decode_responses=True
    ) as client:
        yield RedisPyCache(client)


@asynccontextmanager
async def coredis_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    coredis = pytest.importorskip("coredis")
    from coredis.patterns.cache import LRUCache

    cache = LRUCache()
    async with coredis.Redis(port=world.near.port, cache=cache, decode_responses=True) as client:
        yield CoredisCache(client, cache)


def wire_cache(*tracking: str) -> Callable[[World, pytest.MonkeyPatch], Opened]:
    @asynccontextmanager
    async def opened(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
        cache = WireCache(world.near.port, *tracking, optin="OPTIN" in tracking)
        try:
            yield cache
        finally:
            cache.close()

    return opened


CLIENTS: dict[str, Callable[[World, pytest.MonkeyPatch], Opened]] = {
    "redis-py": redis_py_cache,
    "coredis": coredis_cache,
    "tracking": wire_cache(),
    "optin": wire_cache("OPTIN"),
    "optout": wire_cache("OPTOUT"),
    "noloop": wire_cache("NOLOOP"),
    "bcast": wire_cache("BCAST"),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Entered by the test itself: coredis must be left by the task that entered it."""
    return CLIENTS[request.param](world, monkeypatch)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Yields to the client's own tasks, unlike `wait_until`."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await condition():  # noqa: ASYNC110 (only the client knows)
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:g} s: {what}") from None


async def kept(cache: Cache, key: str, text: str) -> None:
    """Until the client answers this from its own memory."""

    async def holds() -> bool:
        return await cache.get(key) == text and cache.holds(key)

    await until(holds, f"{key} = {text} in the client")


async def says(cache: Cache, key: str, text: str | None) -> None:
    async def right() -> bool:
        return await cache.get(key) == text

    await until(right, f"{key} = {text}")


WRITERS: dict[str, Callable[[World], Callable[..., bytes]]] = {
    "another client": lambda world: world.here,
    "a client of Redis": lambda world: world.direct,
    "a client of another Terrace": lambda world: world.there,
}


@pytest.mark.parametrize("writer", WRITERS)
async def test_writes_of_others(world: World, client: Opened, writer: str) -> None:
    async with client as cache:
        write = WRITERS[writer](world)
        key = world.new_id()
        world.direct("SET", key, "old")
        await kept(cache, key, "old")
        for number in range(3):
            write("SET", key, str(number))
            await kept(cache, key, str(number))
        write("DEL", key)
        await says(cache, key, None)


async def test_its_own_writes(world: World, client: Opened) -> None:
    async with client as cache:
        key = world.new_id()
        for number in range(5):
            await cache.set(key, str(number))
            assert await cache.get(key) == str(number)
            await kept(cache, key, str(number))


async def test_scripts_transactions_and_expiry(world: World, client: Opened) -> None:
    async with client as cache:
        key = world.new_id()
        world.direct("SET", key, "old")
        await kept(cache, key, "old")
        world.here("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", key, "scripted")
        await kept(cache, key, "scripted")
        with Wire(world.near.port) as other:
            other.ask_all(("MULTI",), ("SET", key, "in multi"), ("EXEC",))
        await kept(cache, key, "in multi")
        world.here("PEXPIRE", key, "20")
        await says(cache, key, None)


async def test_a_refresh_changes_a_row(world: World, client: Opened) -> None:
    async with client as cache:
        for terrace in (world.here, world.there):
            ident = world.new_id()
            world.write_row(ident, "old")
            world.here("TIER.REFRESH", "cached_rows")
            await kept(cache, f"row:{ident}", "old")
            world.write_row(ident, "new")
            terrace("TIER.REFRESH", "cached_rows")
            await kept(cache, f"row:{ident}", "new")
            world.database.run(f"DELETE FROM facts WHERE id = '{ident}'")
            terrace("TIER.REFRESH", "cached_rows")
            await says(cache, f"row:{ident}", None)


async def test_a_refresh_adds_a_row(world: World, client: Opened) -> None:
    """Its absence was read; Redis has no key that the refresh could change."""
    async with client as cache:
        for refresh in (world.here, world.there):
            ident = world.new_id()
            for _ in range(3):
                assert await cache.get(f"row:{ident}") is None
            world.write_row(ident, "row")
            refresh("TIER.REFRESH", "cached_rows")
            await kept(cache, f"row:{ident}", "row")


@pytest.mark.parametrize("form", ["KEYS", "pattern"])
async def test_tier_invalidate(world: World, client: Opened, form: str) -> None:
    async with client as cache:
        ident = world.new_id()
        world.write_row(ident, "row")
        world.here("TIER.REFRESH", "cached_rows")
        for key, again in ((f"row:{ident}", "row"), (ident, None)):
            for invalidate in (world.here, world.there):
                if again is None:
                    world.direct("SET", key, "value")
                await kept(cache, key, again or "value")
                invalidate("TIER.INVALIDATE", *(["KEYS", key] if form == "KEYS" else [f"{key}*"]))
                if not isinstance(cache, RedisPyCache):  # it reads pushes when it is asked
                    await until(_dropped(cache, key), f"{key} leaves the client")
                await says(cache, key, again)


def _dropped(cache: Cache, key: str) -> Callable[[], Awaitable[bool]]:
    async def dropped() -> bool:
        if isinstance(cache, WireCache):
            cache._ask("PING")
        return not cache.holds(key)

    return dropped


async def test_a_flush(world: World, client: Opened) -> None:
    async with client as cache:
        if isinstance(cache, CoredisCache):
            pytest.skip("coredis 6.9 takes the null of a flush for an empty list of keys")
        key = world.new_id()
        for flush in (world.here, world.direct):
            world.direct("SET", key, "old")
            await kept(cache, key, "old")
            flush("FLUSHALL")
            await says(cache, key, None)


def test_redirected_to_a_subscriber(world: World) -> None:
    """The way of RESP2: one connection hears what the others have read."""
    with Wire(world.near.port) as hearing, Wire(world.near.port) as reading:
        ident = hearing.ask("CLIENT", "ID")[1:-2].decode()
        on = ("CLIENT", "TRACKING", "ON", "REDIRECT", ident)
        assert reading.ask(*on) == b"+OK\r\n"  # before it is subscribed, as Redis allows
        assert reading.ask("CLIENT", "GETREDIR") == f":{ident}\r\n".encode()
        hearing.ask("SUBSCRIBE", "__redis__:invalidate")
        for number, write in enumerate((world.here, world.direct, world.there)):
            reading.ask("GET", "watched")
            write("SET", "watched", str(number))
            assert hearing.read() == [
                b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$7\r\nwatched\r\n"
            ]
        assert reading.ask("CLIENT", "TRACKING", "OFF") == b"+OK\r\n"


def test_a_broken_redirection_is_told(world: World) -> None:
    with Wire(world.near.port, 3) as reading:
        with Wire(world.near.port, 3) as hearing:
            ident = hearing.ask("CLIENT", "ID")[1:-2].decode()
            assert reading.ask("CLIENT", "TRACKING", "ON", "REDIRECT", ident) == b"+OK\r\n"
        gone = b"-ERR The client ID you want redirect to does not exist\r\n"
        with Wire(world.near.port, 3) as third:
            wait_until(
                lambda: third.ask("CLIENT", "TRACKING", "ON", "REDIRECT", ident) == gone, "it left"
            )
        reading.ask("GET", "watched")
        world.direct("SET", "watched", "1")
        broken = f">2\r\n$21\r\ntracking-redir-broken\r\n:{ident}\r\n".encode()
        assert reading.read() == [broken], "it names the client as Terrace does"


def test_prefixes(world: World) -> None:
    with Wire(world.near.port, 3) as caching:
        on = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "row:")
        assert caching.ask(*on) == b"+OK\r\n"
        world.there("MSET", "other:1", "x", "user:1", "x")
        assert caching.read() == [b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\nuser:1\r\n"]


def test_noloop_and_optin(world: World) -> None:
    with Wire(world.near.port, 3) as caching:
        caching.ask("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP")
        caching.ask("SET", "mine", "1")
        assert caching.ask_all(("GET", "mine"), ("SET", "mine", "2")) == [
            b"$1\r\n1\r\n",
            b"+OK\r\n",
        ]
        world.here("SET", "mine", "3")  # not read with CACHING YES: nobody is told
        caching.ask_all(("CLIENT", "CACHING", "YES"), ("GET", "mine"))
        caching.ask("SET", "mine", "4")  # its own
        assert caching.ask_all(("CLIENT", "CACHING", "YES"), ("GET", "mine")) == [
            b"+OK\r\n", b"$1\r\n4\r\n",
        ]  # fmt: skip
        world.here("SET", "mine", "5")
        assert caching.read() == [b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nmine\r\n"]
