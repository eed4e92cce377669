"""Warming L2 from views: complete, bounded, never with a row that a refresh has outdated."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.postgres_fixture import Database, database, postgres
from tests.tiers.store_harness import caching
from tiers.errors import TierUnavailable
from tiers.options import L2Options, L3Options
from tiers.refresh import refresh
from tiers.stack import TieredCache
from tiers.views import ViewMapping

__all__ = ["database", "postgres"]

ROWS = 3000
VIEW = {
    "keys": "n:{id}",
    "view": "numbers",
    "reply": "string:word",
    "query": "SELECT id, word FROM base",
}

Start = Callable[..., AbstractAsyncContextManager[TieredCache]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture
async def start(server: RedisProcess, database: Database) -> Start:
    database.run(
        f"CREATE TABLE base AS SELECT id, 'old' AS word FROM generate_series(1, {ROWS}) id"
    )

    def started(view: dict[str, Any] | None = None, **l3: Any) -> Any:
        return caching(server, database, view=({**VIEW, **(view or {})},), store=(), **l3)

    async with TieredCache(L2Options(url=server.url)) as cache:
        await cache.l2.call("FLUSHALL")
    return started


def mapping_of(cache: TieredCache) -> ViewMapping:
    assert cache.l3 is not None
    return next(iter(cache.l3.mappings))


async def held(cache: TieredCache) -> dict[bytes, bytes]:
    """What Redis holds of the view."""
    keys = sorted(await cache.l2.call("KEYS", "n:*"))
    return dict(zip(keys, await cache.l2.call("MGET", *keys), strict=True)) if keys else {}


class PausedStream:
    """Lets the first batch of a stream pass, and the others when the test says so."""

    def __init__(self, cache: TieredCache, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cache.l3 is not None
        self._stream = cache.l3.stream
        self.first_passed, self.go_on = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(cache.l3, "stream", self.stream)

    async def stream(self, *arguments: Any) -> AsyncIterator[Any]:
        async for batch in self._stream(*arguments):
            yield batch
            self.first_passed.set()
            await self.go_on.wait()


async def test_all_rows_are_loaded_with_a_ttl(start: Start) -> None:
    async with start() as cache:
        assert await cache.warm(mapping_of(cache)) == ROWS
        assert len(await held(cache)) == ROWS
        assert 200_000 < await cache.l2.call("PTTL", "n:1") <= 300_000
        assert cache.warmer is not None
        assert (cache.warmer.statistics().rows, cache.warmer.statistics().running) == (ROWS, 0)


async def test_what_is_there_stays_and_what_was_deleted_too(start: Start) -> None:
    async with start({"on_delete": "tombstone"}) as cache:
        await cache.l2.call("SET", "n:1", "by a client")
        await cache.l2.call("SET", "__terrace:tombstone:n:2", "1")
        assert await cache.warm(mapping_of(cache)) == ROWS - 2
        values = await held(cache)
        assert values[b"n:1"] == b"by a client"
        assert b"n:2" not in values


async def test_rows_changed_by_a_refresh_meanwhile_are_left_out(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the snapshot is outdated only where the refresh says so."""
    async with start() as cache:
        assert cache.l3 is not None
        assert cache.warmer is not None
        await refreshed(cache, database, "UPDATE base SET word = 'older' WHERE id = 1")
        stream = PausedStream(cache, monkeypatch)
        warming = asyncio.ensure_future(cache.warm(mapping_of(cache)))  # noqa: TID251
        await stream.first_passed.wait()
        await refreshed(cache, database, "UPDATE base SET word = 'new' WHERE id > 2900")
        stream.go_on.set()
        assert await warming == ROWS - 100
        values = await held(cache)
        assert len(values) == ROWS - 100
        assert b"new" not in values.values()
        assert b"n:2901" not in values
        assert cache.warmer.statistics().restarts == 0


async def refreshed(cache: TieredCache, database: Database, change: str) -> None:
    assert cache.l3 is not None
    database.run(change)
    assert (await cache.l3.refresh("numbers")).published


