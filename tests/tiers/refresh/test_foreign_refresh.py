"""Foreign refreshes are detected and published; refreshes by Terrace do not count as such."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, database, postgres

__all__ = ["database", "postgres"]

ITEMS = {"keys": "item:{id}", "view": "items", "query": "SELECT id, body FROM base"}
WATCHED = {"watch": "20ms"}


@pytest.fixture(autouse=True)
def _base(database: Database) -> None:
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
    )


async def refresh_by_hand(database: Database, harness: Harness, how: str = "") -> None:
    """In a session of its own that ends, as psql's does: then the server has counted."""
    await settled(database, harness)
    await database.change(f"REFRESH MATERIALIZED VIEW {how} items")
    database.reconnect()


async def settled(database: Database, harness: Harness) -> None:
    """Until the leader has looked at the view after everything that was done to it before."""
    await harness.until_leading()
    await harness.until(lambda: records(database) != [])
    before = harness.l3.statistics().foreign_checks
    await harness.until(lambda: harness.l3.statistics().foreign_checks >= before + 2)


def records(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT inserted, deleted FROM terrace.refreshes WHERE view = 'items'")


def counted(database: Database) -> list[tuple[Any, ...]]:
    return database.rows(
        "SELECT pg_stat_get_tuples_inserted('items'::regclass),"
        " pg_stat_get_tuples_deleted('items'::regclass)"
    )


async def test_plain_refresh(database: Database) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        database.run("UPDATE base SET body = 'second' WHERE id = 3")
        await refresh_by_hand(database, harness)
        assert await harness.next_published() == ("items", 1, None)
        assert await harness.next_change() == ("items", 1, None)
        assert harness.l3.statistics().foreign_refreshes >= 1


async def test_concurrent_refresh(database: Database) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        database.run("UPDATE base SET body = 'second' WHERE id = 3")
        await refresh_by_hand(database, harness, "CONCURRENTLY")
        assert await harness.next_published() == ("items", 1, None)


async def test_concurrent_refresh_that_only_inserted_is_known_by_its_keys(
    database: Database,
) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        database.run("INSERT INTO base VALUES (101, 'new'), (102, 'new')")
        await refresh_by_hand(database, harness, "CONCURRENTLY")
        view, epoch, keys = await harness.next_published()
        assert (view, epoch, sorted(keys or ())) == ("items", 1, [b"item:101", b"item:102"])


async def test_too_many_inserted_rows_are_any_key(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiers.refresh.foreign.MAX_CHANGED_KEYS", 10)
    async with running(database, ITEMS, **WATCHED) as harness:
        database.run("INSERT INTO base SELECT i, '' FROM generate_series(101, 111) i")
        await refresh_by_hand(database, harness, "CONCURRENTLY")
        assert await harness.next_published() == ("items", 1, None)


async def test_concurrent_refresh_without_changes_is_nothing(database: Database) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        await refresh_by_hand(database, harness, "CONCURRENTLY")
        await settled(database, harness)
        assert harness.published.empty()


async def test_own_refreshes_are_not_taken_for_foreign(database: Database) -> None:
    """Whichever connection made them, and whenever the server counts them."""
    async with running(database, {**ITEMS, "refresh": "50ms"}, **WATCHED) as harness:
        for n in range(5):
            database.run(f"UPDATE base SET body = 'v{n}' WHERE id <= 10", "DELETE FROM base"
                         f" WHERE id = {50 + n}")  # fmt: skip
            await harness.l3.refresh("items")
        refreshes = harness.l3.statistics().refreshes
        await harness.until(lambda: harness.l3.statistics().refreshes > refreshes + 5)
        await settled(database, harness)
        assert harness.l3.statistics().foreign_refreshes == 0
        # The server counts the rows of a refresh that is cut off by the end, too: none may be.
        await database.change(
            "SELECT pg_advisory_lock(hashtextextended('terrace refresh items', 0))"
        )
    # The expectation is exact once the ended sessions were counted.
    await harness.until(lambda: counted(database) == records(database))


async def test_refresh_made_while_no_terrace_ran(database: Database) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        await settled(database, harness)
    database.run("UPDATE base SET body = 'second' WHERE id = 3")
    database.run("REFRESH MATERIALIZED VIEW CONCURRENTLY items")
    database.reconnect()
    async with running(database, ITEMS, **WATCHED) as harness:
        assert await harness.next_published() == ("items", 1, None)


async def test_reset_counters_cost_a_reload_and_no_blindness(database: Database) -> None:
    async with running(database, ITEMS, **WATCHED) as harness:
        await settled(database, harness)
        database.run("SELECT pg_stat_reset_single_table_counters('items'::regclass)")
        assert await harness.next_published() == ("items", 1, None)
        database.run("DELETE FROM base WHERE id = 3")
        await refresh_by_hand(database, harness, "CONCURRENTLY")
        assert await harness.next_published() == ("items", 2, None)


async def test_watching_can_be_turned_off(database: Database) -> None:
    async with running(database, {**ITEMS, "refresh": "30ms"}, watch=0) as harness:
        await harness.until(lambda: harness.l3.statistics().refreshes >= 2)
        assert harness.l3.statistics().foreign_checks == 0
