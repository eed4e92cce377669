"""The store against a real Redis and a real PostgreSQL: write-through, and the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, Postgres, database, postgres
from tests.tiers.store_harness import caching
from tiers.errors import TierUnavailable

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


async def test_ready_json_only_and_the_bytes_stay_as_they_were(
    server: RedisProcess, database: Database
) -> None:
    """What is no JSON for PostgreSQL is still a value, and harms no other of its batch."""
    values = [
        b'{"a": 1}', b"[1, 2]", b"{", b"[1,", b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b"{\xff}",
        b"[" * 20_000, b'{"a": NaN}', b"7", b"", b"\0", b"{" + b" " * 100_000 + b"}",
    ]  # fmt: skip
    async with caching(server, database) as cache:
        await asyncio.gather(*(cache.set(b"s:%d" % i, v) for i, v in enumerate(values)))
        assert entries(database) == {b"s:%d" % i: v for i, v in enumerate(values)}
        with_json = database.rows("SELECT key FROM terrace.entries WHERE json IS NOT NULL")
        assert {key for (key,) in with_json} == {b"s:0", b"s:1", b"s:12"}


async def test_hostile_keys_are_parameters(server: RedisProcess, database: Database) -> None:
    keys = [b"s:'", b"s:%s", b"s:\0", b"s:\xff\xfe", b"s:\\x41", b"s:", b"s:" + b"k" * 2046]
    async with caching(server, database) as cache:
        await asyncio.gather(*(cache.set(key, key) for key in keys))
        await cache.l2.call(b"FLUSHALL")
        outcomes = await cache.get_many(keys)
        assert {key: outcome.value for key, outcome in outcomes.items()} == {k: k for k in keys}
        with pytest.raises(TierUnavailable, match="too long to be stored; use at most 2048"):
            await cache.set(b"s:" + b"k" * 2047, b"v")


async def test_the_newest_of_many_writers_is_what_stays(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as one, caching(server, database) as two:
        await one.l2.call(b"FLUSHALL")
        for _ in range(20):
            await asyncio.gather(
                *(cache.set(b"s:1", b"%d" % i) for i in range(20) for cache in (one, two)),
                two.delete([b"s:1"]),
            )
            assert await one.l2.call(b"GET", b"s:1") == entries(database)[b"s:1"]


async def test_a_clock_that_is_behind_the_table_is_moved_on(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as cache:
        await cache.set(b"s:1", b"from a server whose clock was ahead")
        database.run("UPDATE terrace.entries SET version = version + 86400000000")
        await asyncio.gather(*(cache.set(b"s:1", b"%d" % i) for i in range(9)))
        assert entries(database)[b"s:1"] == await cache.l2.call(b"GET", b"s:1")
        await cache.l2.call(b"FLUSHALL")
        assert (await cache.get(b"s:1")).value == entries(database)[b"s:1"] != b"from"


async def test_cleanup_removes_what_is_over_for_long(
    server: RedisProcess, database: Database
) -> None:
    async with caching(server, database) as cache:
        await cache.l2.call(b"FLUSHALL")
        await asyncio.gather(*(cache.set(b"s:%d" % i, b"v", ttl_s=100) for i in range(2500)))
        await cache.set(b"s:kept", b"v")
        await cache.delete([b"s:0"])
        assert cache.l3 is not None
        assert cache.l3.store_table is not None
        assert await cache.l3.store_table.clean() == 0
        database.run("UPDATE terrace.entries SET expires_at = now() - interval '2 hours'"
                     " WHERE expires_at IS NOT NULL")  # fmt: skip
        database.run("UPDATE terrace.entries SET version = 1 WHERE type IS NULL")
        assert await cache.l3.store_table.clean() == 2500
        assert list(entries(database)) == [b"s:kept"]


async def test_writes_are_refused_while_postgres_is_away(server: RedisProcess) -> None:
    postgres = Postgres()
    try:
        postgres.start()
        database = postgres.create_database()
        database.close()
        async with caching(server, database) as cache:
            await cache.set(b"s:1", b"one")
            postgres.stop()
            with pytest.raises(TierUnavailable):
                await cache.set(b"s:1", b"two")
            assert (await cache.get(b"s:1")).value != b"two"
            postgres.start()
            assert cache.l3 is not None
            assert await cache.l3.wait_ready(10)
            await cache.set(b"s:1", b"three")
            await cache.l2.call(b"FLUSHALL")
            assert (await cache.get(b"s:1")).value == b"three"
    finally:
        postgres.destroy()
