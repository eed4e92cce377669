"""What the store remembers in Redis of keys that were taken out, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, database, postgres
from tests.tiers.store_harness import caching
from tiers.stack import TieredCache
from tiers.store.lineage import BLIND, STATE, LineageSnapshot, store_script

__all__ = ["database", "postgres"]

LONG = b"%d" % 10**9  # us
CAPTURE = store_script("capture")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


async def is_sound(
    cache: TieredCache, key: bytes, snapshot: LineageSnapshot, memory: bytes = LONG
) -> bool:
    """Whether a command that counts on the key may be captured."""
    reply = await cache.l2.run_script(CAPTURE, [STATE, key], [memory, *snapshot])
    return len(reply) == 3


async def test_who_looked_before_an_eviction_is_undone(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as cache:
        store = cache.store
        assert store is not None
        await cache.set(b"s:1", b"v")
        await cache.set(b"s:2", b"v")
        snapshot = await store.snapshot()
        assert await is_sound(cache, b"s:1", snapshot)
        assert await store.evict([b"s:1", b"s:never"]) == 1
        assert not await is_sound(cache, b"s:1", snapshot)
        assert not await is_sound(cache, b"s:never", snapshot)
        assert await is_sound(cache, b"s:2", snapshot)
        assert await is_sound(cache, b"s:1", await store.snapshot())


async def test_an_eviction_counts_when_its_mark_is_forgotten(
    server: RedisProcess, database: Database
) -> None:
    """As for a transaction that stays open for long."""
    async with caching(server, database) as cache:
        store = cache.store
        assert store is not None
        snapshot = await store.snapshot()
        await store.evict([b"s:1"])
        await cache.l2.run_script(CAPTURE, [STATE], [b"0", *BLIND])
        assert await cache.l2.call(b"ZSCORE", STATE, b"es:1") is None
        assert not await is_sound(cache, b"s:1", snapshot)
        assert await is_sound(cache, b"s:1", await store.snapshot())


async def test_the_memory_of_evictions_is_bounded(server: RedisProcess, database: Database) -> None:
    async with caching(server, database) as cache:
        store = cache.store
        assert store is not None
        await cache.l2.call(b"FLUSHALL")
        snapshot = await store.snapshot()
        await cache.l2.call(
            b"EVAL", b"local t = redis.call('TIME') for i = 1, 100000 do redis.call('ZADD', "
            b"KEYS[1], t[1] * 1000000 + t[2], 'es:' .. i) end", 1, STATE,
        )  # fmt: skip
        held = await cache.l2.call(b"ZCARD", STATE)
        await store.evict([b"s:a", b"s:b"])
        assert await cache.l2.call(b"ZCARD", STATE) <= held + 1
        assert await cache.l2.call(b"ZSCORE", STATE, b"es:b") is None
        assert not await is_sound(cache, b"s:b", snapshot)
        assert await is_sound(cache, b"s:b", await store.snapshot())
