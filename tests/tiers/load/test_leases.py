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
from tiers.load.leases import LEASES
from tiers.stack import TieredCache

__all__ = ["database", "postgres"]

VIEW = {
    "keys": "n:{id}",
    "view": "numbers",
    "reply": "string:word",
    "query": "SELECT id, 'word ' || id AS word FROM generate_series(1, 1000) id",
}


SOMEBODY = b"99999999999999 somebody"  # has a lease that does not end


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
    async with fleet(server, database, 3, lease="10s") as caches:
        await caches[0].l2.call(b"FLUSHALL")
        keys = [b"n:%d" % (i % 100 + 1) for i in range(10_000)]
        outcomes = await asyncio.gather(*(caches[i % 3].get(key) for i, key in enumerate(keys)))
        assert {outcome.value for outcome in outcomes} == {b"word %d" % i for i in range(1, 101)}
        queries, rows = map(sum, zip(*map(asked, caches), strict=True))
        assert queries <= 6
        assert rows <= 200
        assert await caches[0].l2.call(b"EXISTS", LEASES) == 0


async def test_a_row_that_another_reads_is_waited_for(
    server: RedisProcess, database: Database
) -> None:
    async with fleet(server, database, 1, lease="10s") as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"HSET", LEASES, b"n:1", SOMEBODY)
        load = asyncio.gather(cache.get(b"n:1"))
        async with asyncio.timeout(20):
            while not cache.fault_in.leases.waited:  # noqa: ASYNC110 (a state, not an event)
                await asyncio.sleep(0.001)
        await cache.l2.call(b"SET", b"n:1", b"by somebody")
        (outcome,) = await load
        assert outcome.value == b"by somebody"
        assert asked(cache) == (0, 0)


async def test_whoever_holds_the_lease_may_die(server: RedisProcess, database: Database) -> None:
    async with fleet(server, database, 1, lease="50ms") as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"HSET", LEASES, b"n:1", SOMEBODY)
        async with asyncio.timeout(20):
            outcomes = await cache.get_many([b"n:1", b"n:2", b"n:0"])
        assert [outcome.kind for outcome in outcomes.values()] == [
            Kind.HIT, Kind.HIT, Kind.NEGATIVE,
        ]  # fmt: skip


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
async def test_batches_of_any_size(server: RedisProcess, database: Database, count: int) -> None:
    async with fleet(server, database, 1, batch_max=10_000) as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"SET", b"n:1000", b"there")
        keys = [b"n:%d" % i for i in range(1, count + 1)]
        grant = await cache.fault_in.leases.begin().take("numbers", keys)
        assert grant is not None
        assert grant.there == [key for key in keys if key == b"n:1000"]
        assert len(grant.own) == count - len(grant.there)
        again = await cache.fault_in.leases.begin().take("numbers", keys)
        assert again is not None
        assert (again.held, again.own) == (grant.own, [])


async def test_redis_finds_a_lease_without_searching_all(
    server: RedisProcess, database: Database
) -> None:
    """A hash of short values is one list up to hash-max-listpack-entries (512): slow to search."""
    async with fleet(server, database, 1) as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.fault_in.leases.begin().take("numbers", [b"n:1"])
        assert await cache.l2.call(b"OBJECT", b"ENCODING", LEASES) == b"hashtable"


@pytest.mark.parametrize("key", [b"n:1", b"n:0"])
async def test_a_load_that_ended_holds_no_lease(
    server: RedisProcess, database: Database, key: bytes
) -> None:
    async with fleet(server, database, 1, lease="10s") as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.get(key)
        assert await cache.l2.call(b"HEXISTS", LEASES, key) == 0


async def test_without_leases_everybody_reads(server: RedisProcess, database: Database) -> None:
    async with fleet(server, database, 1, lease=0) as (cache,):
        await cache.l2.call(b"FLUSHALL")
        await cache.l2.call(b"HSET", LEASES, b"n:1", SOMEBODY)
        assert (await cache.get(b"n:1")).value == b"word 1"