async def test_after_a_refresh_of_unknown_keys_the_view_is_read_again(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "MAX_CHANGED_KEYS", 10)
    async with start() as cache:
        assert cache.warmer is not None
        stream = PausedStream(cache, monkeypatch)
        warming = asyncio.ensure_future(cache.warm(mapping_of(cache)))  # noqa: TID251
        await stream.first_passed.wait()
        await refreshed(cache, database, "UPDATE base SET word = 'new'")
        stream.go_on.set()
        await warming
        assert set((await held(cache)).values()) == {b"new"}
        assert len(await held(cache)) == ROWS
        assert cache.warmer.statistics().restarts == 1


async def test_two_callers_share_one_run_and_none_of_them_ends_it(start: Start) -> None:
    async with start() as cache:
        assert cache.warmer is not None
        first = asyncio.ensure_future(cache.warm(mapping_of(cache)))  # noqa: TID251
        second = asyncio.ensure_future(cache.warm(mapping_of(cache)))  # noqa: TID251
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ROWS
        assert cache.warmer.statistics().rows == ROWS


async def test_rate_is_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """By sleeping as long as what was read is ahead of the rate; here nobody really sleeps."""
    async with start(warm_rate=1000) as cache:
        assert cache.warmer is not None
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        monkeypatch.setattr(cache.warmer, "_sleep", sleep)
        monkeypatch.setattr(cache.warmer, "_clock", lambda: 0.0)
        await cache.warm(mapping_of(cache))
        assert slept == pytest.approx([0.5 * n for n in range(1, ROWS // 500 + 1)])


async def test_its_progress_is_logged(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every few seconds; here each look at the clock finds four of them gone."""
    caplog.set_level("INFO", "terrace")
    async with start() as cache:
        ticks = itertools.count(step=4.0)
        monkeypatch.setattr(cache.warmer, "_clock", lambda: next(ticks))
        await cache.warm(mapping_of(cache))
    told = [m for m in caplog.messages if "rows so far" in m]
    assert told[0] == "view numbers: warming, 1000 rows so far, 125/s"
    assert len(told) == ROWS // 500 // 2
    assert any(m.startswith(f"view numbers: warmed, {ROWS} rows in ") for m in caplog.messages)


async def test_without_redis_it_fails_with_the_tier(start: Start, database: Database) -> None:
    with running_redis() as own:
        async with caching(own, database, view=(VIEW,), store=()) as cache:
            own.kill()
            with pytest.raises(TierUnavailable, match="L2"):
                await cache.warm(mapping_of(cache))


async def test_redis_out_of_memory_is_said(start: Start) -> None:
    async with start() as cache:
        try:
            await cache.l2.call("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(TierUnavailable, match="OOM"):
                await cache.warm(mapping_of(cache))
        finally:
            await cache.l2.call("CONFIG", "SET", "maxmemory", "0")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (a state, not an event)
            await asyncio.sleep(0.01)


async def test_at_start_one_of_two_warms(start: Start) -> None:
    async with start({"warm": True}) as one, start({"warm": True}) as other:
        warmers = [one.warmer, other.warmer]
        await until(lambda: sum(w.statistics().rows for w in warmers if w is not None) == ROWS)
        await until(lambda: not any(w.statistics().running for w in warmers if w is not None))
        assert len(await held(one)) == ROWS
        assert sorted(w.statistics().rows for w in warmers if w is not None) == [0, ROWS]


async def test_readiness_waits_no_longer_than_configured() -> None:
    clock = [1000.0]
    options = L3Options.model_validate(
        {"dsn": "host=127.0.0.1 port=1", "warm_wait": "5s", "view": [{**VIEW, "warm": True}]}
    )
    cache = TieredCache(L2Options(), l3=options, clock=lambda: clock[0])
    assert cache.is_warming_up
    clock[0] += 5.0
    assert not cache.is_warming_up


async def test_readiness_comes_with_the_end_of_the_warm_up(start: Start) -> None:
    async with start({"warm": True}, warm_wait="60s") as cache:
        assert cache.warmer is not None
        await until(lambda: not cache.is_warming_up)
        assert cache.warmer.statistics().stored == ROWS


async def test_shutdown_in_the_middle_of_a_warm_up_is_quick(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start({"warm": True}, warm_rate=10) as cache:
        assert cache.warmer is not None
        await until(lambda: cache.warmer is not None and cache.warmer.statistics().rows > 0)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 3.0
