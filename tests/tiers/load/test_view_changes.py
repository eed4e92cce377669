"""Guards and positions in a real Redis: no outdated row is stored, whatever was restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, Postgres, database, postgres
from tests.tiers.store_harness import caching
from tiers.load.leases import EPOCHS
from tiers.load.view_changes import POSITIONS
from tiers.refresh import refresher
from tiers.refresh.positions import START, Announced, Position
from tiers.stack import TieredCache
from tiers.views import ViewMapping

__all__ = ["database", "postgres"]

VIEW = {"keys": "w:{id}", "view": "words", "reply": "string:word",
        "query": "SELECT id, word FROM base"}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture
async def cache(
    server: RedisProcess, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TieredCache]:
    monkeypatch.setattr(refresher, "HEARTBEAT_S", 0.05)
    database.run("CREATE TABLE base AS SELECT id, 'old' AS word FROM generate_series(1, 50) id")
    async with caching(server, database, view=(VIEW,), store=(), watch=0) as cache:
        await cache.l2.call(b"FLUSHALL")
        yield cache


def mapping_of(cache: TieredCache) -> ViewMapping:
    assert cache.l3 is not None
    (mapping,) = cache.l3.mappings
    return mapping


async def change(cache: TieredCache, database: Database, word: str) -> None:
    assert cache.l3 is not None
    database.run(f"UPDATE base SET word = '{word}' WHERE id = 1")
    assert (await cache.l3.refresh("words")).published


def go_back(database: Database) -> None:
    database.run(
        "UPDATE terrace.views SET epoch = 1, mark = (SELECT mark FROM terrace.refresh_log"
        " WHERE view = 'words' AND epoch = 1) WHERE view = 'words'",
        "DELETE FROM terrace.refresh_log WHERE view = 'words' AND epoch > 1",
    )


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("restored", [False, True])
async def test_row_read_before_a_change_is_not_stored_after_it(
    cache: TieredCache, database: Database, restored: bool, emptied: bool
) -> None:
    """Also where the numbers went back, and where Redis lost the guard meanwhile."""
    mapping, fault_in, l3 = mapping_of(cache), cache.fault_in, cache.l3
    assert fault_in is not None
    assert l3 is not None
    for word in ("a", "b", "c"):
        await change(cache, database, word)
    if restored:
        go_back(database)
    guard = await fault_in.epoch_of(mapping)
    assert guard
    rows = await l3.load(mapping, [b"w:1"])
    await change(cache, database, "new")
    if emptied:
        await cache.l2.call(b"FLUSHALL")
    assert await fault_in.store_rows(mapping, guard, rows) is None
    assert (await cache.get(b"w:1")).value == b"new"


async def test_rows_leave_a_redis_whose_database_went_back(
    cache: TieredCache, database: Database
) -> None:
    for word in ("a", "b"):
        await change(cache, database, word)
    assert (await cache.get(b"w:1")).value == b"b"
    assert (await cache.get(b"w:2")).value == b"old"
    database.run("UPDATE base SET word = 'restored'")
    database.run("REFRESH MATERIALIZED VIEW words")
    go_back(database)
    async with asyncio.timeout(10):
        while await cache.l2.call(b"EXISTS", b"w:1", b"w:2"):  # noqa: ASYNC110 (a state)
            await asyncio.sleep(0.01)
    assert [(await cache.get(key)).value for key in (b"w:1", b"w:2")] == [b"restored"] * 2


async def test_position_is_moved_by_who_knows_where_it_stands(cache: TieredCache) -> None:
    changes, first, second = cache.changes, Position(1, "m1"), Position(2, "m2")
    assert await changes.note_announced("h", "v", START, first)
    assert not await changes.note_announced("h", "v", START, second)
    assert await changes.note_announced("h", "v", first, second)
    server, told = await changes.announced("h")
    assert len(server) == 40
    assert told["v"] == Announced(second, second)
    assert await cache.l2.call(b"HGET", POSITIONS + b"h", b"v") == b"2 m2"
    assert (await changes.announced("another"))[1] == {}


async def test_what_an_older_terrace_told_is_known_by_its_guard(cache: TieredCache) -> None:
    await cache.l2.call(b"HSET", EPOCHS, b"v", b"12")
    _, told = await cache.changes.announced("h")
    assert told["v"] == Announced(Position(12, ""), START)


async def test_no_guard_ever_comes_again(cache: TieredCache) -> None:
    mapping, seen = mapping_of(cache), set()
    for at in (Position(2, "m"), Position(1, "m"), Position(2, "m"), START):
        await cache.changes.publish(mapping, at, [b"w:1"])
        seen.add(await cache.l2.call(b"HGET", EPOCHS, b"words"))
        await cache.changes.publish(mapping, None, [b"w:1"])  # pushed: the view is as it was
        seen.add(await cache.l2.call(b"HGET", EPOCHS, b"words"))
    assert len(seen) == 4


async def test_databases_that_share_a_redis_do_not_disturb_each_other(
    cache: TieredCache, server: RedisProcess, postgres: Postgres
) -> None:
    """With the same names for schema and view; only the patterns differ, as they must."""
    database = postgres.create_database()
    database.run("CREATE TABLE base AS SELECT id, 'theirs' AS word FROM generate_series(1, 9) id")
    view = {**VIEW, "keys": "theirs:{id}"}
    async with caching(server, database, view=(view,), store=(), watch=0) as other:
        assert other.l3 is not None
        for word in ("a", "b"):
            await change(other, database, word)
        await cache.get(b"w:5")
        await other.get(b"theirs:5")
        await asyncio.sleep(0.3)  # some heartbeats
        assert await cache.l2.call(b"EXISTS", b"w:5", b"theirs:5") == 2
    database.close()


async def test_what_a_client_wrote_after_a_flush_stays(
    cache: TieredCache, database: Database
) -> None:
    await change(cache, database, "a")
    await cache.l2.call(b"FLUSHALL")
    await cache.set(b"w:1", b"a client's")
    await asyncio.sleep(0.3)
    assert (await cache.get(b"w:1")).value == b"a client's"
