"""The store against a real Redis and a real PostgreSQL: write-through, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, database, postgres
from tests.tiers.store_harness import caching

__all__ = ["database", "postgres"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


def entries(database: Database) -> dict[bytes, bytes | None]:
    return dict(database.rows("SELECT key, value FROM terrace.entries"))


async def test_an_acknowledged_write_is_in_the_table(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as cache:
        await cache.set(b"s:1", b"\x00\xffbytes")
        await cache.set(b"other", b"not stored")
        assert entries(database) == {b"s:1": b"\x00\xffbytes"}
        await cache.set(b"s:1", json.dumps({"user": 7}).encode())
        assert database.rows("SELECT json ->> 'user' FROM terrace.entries") == [("7",)]
        assert await cache.delete([b"s:1", b"other", b"s:never"]) == 2
        assert database.rows("SELECT type, value FROM terrace.entries WHERE key = 's:1'") == [
            (None, None)
        ]


async def test_redis_that_lost_everything_gets_it_back(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as cache:
        await cache.set(b"s:1", b"one")
        await cache.set(b"s:2", b"two", ttl_s=100)
        await cache.l2.call(b"HSET", b"unrelated", b"f", b"v")
        await cache.l2.call(b"FLUSHALL")
        outcomes = await cache.get_many([b"s:1", b"s:2", b"s:3"])
        assert [outcome.value for outcome in outcomes.values()] == [b"one", b"two", None]
        assert 90_000 < await cache.l2.call(b"PTTL", b"s:2") <= 100_000
        assert await cache.l2.call(b"PTTL", b"s:1") == -1
        await cache.l2.call(b"FLUSHALL")
        assert await cache.delete([b"s:1"]) == 1
        await cache.l2.call(b"FLUSHALL")
        assert (await cache.get(b"s:1")).is_absent
