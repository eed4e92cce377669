"""Any number of Redis on one schema, databases that go back: who stands where is compared."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.tiers.l3_harness import Harness, Redis, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.l3 import listener as l3_listener
from tiers.refresh import refresher
from tiers.refresh.positions import START, Change, Logged, Position, merged, parse_position

__all__ = ["database", "postgres"]

ITEMS: dict[str, Any] = {"keys": "item:{id}", "view": "items", "query": "SELECT * FROM base"}
OTHERS: dict[str, Any] = {"keys": "other:{id}", "view": "others", "query": "SELECT * FROM base"}
QUIET = {"watch": 0}


@pytest.fixture(autouse=True)
def _base(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(l3_listener, "KEEPALIVE_S", 0.1)
    monkeypatch.setattr(refresher, "HEARTBEAT_S", 0.05)
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
    )


@contextlib.asynccontextmanager
async def two_regions(database: Database, **more: Any) -> AsyncIterator[tuple[Harness, Harness]]:
    view = {**ITEMS, **more}
    async with (
        running(database, view, redis=Redis("blue"), **QUIET) as blue,
        running(database, view, redis=Redis("green"), **QUIET) as green,
    ):
        await blue.until_leading()
        await green.until_leading()
        yield blue, green


def change_row(database: Database, row: int, body: str = "changed") -> None:
    database.run(f"UPDATE base SET body = '{body}' WHERE id = {row}")


async def test_each_redis_is_told_of_a_refresh(database: Database) -> None:
    async with two_regions(database) as both:
        for at, epoch in ((0, 1), (1, 2)):
            change_row(database, epoch)
            await both[at].l3.refresh("items")
            for harness in both:
                assert await harness.next_published() == ("items", epoch, [b"item:%d" % epoch])


async def test_one_of_them_schedules(database: Database) -> None:
    async with two_regions(database, refresh="30ms") as both:
        for n in range(1, 4):
            change_row(database, n)
            for harness in both:
                assert (await harness.next_published())[2] == [b"item:%d" % n]
        assert sorted(h.l3.statistics().refreshes > 0 for h in both) == [False, True]
        scheduler, other = sorted(both, key=lambda h: -h.l3.statistics().refreshes)
        await scheduler.l3.close()
        change_row(database, 9)
        assert (await other.next_published())[2] == [b"item:9"]


async def test_each_redis_is_told_of_pushes(database: Database) -> None:
    async with two_regions(database) as both:
        database.run(
            "SELECT terrace.push('item:{id}', ARRAY['item:3', 'item:4'])",
            "NOTIFY terrace, 'key item:7'",
        )
        for harness in both:
            told = [await harness.next_published(), await harness.next_published()]
            assert sorted(keys or () for _, _, keys in told) == [
                [b"item:3", b"item:4"],
                [b"item:7"],
            ]
        database.run("SELECT terrace.push('item:{id}', NULL)")
        for harness in both:
            assert await harness.next_published() == ("items", 0, None)


async def test_one_redis_that_is_away_does_not_hold_up_the_other(database: Database) -> None:
    async with two_regions(database) as (blue, green):
        blue.redis.is_down = True
        change_row(database, 1)
        database.run("SELECT terrace.push('item:{id}', ARRAY['item:5'])")
        await green.l3.refresh("items")
        assert {str(await green.next_published()), str(await green.next_published())} == {
            str(("items", 1, [b"item:1"])), str(("items", 0, [b"item:5"])),
        }  # fmt: skip
        blue.redis.is_down = False
        assert {str(await blue.next_published()), str(await blue.next_published())} == {
            str(("items", 1, [b"item:1"])), str(("items", 0, [b"item:5"])),
        }  # fmt: skip


async def test_failover_to_a_replica_that_lagged(database: Database) -> None:
    """It says how far it was told, so it is told the rest again."""
    async with running(database, ITEMS, redis=Redis("primary"), **QUIET) as harness:
        await harness.until_leading()
        for n in (1, 2):
            change_row(database, n)
            await harness.l3.refresh("items")
            await harness.next_published()
            if n == 1:
                lagging = dict(harness.redis.told)
        harness.redis.told, harness.redis.server = lagging, "replica"
        assert await harness.next_published() == ("items", 2, [b"item:2"])
        await harness.until_leading()
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        await harness.until(lambda: database.rows(locks) == [(2,)])


async def test_emptied_redis_is_told_what_comes_and_not_what_was(database: Database) -> None:
    """What it holds was put there since, by clients perhaps."""
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        await refreshed(database, harness, 1)
        harness.redis.told.clear()
        await refreshed(database, harness, 2)
        await harness.until(lambda: harness.told_epoch() == 2)
        while not harness.published.empty():  # it may be told twice
            assert await harness.next_published() == ("items", 2, [b"item:2"])
        harness.redis.told.clear()
        harness.redis.server = "a copy of what it was long ago"
        view, epoch, keys = await harness.next_published()
        assert (view, epoch, sorted(keys or ())) == ("items", 2, [b"item:1", b"item:2"])


# A database that goes back

TABLES = ("views", "refresh_log", "refreshes", "relations", "pushed")


def back_up(database: Database) -> None:
    for table in TABLES:
        database.run(f"CREATE TABLE backup_{table} AS SELECT * FROM terrace.{table}")


def restore(database: Database) -> None:
    for table in TABLES:
        overriding = "OVERRIDING SYSTEM VALUE" if table == "pushed" else ""
        database.run(
            "BEGIN", f"DELETE FROM terrace.{table}",
            f"INSERT INTO terrace.{table} {overriding} SELECT * FROM backup_{table}", "COMMIT",
        )  # fmt: skip


async def refreshed(database: Database, harness: Harness, *rows: int) -> None:
    for row in rows:
        change_row(database, row, f"at {row}")
        await harness.l3.refresh("items")
        assert (await harness.next_published())[2] == [b"item:%d" % row]
        assert (await harness.next_change())[2] == [b"item:%d" % row]


async def test_restored_while_terrace_runs(database: Database) -> None:
    """All keys go, in every proxy as well; and what comes then is told as ever."""
    async with running(database, ITEMS, OTHERS, **QUIET) as harness:
        await harness.until_leading()
        await refreshed(database, harness, 1)
        back_up(database)
        await refreshed(database, harness, 2, 3)
        restore(database)
        assert await harness.next_published() == ("items", 1, None)
        assert await harness.next_change() == ("items", 1, None)
        assert harness.l3.current_epoch("items") == 1
        await refreshed(database, harness, 4)
        assert harness.told_epoch() == 2
        assert harness.published.empty()


async def test_restored_and_gone_on_to_the_same_number(database: Database) -> None:
    """The numbers agree, the marks do not."""
    redis = Redis()
    async with running(database, ITEMS, redis=redis, **QUIET) as harness:
        await harness.until_leading()
        await refreshed(database, harness, 1)
        back_up(database)
        await refreshed(database, harness, 2, 3)
    restore(database)
    async with running(database, ITEMS, redis=Redis("another"), **QUIET) as stranger:
        for row in (5, 6):
            change_row(database, row)
            await stranger.l3.refresh("items")
    assert database.rows("SELECT epoch FROM terrace.views WHERE view = 'items'") == [(3,)]
    async with running(database, ITEMS, redis=redis, **QUIET) as harness:
        assert await harness.next_published() == ("items", 3, None)


@pytest.mark.parametrize(
    "tables", [["views"], ["refresh_log"], ["views", "refresh_log"], [*TABLES, "history"]]
)
async def test_truncated_tables(database: Database, tables: Sequence[str]) -> None:
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        await refreshed(database, harness, 1, 2)
        await database.change("TRUNCATE " + ", ".join(f"terrace.{table}" for table in tables))
        if "views" in tables:
            assert await harness.next_published() == ("items", 0, None)
            assert await harness.next_change() == ("items", 0, None)
        await refreshed(database, harness, 3)
        assert harness.l3.statistics().is_leader


async def test_sequence_of_the_outbox_goes_back(database: Database) -> None:
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        for row in (1, 2, 3):
            database.run(f"SELECT terrace.push('item:{{id}}', ARRAY['item:{row}'])")
            assert (await harness.next_published())[2] == [b"item:%d" % row]
            await database.change("ALTER TABLE terrace.pushed ALTER COLUMN id RESTART WITH 1")


async def test_tables_of_an_older_terrace_are_completed(database: Database) -> None:
    """Its changes have no marks; numbers must do for them."""
    redis = Redis()
    async with running(database, ITEMS, redis=redis, **QUIET) as harness:
        await harness.until_leading()
        await refreshed(database, harness, 1, 2)
    database.run(
        "ALTER TABLE terrace.views DROP COLUMN mark",
        "ALTER TABLE terrace.refresh_log DROP COLUMN mark, DROP COLUMN before_mark",
        "ALTER TABLE terrace.refresh_log ADD COLUMN applied boolean NOT NULL DEFAULT false",
    )
    redis.told["items"] = Position(1, "")
    async with running(database, ITEMS, redis=redis, **QUIET) as harness:
        assert await harness.next_published() == ("items", 2, [b"item:2"])
        await refreshed(database, harness, 3)


# No IO


def at(epoch: int) -> Position:
    return Position(epoch, f"m{epoch}") if epoch else START


def row(epoch: int, keys: Sequence[str] | None = ("k",), before: str | None = None) -> Logged:
    return Logged(at(epoch), at(epoch - 1).mark or "" if before is None else before, keys)


def test_positions_are_read_as_they_are_written() -> None:
    for position in (START, Position(7, "a-mark")):
        assert parse_position(bytes(position)) == position
        assert parse_position(bytes(position) + b" nonce") == position
    assert parse_position(b"12") == Position(12, "")
    for text in (b"", b"x", b"-1 m", "²".encode()):
        assert parse_position(text) is None


def test_histories() -> None:
    assert merged("v", at(2), at(2), []) is None
    whole = [row(1, ["a"]), row(2, ["b", "a"])]
    assert merged("v", START, at(2), whole) == Change("v", START, at(2), [b"a", b"b"])
    # One that was committed after `now` was read, and one of any key.
    assert merged("v", START, at(1), whole) == Change("v", START, at(2), [b"a", b"b"])
    assert merged("v", at(1), at(2), [row(2, None)]) == Change("v", at(1), at(2), None)
    unknown = [
        (at(1), at(3), [row(3)]),  # trimmed
        (at(3), at(2), []),  # gone back
        (at(2), Position(2, "other"), []),  # gone back, and on to the same number
        (at(1), at(2), [row(2, before="other")]),
        (at(1), Position(2, "other"), [row(2)]),
        (at(2), START, []),
    ]  # fmt: skip
    for seen, now, log in unknown:
        assert merged("v", seen, now, log) == Change("v", seen, now, None)
    # A cursor of SCAN knows a number only.
    assert merged("v", Position(2, None), at(2), []) is None
    assert merged("v", Position(1, None), at(2), [row(2)]) == Change(
        "v", Position(1, None), at(2), [b"k"]
    )
