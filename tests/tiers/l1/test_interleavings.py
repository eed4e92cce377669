"""Loads against DEL, SET, expiry, refresh, writes and losses: every order of their steps.

The scripts are the real ones, on a real Redis; PostgreSQL is played, so that each of its
statements is one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.tiers.interleaving import Play, orders
from tiers.base import Kind, Outcome
from tiers.errors import TierUnavailable
from tiers.load.held_rows import TOMBSTONE
from tiers.load.leases import EPOCHS
from tiers.options import L1Options, L2Options, L3Options
from tiers.refresh.positions import Position
from tiers.stack import TieredCache
from tiers.store.entry import Capture, Entry
from tiers.store.table import Written
from tiers.views import ViewMapping

KEY = b"n:1"
STORED = b"s:1"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


class PlayedPostgres:
    """The row of a view, and the table of the store."""

    def __init__(self) -> None:
        self.row: dict[bytes, bytes] | bytes | None = b"old"
        self.entries: dict[bytes, Entry] = {}
        self.from_lineage = 0

    async def load(self, mapping: ViewMapping, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        kind = Kind.NEGATIVE if self.row is None else Kind.HIT
        return {key: Outcome(kind, value=self.row, tier="L3", ttl_s=100.0) for key in keys}

    async def refresh(self, row: bytes | None) -> None:
        self.row = row

    async def write(self, captures: Sequence[Capture]) -> Written:
        kept = [capture for capture in captures if int(capture.lineage) == self.from_lineage]
        for entry in (capture.entry for capture in kept):
            was = self.entries.get(entry.key)
            if was is None or was.version < entry.version:
                self.entries[entry.key] = entry
        found = await self.read([capture.entry.key for capture in captures])
        versions = {key: entry.version for key, entry in found.items()}
        return Written(versions, None if len(kept) == len(captures) else await self.lineage())

    async def read(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def known(self, keys: Sequence[bytes]) -> list[bytes]:
        return list(await self.read(keys))

    async def lineage(self) -> bytes:
        return b"%d" % self.from_lineage

    async def adopt(self, lineage: bytes) -> bytes:
        self.from_lineage = max(self.from_lineage, int(lineage))
        return await self.lineage()

    @property
    def stored(self) -> bytes | None:
        entry = self.entries.get(STORED)
        return None if entry is None or entry.is_absent else entry.value


class World:
    """A cache whose operations on servers are steps of a play."""

    def __init__(self, cache: TieredCache, postgres: PlayedPostgres, play: Play) -> None:
        self.cache, self.postgres, self.play = cache, postgres, play
        assert cache.l3 is not None
        assert cache.store is not None
        self.mapping = cache.l3.mappings.by_view("numbers")
        self.refresh_row = play.gated("commit", postgres.refresh)
        self.command = play.gated("command", cache.l2.call)

    async def load(self) -> Outcome:
        assert self.mapping is not None
        outcomes = await self.cache.fault_in.load_batch(self.mapping, [KEY])
        return outcomes[KEY]

    async def refresh(self) -> None:
        assert self.mapping is not None
        await self.refresh_row(b"new")
        await self.cache.changes.publish(self.mapping, Position(2, "m2"), [KEY])

    async def delete(self, *, leaving_tombstone: bool) -> None:
        if leaving_tombstone:
            await self.command(b"SET", TOMBSTONE + KEY, b"1", b"PX", 60_000)
        await self.command(b"DEL", KEY)


@asynccontextmanager
async def worlds(server: RedisProcess) -> AsyncIterator[Any]:
    """Makes one world after the other over the same connections."""
    view = {"keys": "n:{id}", "view": "numbers", "reply": "string:word"}
    options = {"dsn": "host=/nowhere", "view": (view,), "store": ({"keys": "s:*"},), "lease": 0}
    cache = TieredCache(
        L2Options(url=server.url), l1=L1Options(enabled=False), l3=L3Options.model_validate(options)
    )
    l2, l3, store = cache.l2, cache.l3, cache.store
    assert l3 is not None
    assert store is not None
    await l2.start()
    assert await l2.wait_ready(10)
    run_script, call, collect = l2.run_script, l2.call, l2.collect

    async def new(row: bytes | None = b"old") -> World:
        await call(b"FLUSHALL")
        play, postgres = Play(), PlayedPostgres()
        postgres.row = row
        changes: Mapping[tuple[object, str], Any] = {
            (l2, "run_script"): play.gated("script", run_script),
            (l2, "collect"): play.gated("command", collect),
            (l3, "load"): play.gated("read", postgres.load),
            (store._table, "read"): play.gated("read", postgres.read),
            (store._table, "write"): play.gated("write", postgres.write),
            (store._table, "known"): postgres.known,
            (store._table, "lineage"): postgres.lineage,
            (store._table, "adopt"): postgres.adopt,
            (store, "_table_reason"): lambda: "",
        }
        for (target, name), operation in changes.items():
            setattr(target, name, operation)
        l2.call = call  # type: ignore[method-assign]
        world = World(cache, postgres, play)
        # The sample of the epoch is a step, too.
        l2.call = play.gated("epoch", call)  # type: ignore[method-assign]
        return world

    yield new
    await store.close()
    await l2.close()


async def value_of(world: World, key: bytes) -> bytes | None:
    value: bytes | None = await world.cache.l2.call(b"GET", key)
    return value


@pytest.mark.parametrize("event", ["DEL", "tombstone", "SET", "expiry", "second load"])
async def test_what_a_load_stores_is_never_outdated(server: RedisProcess, event: str) -> None:
    """A load (epoch, read, fill), a refresh (commit, epoch, removal), and one thing more."""
    steps = {"load": 3, "refresh": 3, "other": 2 if event == "tombstone" else 1}
    if event == "second load":
        steps["other"] = 3
    count = 0
    async with worlds(server) as new:
        for order in orders(steps):
            world = await new()
            other = {
                "DEL": lambda w: w.delete(leaving_tombstone=False),
                "tombstone": lambda w: w.delete(leaving_tombstone=True),
                "SET": lambda w: w.command(b"SET", KEY, b"client's"),
                "expiry": lambda w: w.command(b"UNLINK", KEY),
                "second load": lambda w: w.load(),
            }[event](world)
            loaded, refreshed, _ = await world.play.run(
                order, load=world.load(), refresh=world.refresh(), other=other
            )
            trace, value = world.play.trace, await value_of(world, KEY)
            assert refreshed is None, refreshed
            assert loaded.kind in (Kind.HIT, Kind.MISS, Kind.NEGATIVE), (trace, loaded)
            assert value in (None, b"new", b"client's"), (trace, value)
            assert (await world.cache.l2.call(b"HGET", EPOCHS, b"numbers")).startswith(b"2 ")
            removal = [i for i, step in enumerate(trace) if step == "refresh.script"][-1]
            begun = min(i for i, step in enumerate(trace) if step.startswith("other."))
            if event == "SET" and begun > removal:
                assert value == b"client's", trace
            if event == "tombstone" and begun > removal:
                assert value is None, trace
                assert await world.cache.l2.call(b"EXISTS", TOMBSTONE + KEY) == 1
            count += 1
    assert count == len(list(orders(steps)))


@pytest.mark.parametrize("event", ["flush", "eviction", "delete", "second write", "nothing"])
async def test_the_store_and_redis_never_disagree(server: RedisProcess, event: str) -> None:
    """A write (command, table, settle), a load (look, read, fill), and one thing more."""
    steps = {"write": 3, "load": 3, "other": 1}
    async with worlds(server) as new:
        for order in orders(steps):
            world = await new()
            cache, postgres = world.cache, world.postgres
            assert cache.store is not None
            await cache.set(STORED, b"before")  # no actor: not gated
            await cache.l2.call(b"UNLINK", STORED)
            other = {
                "flush": lambda w: w.command(b"FLUSHALL"),
                "eviction": lambda w: w.command(b"UNLINK", STORED),
                "delete": lambda w: w.cache.delete([STORED]),
                "second write": lambda w: w.cache.set(STORED, b"second"),
                "nothing": lambda w: asyncio.sleep(0),
            }[event](world)
            written, loaded, second = await world.play.run(
                order,
                write=cache.set(STORED, b"after"),
                load=cache.store.load([STORED]),
                other=other,
            )
            trace = world.play.trace
            assert written is None or isinstance(written, TierUnavailable), (trace, written)
            outcome = loaded[STORED]
            assert not outcome.is_failure, (trace, outcome)
            if event != "delete":
                assert outcome.kind is not Kind.NEGATIVE, (trace, outcome)
            value = await value_of(world, STORED)
            assert value in (None, postgres.stored), (trace, value, postgres.stored, written)
            if written is None and event in ("flush", "eviction", "nothing"):
                assert postgres.stored == b"after", trace
            if event in ("eviction", "nothing"):
                assert written is None, (trace, written)
            if event == "second write":
                assert written is second is None, (trace, written, second)
                assert postgres.stored in (b"after", b"second")
            # Whatever happened: what is read next is what the table has.
            outcome = await cache.get(STORED)
            assert (outcome.value if outcome.has_value else None) == postgres.stored, trace
