"""The keys that are read most come back into L1 at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tiers.base import Kind
from tiers.l1.samples import HitSamples
from tiers.l1.variants import get_variant
from tiers.options import L1Options, L2Options
from tiers.stack import TieredCache
from tiers.watch.hot_keys import HOT


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with running_redis() as server:
        yield server


def caching(redis: RedisProcess, hot_keys: int = 10, **options: float) -> TieredCache:
    l1 = L1Options(hot_keys=hot_keys, **options)
    return TieredCache(L2Options(url=redis.url), l1=l1)


def hit(cache: TieredCache, *keys: bytes) -> None:
    """As if these keys had been sampled in one second."""
    assert cache.l1 is not None
    assert cache.hot_keys is not None
    samples: HitSamples = cache.l1.samples
    for key in keys:
        samples.note(key, get_variant(0), 0.0)
    cache.hot_keys.count()


async def ready(cache: TieredCache) -> None:
    async with asyncio.timeout(20):
        while cache.hot_keys is None or not cache.hot_keys.read:  # noqa: ASYNC110 (a state)
            await asyncio.sleep(0.005)


async def test_hot_keys_are_in_l1_after_a_restart(redis: RedisProcess) -> None:
    async with caching(redis, hot_keys=2) as cache:
        for key in (b"a", b"b", b"c"):
            await cache.set(key, b"value of " + key)
        for keys in ((b"a", b"b", b"c"), (b"a", b"c"), (b"a", b"c")):
            hit(cache, *keys)
    async with caching(redis, hot_keys=2) as cache:
        await ready(cache)
        assert cache.l1 is not None
        assert sorted(cache.l1.arena.snapshot()) == [b"a", b"c"]
        outcome = await cache.get(b"a")
        assert (outcome.kind, outcome.value, outcome.tier) == (Kind.HIT, b"value of a", "L1")


async def test_entries_read_back_are_coherent_like_all_others(redis: RedisProcess) -> None:
    async with caching(redis) as cache:
        await cache.set(b"a", b"old")
        hit(cache, b"a")
    async with caching(redis) as cache:
        await ready(cache)
        await cache.l2.call("SET", "a", "new")
        async with asyncio.timeout(20):
            while (await cache.get(b"a")).value != b"new":  # noqa: ASYNC110 (a state)
                await asyncio.sleep(0.005)


async def test_keys_that_are_gone_are_skipped(redis: RedisProcess) -> None:
    async with caching(redis) as cache:
        await cache.set(b"a", b"x")
        hit(cache, b"a", b"gone")
    async with caching(redis) as cache:
        await ready(cache)
        assert cache.l1 is not None
        assert cache.l1.arena.snapshot() == [b"a"]


async def test_what_was_hot_before_fades(redis: RedisProcess) -> None:
    async with caching(redis, hot_keys=1) as cache:
        assert cache.hot_keys is not None
        for _ in range(4):
            hit(cache, b"before")
        await cache.hot_keys.save()
        hit(cache, b"now")
        await cache.hot_keys.save()
        assert await cache.l2.call("ZRANGE", HOT, 0, -1) == [b"before"]
        hit(cache, b"now")
        hit(cache, b"now")
        await cache.hot_keys.save()
        assert await cache.l2.call("ZRANGE", HOT, 0, -1) == [b"now"]
        assert await cache.l2.call("TTL", HOT) > 86_400


async def test_nothing_is_written_unless_asked_for(redis: RedisProcess) -> None:
    async with caching(redis, hot_keys=0) as cache:
        hit(cache, b"a")
        assert not cache.is_warming_up
    async with caching(redis, hot_keys=0) as cache:
        assert await cache.l2.call("EXISTS", HOT) == 0


async def test_readiness_waits_for_it_no_longer_than_configured(redis: RedisProcess) -> None:
    clock = [1000.0]
    l1 = L1Options(hot_keys=1, warm_wait_s=3.0)
    cache = TieredCache(L2Options(url=redis.url), l1=l1, clock=lambda: clock[0])
    assert cache.is_warming_up
    clock[0] += 3.0
    assert not cache.is_warming_up
    async with caching(redis, warm_wait_s=60.0) as cache, asyncio.timeout(20):
        while cache.is_warming_up:  # noqa: ASYNC110 (a state)
            await asyncio.sleep(0.005)
