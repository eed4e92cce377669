"""Single flight across processes: who reads a row, who waits, and for how long at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, database, postgres
from tests.tiers.store_harness import caching
from tiers.base import Kind
from tiers.leases import LEASE
from tiers.stack import TieredCache

__all__ = ["database", "postgres"]

VIEW = {
    "keys": "n:{id}",
    "view": "numbers",
    "reply": "string:word",
    "query": "SELECT id, 'word ' || id AS word FROM generate_series(1, 1000) id",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@asynccontextmanager
async def fleet(
    server: RedisProcess, database: Database, size: int, **options: Any
) -> AsyncIterator[list[TieredCache]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                caching(server, database, view=(VIEW,), store=(), **options)
            )
            for _ in range(size)
        ]


def asked(cache: TieredCache) -> tuple[int, int]:
    assert cache.l3 is not None
    statistics = cache.l3.statistics()
    return statistics.queries, statistics.keys


async def test_a_stampede_makes_a_handful_of_queries(
    server: RedisProcess, database: Database
) -> None:
    """10,000 concurrent misses of 100 keys in three processes that do not know each other."""
    async with fleet(server, database, 3) as caches:
        await caches[0].l2.call(b"FLUSHALL")
        keys = [b"n:%d" % (i % 100 + 1) for i in range(10_000)]
        outcomes = await asyncio.gather(*(caches[i % 3].get(key) for i, key in enumerate(keys)))
        assert {outcome.value for outcome in outcomes} == {b"word %d" % i for i in range(1, 101)}
        queries, rows = map(sum, zip(*map(asked, caches), strict=True))
        assert queries <= 6
        assert rows <= 200
        assert await caches[0].l2.call(b"KEYS", LEASE + b"*") == []


async def test_a_row_that_another_reads_is_waited_for(
    server: RedisProcess, database: Database
) -> None:
    async with fleet(server, database, 1, lease="10s") as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"SET", LEASE + b"n:1", b"somebody", b"PX", 10_000)
        load = asyncio.gather(cache.get(b"n:1"))
        async with asyncio.timeout(5):
            while not cache._leases.waited:  # noqa: ASYNC110 (a state, not an event)
                await asyncio.sleep(0.001)
        await cache.l2.call(b"SET", b"n:1", b"by somebody")
        (outcome,) = await load
        assert outcome.value == b"by somebody"
        assert asked(cache) == (0, 0)


async def test_whoever_holds_the_lease_may_die(server: RedisProcess, database: Database) -> None:
    async with fleet(server, database, 1, lease="50ms") as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"SET", LEASE + b"n:1", b"somebody who died")
        async with asyncio.timeout(5):
            outcomes = await cache.get_many([b"n:1", b"n:2", b"n:0"])
        assert [outcome.kind for outcome in outcomes.values()] == [
            Kind.HIT, Kind.HIT, Kind.NEGATIVE,
        ]  # fmt: skip


async def test_without_leases_everybody_reads(server: RedisProcess, database: Database) -> None:
    async with fleet(server, database, 1, lease=0) as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"SET", LEASE + b"n:1", b"ignored", b"PX", 10_000)
        assert (await cache.get(b"n:1")).value == b"word 1"
