"""Refresh: exactly the changed keys, told to everybody, whoever dies or does not listen."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.tiers.l3_harness import Harness, Redis, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.base import Kind
from tiers.errors import MappingProblem, TierUnavailable
from tiers.l3 import listener as l3_listener
from tiers.refresh import log as refresh_log
from tiers.refresh import refresh, refresher

__all__ = ["database", "postgres"]

ITEMS = {"keys": "item:{id}", "view": "items", "query": "SELECT id, body FROM base"}


@pytest.fixture(autouse=True)
def _base(database: Database) -> None:
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
    )


def log_rows(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT epoch, keys FROM terrace.refresh_log ORDER BY epoch")


# The refresh itself


async def test_exactly_the_changed_keys(database: Database) -> None:
    """Inserted, updated and deleted rows; not those written with the same value."""
    async with running(database, ITEMS) as harness:
        database.run(
            "UPDATE base SET body = 'second' WHERE id IN (3, 4)",
            "UPDATE base SET body = 'first' WHERE id = 5",
            "DELETE FROM base WHERE id = 6",
            "INSERT INTO base VALUES (101, 'new')",
        )
        result = await harness.l3.refresh("items")
        expected = [b"item:101", b"item:3", b"item:4", b"item:6"]
        assert sorted(result.changed or ()) == expected
        assert (result.epoch, result.published) == (1, True)
        for told in (await harness.next_change(), await harness.next_published()):
            view, epoch, keys = told
            assert (view, epoch, sorted(keys or ())) == ("items", 1, expected)
        assert harness.l3.current_epoch("items") == 1
        assert harness.told_epoch() == 1
        kinds = [outcome.kind for outcome in await harness.load(b"item:101", b"item:6")]
        assert kinds == [Kind.HIT, Kind.NEGATIVE]


async def test_refresh_that_changes_nothing_tells_nobody(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        result = await harness.l3.refresh("items")
        assert (result.epoch, result.changed) == (0, ())
        assert log_rows(database) == []
        assert harness.published.empty()


async def test_composite_and_unaddressable_keys(database: Database) -> None:
    """A row without a key (NULL, or text that reads as another key) is left out."""
    query = "SELECT id % 10 AS a, body AS b, id FROM base WHERE id < 10"
    view = {"keys": "c:{b}:{a}", "view": "c", "query": query}
    async with running(database, view) as harness:
        database.run(
            "UPDATE base SET body = 'x:y' WHERE id = 1",
            "UPDATE base SET body = NULL WHERE id = 2",
            "UPDATE base SET body = 'é' WHERE id = 3",
        )
        result = await harness.l3.refresh("c")
        assert sorted(result.changed or ()) == [
            b"c:first:1", b"c:first:2", b"c:first:3", "c:é:3".encode(),
        ]  # fmt: skip


async def test_too_many_changed_keys_become_all_keys(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "MAX_CHANGED_KEYS", 10)
    async with running(database, ITEMS) as harness:
        database.run("UPDATE base SET body = 'second' WHERE id <= 10")
        assert len((await harness.l3.refresh("items")).changed or ()) == 10
        assert len((await harness.next_change())[2] or ()) == 10
        database.run("UPDATE base SET body = 'third' WHERE id <= 11")
        assert (await harness.l3.refresh("items")).changed is None
        assert await harness.next_change() == ("items", 2, None)


async def test_many_keys_take_several_notices(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        database.run("INSERT INTO base SELECT i, '' FROM generate_series(101, 3100) i")
        result = await harness.l3.refresh("items")
        told: list[bytes] = []
        while len(told) < 3000:
            view, epoch, keys = await harness.next_change()
            assert (view, epoch) == ("items", 1)
            assert keys is not None
            assert len(keys) < 3000
            told += keys
        assert sorted(told) == sorted(result.changed or ())


async def test_first_population_is_plain_and_concerns_all_keys(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l3_listener, "KEEPALIVE_S", 0.05)
    database.run(
        "CREATE MATERIALIZED VIEW items AS SELECT id, body FROM base WITH NO DATA",
        "CREATE UNIQUE INDEX ON items (id)",
    )
    async with running(database, ITEMS) as harness:
        assert "is not populated" in harness.l3.state
        assert (await harness.l3.refresh("items")).changed is None
        assert await harness.next_change() == ("items", 1, None)
        await harness.until(lambda: harness.l3.state == "ready")
        assert [o.kind for o in await harness.load(b"item:1")] == [Kind.HIT]


async def test_absence_ends_with_the_refresh_that_inserts_the_row(database: Database) -> None:
    async with running(database, {**ITEMS, "negative_ttl": "1h"}) as harness:
        await harness.load(b"item:101", b"item:102")
        database.run("INSERT INTO base VALUES (101, 'new')")
        await harness.l3.refresh("items")
        await harness.next_change()
        assert not harness.l3.negative_nowait(b"item:101")
        assert harness.l3.negative_nowait(b"item:102")


async def test_refreshes_of_one_view_never_overlap(database: Database) -> None:
    async with running(database, ITEMS) as one, running(database, ITEMS) as other:
        database.run("UPDATE base SET body = 'second' WHERE id <= 50")
        results = await asyncio.gather(*(h.l3.refresh("items") for h in (one, other, one, other)))
        assert sorted(len(result.changed or ()) for result in results) == [0, 0, 0, 50]
        assert [epoch for epoch, _ in log_rows(database)] == [1]


async def test_failing_refresh_names_the_view_and_leaves_no_lock(database: Database) -> None:
    database.run("CREATE VIEW risky AS SELECT id, 1 / (id - 200) AS body FROM base")
    view = {**ITEMS, "query": "SELECT id, body FROM risky"}
    async with running(database, view) as harness:
        database.run("INSERT INTO base VALUES (200, '')")
        with pytest.raises(MappingProblem, match="view items: was not refreshed: division by zero"):
            await harness.l3.refresh("items")
        database.run("DELETE FROM base WHERE id = 200")
        await harness.l3.refresh("items")
        await harness.until_leading()
        locks = database.rows("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
        assert {pid for (pid,) in locks} == set(database.backends("refresher"))
        assert harness.l3.statistics().refresh_failures == 1


# Who missed what


async def test_change_missed_by_a_dropped_listener_is_read_from_the_log(
    database: Database,
) -> None:
    async with running(database, ITEMS) as harness:
        write_change(database, epoch=1, keys="{item:1,item:2}")
        write_change(database, epoch=2, keys="{item:2,item:3}")
        assert database.kill("link") == 1
        view, epoch, keys = await harness.next_change()
        assert (view, epoch, sorted(keys or ())) == ("items", 2, [b"item:1", b"item:2", b"item:3"])
        assert harness.l3.current_epoch("items") == 2


async def test_trimmed_log_means_that_all_keys_may_have_changed(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        write_change(database, epoch=1, keys="{item:1}")
        write_change(database, epoch=2, keys="{item:2}")
        database.run("DELETE FROM terrace.refresh_log WHERE epoch = 1")
        assert database.kill("link") == 1
        assert await harness.next_change() == ("items", 2, None)


async def test_notice_that_skips_an_epoch_makes_the_log_be_read(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        write_change(database, epoch=1, keys="{item:1}")
        write_change(database, epoch=2, keys="{item:2}")
        database.run("NOTIFY terrace, 'flush items 2'")
        view, epoch, keys = await harness.next_change()
        assert (view, epoch, sorted(keys or ())) == ("items", 2, [b"item:1", b"item:2"])


async def test_changes_are_told_once_and_foreign_notices_ignored(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        await harness.l3.refresh("items")
        assert await harness.next_change() == ("items", 1, [b"item:1"])
        for payload in ("hello", "flush items 1", "flush other 9", "key unmapped:1", "key item:7"):
            database.run(f"NOTIFY terrace, '{payload}'")
        assert await harness.next_change() == ("items", 1, [b"item:7"])
        assert harness.changes.empty()


async def test_epochs_go_on_after_a_restart(database: Database) -> None:
    for body, epoch in (("second", 1), ("third", 2)):
        async with running(database, ITEMS) as harness:
            assert harness.l3.current_epoch("items") == epoch - 1
            database.run(f"UPDATE base SET body = '{body}' WHERE id = 1")
            assert (await harness.l3.refresh("items")).epoch == epoch


def write_change(database: Database, *, epoch: int, keys: str) -> None:
    """As a refresh does, but without its NOTIFY."""
    database.run(
        f"INSERT INTO terrace.refresh_log (view, epoch, keys) VALUES ('items', {epoch}, '{keys}')",
        f"UPDATE terrace.views SET epoch = {epoch} WHERE view = 'items'",
    )


# The one refresher


async def test_one_of_two_leads_and_the_other_takes_over(database: Database) -> None:
    views, redis = {**ITEMS, "refresh": "100ms"}, Redis()
    async with (
        running(database, views, redis=redis) as one,
        running(database, views, redis=redis) as other,
    ):
        both = [one, other]
        await one.until(lambda: any(h.l3.statistics().is_leader for h in both))
        leader, follower = sorted(both, key=lambda h: not h.l3.statistics().is_leader)
        assert not follower.l3.statistics().is_leader
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        assert await leader.next_published() == ("items", 1, [b"item:1"])
        for harness in both:
            assert await harness.next_change() == ("items", 1, [b"item:1"])
        started_at = time.monotonic()
        await leader.l3.close()
        await follower.until_leading()
        assert time.monotonic() - started_at < 5.0
        database.run("UPDATE base SET body = 'third' WHERE id = 2")
        assert await follower.next_published() == ("items", 2, [b"item:2"])


async def test_leader_whose_connection_is_killed_leads_no_longer(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        await harness.until_leading()
        (pid,) = database.backends("refresher")
        database.kill("refresher")
        await harness.until(lambda: database.backends("refresher") not in ([], [pid]))
        await harness.until_leading()


async def test_refresh_that_redis_did_not_hear_of_is_published_later(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        harness.redis.is_down = True
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        result = await harness.l3.refresh("items")
        assert (result.epoch, result.published) == (1, False)
        assert harness.told_epoch() == 0
        harness.redis.is_down = False
        assert await harness.next_published() == ("items", 1, [b"item:1"])
        await harness.until(lambda: harness.told_epoch() == 1)


async def test_no_scheduled_refresh_before_the_last_one_is_published(database: Database) -> None:
    async with running(database, {**ITEMS, "refresh": "50ms"}) as harness:
        await harness.until(lambda: harness.l3.statistics().refreshes >= 1)
        harness.redis.is_down = True
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        await harness.until(lambda: len(log_rows(database)) == 1)
        database.run("UPDATE base SET body = 'third' WHERE id = 2")
        # Resigned: nobody can tell Redis, so the view stays as Redis knows it.
        await harness.until(lambda: not harness.l3.statistics().is_leader)
        harness.redis.is_down = False
        assert await harness.next_published() == ("items", 1, [b"item:1"])
        assert await harness.next_published() == ("items", 2, [b"item:2"])


async def test_what_a_dead_proxy_left_is_published_by_the_next_leader(database: Database) -> None:
    async with running(database, ITEMS) as doomed:
        doomed.redis.is_down = True
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        await doomed.l3.refresh("items")
    async with running(database, ITEMS) as harness:
        assert await harness.next_published() == ("items", 1, [b"item:1"])


async def test_users_key_notice_reaches_all_and_redis_once(database: Database) -> None:
    redis = Redis()
    async with (
        running(database, ITEMS, redis=redis) as one,
        running(database, ITEMS, redis=redis) as other,
    ):
        await one.until(lambda: any(h.l3.statistics().is_leader for h in (one, other)))
        database.run("NOTIFY terrace, 'key item:7'")
        for harness in (one, other):
            assert await harness.next_change() == ("items", 0, [b"item:7"])
        leader = one if one.l3.statistics().is_leader else other
        assert await leader.next_published() == ("items", 0, [b"item:7"])
        assert (one if leader is other else other).published.empty()


async def test_old_rows_are_trimmed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresher, "TRIM_INTERVAL_S", 0.0)
    monkeypatch.setattr(refresh_log, "TRIM_ROWS", 2)
    async with running(database, ITEMS) as harness:
        database.run(
            "INSERT INTO terrace.refresh_log SELECT 'items', i, '{}', now() - interval '2h'"
            " FROM generate_series(1, 6) i",
            "INSERT INTO terrace.refresh_log VALUES ('items', 7, '{}', now())",
        )
        await harness.until(lambda: [row[0] for row in log_rows(database)] == [7])


async def test_refresh_while_postgres_is_down_says_so() -> None:
    harness = Harness("host=127.0.0.1 port=1", [ITEMS])
    await harness.l3.start()
    await harness.until(lambda: harness.l3.state.startswith("down"))
    with pytest.raises(TierUnavailable, match="down: "):
        await harness.l3.refresh("items")
    await harness.l3.close()
