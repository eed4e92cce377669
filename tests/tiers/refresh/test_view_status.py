"""TIER.VIEWS: what the tables of the fleet say of each view, whichever proxy is asked."""

from __future__ import annotations

import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.errors import TierUnavailable
from tiers.refresh.status import ViewStatus

__all__ = ["database", "postgres"]

ITEMS = {"keys": "item:{id}", "view": "items", "query": "SELECT id, body FROM base"}


@pytest.fixture(autouse=True)
def _base(database: Database) -> None:
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
    )


async def only_view(harness: Harness) -> ViewStatus:
    (status,) = await harness.l3.views()
    return status


async def test_before_and_after_a_refresh(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        status = await only_view(harness)
        assert (status.view, status.keys, status.state) == ("items", "item:{id}", "served")
        assert (status.rows, status.epoch, status.duration_s) == (100, 0, None)
        assert (status.due_s, status.lag_s) == (None, 0)
        database.run("UPDATE base SET body = 'second' WHERE id <= 7")
        result = await harness.l3.refresh("items")
        await harness.next_change()
        status = await only_view(harness)
        assert (status.epoch, status.heard_epoch, status.changed) == (1, 1, 7)
        assert status.refreshed_s is not None
        assert status.refreshed_s < 10
        assert status.duration_s == pytest.approx(result.duration_s, abs=0.001)


async def test_refresh_that_redis_was_not_told_of_lags(database: Database) -> None:
    async with running(database, ITEMS) as harness:
        harness.redis.is_down = True
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        await harness.l3.refresh("items")
        assert (await only_view(harness)).lag_s > 0
        harness.redis.is_down = False
        await harness.next_published()
        await harness.until(lambda: harness.told_epoch() == 1)
        assert (await only_view(harness)).lag_s == 0


async def test_redis_that_was_emptied_does_not_lag(database: Database) -> None:
    """It has none of the old rows, and nothing to be told: that is said there again."""
    async with running(database, ITEMS, watch="50ms") as harness:
        await harness.until_leading()
        database.run("UPDATE base SET body = 'second' WHERE id = 1")
        await harness.l3.refresh("items")
        await harness.next_published()
        await harness.until(lambda: harness.told_epoch() == 1)
        harness.redis.told.clear()
        await harness.until(lambda: harness.told_epoch() == 1)
        assert (await only_view(harness)).lag_s == 0
        assert harness.published.empty()


async def test_redis_that_was_emptied_is_told_of_a_refresh_once(database: Database) -> None:
    """What clients write on the new row stays: its key does not leave a second time."""
    async with running(database, ITEMS, watch="2s") as harness:
        await harness.until_leading()
        for number in (1, 2):
            harness.redis.told.clear()
            database.run(f"UPDATE base SET body = 'version {number}' WHERE id = 1")
            await harness.l3.refresh("items")
            assert await harness.next_published() == ("items", number, [b"item:1"])
            assert harness.told_epoch() == number
        await harness.next_look()
        assert harness.published.empty()


async def test_every_proxy_knows_when_the_next_refresh_is_due(database: Database) -> None:
    views = {**ITEMS, "refresh": "60s"}
    async with running(database, views) as one, running(database, views) as other:
        both = (one, other)
        await one.until(lambda: any(h.l3.statistics().is_leader for h in both))
        await one.until(lambda: database.rows(
            "SELECT count(due_at) FROM terrace.refreshes") == [(1,)])  # fmt: skip
        for harness in both:
            due_s = (await only_view(harness)).due_s
            assert due_s is not None
            assert 40 < due_s <= 60


async def test_auto_goes_by_what_was_measured(database: Database) -> None:
    """Ten changed keys at each of two looks make the next refresh due within some seconds."""
    async with running(database, {**ITEMS, "refresh": "auto"}) as harness:
        for body in ("second", "third"):
            database.run(f"UPDATE base SET body = '{body}' WHERE id <= 10")
            await harness.l3.refresh("items")
    database.run("UPDATE terrace.views SET refreshed_at = now() - interval '1h'")
    async with running(database, {**ITEMS, "refresh": "auto"}) as harness:
        await harness.until(lambda: harness.l3.statistics().refreshes >= 1)
        await harness.until(lambda: database.rows(
            "SELECT due_at > refreshed_at FROM terrace.refreshes") == [(True,)])  # fmt: skip
        status = await only_view(harness)
        assert status.refresh == "auto"
        assert status.due_s is not None
        assert status.due_s < 30


async def test_view_with_a_problem_says_which(database: Database) -> None:
    database.run("CREATE MATERIALIZED VIEW items AS SELECT id, body FROM base")
    async with running(database, {**ITEMS, "query": ""}) as harness:
        status = await only_view(harness)
        assert "has no unique index" in status.state
        assert status.rows is None


async def test_without_postgres_it_is_an_error() -> None:
    harness = Harness("host=127.0.0.1 port=1", [ITEMS])
    await harness.l3.start()
    await harness.until(lambda: harness.l3.state.startswith("down"))
    with pytest.raises(TierUnavailable):
        await harness.l3.views()
    await harness.l3.close()
