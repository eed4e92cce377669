"""A relation is its name and what stands behind it: dropped, renamed in, recreated, mended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.base import Kind
from tiers.l3 import listener as l3_listener
from tiers.refresh import refresher

__all__ = ["database", "postgres"]

ITEMS: dict[str, Any] = {"keys": "item:{id}", "view": "items"}
FAST = {"watch": "20ms"}
OTHER = "SELECT i AS id, 'other ' || i AS body, i * 2 AS extra FROM generate_series(1, 50) i"

SWAP = [  # as dbt does it
    f"CREATE MATERIALIZED VIEW items__tmp AS {OTHER}",
    "CREATE UNIQUE INDEX ON items__tmp (id)",
    "BEGIN",
    "ALTER MATERIALIZED VIEW items RENAME TO items__backup",
    "ALTER MATERIALIZED VIEW items__tmp RENAME TO items",
    "COMMIT",
    "DROP MATERIALIZED VIEW items__backup CASCADE",
]
RECREATE = [
    "DROP MATERIALIZED VIEW items",
    f"CREATE MATERIALIZED VIEW items AS {OTHER}",
    "CREATE UNIQUE INDEX ON items (id)",
]
AT_ONCE = ["BEGIN", *RECREATE, "COMMIT"]
WAYS = {"swap": SWAP, "recreate": RECREATE, "at once": AT_ONCE}


@pytest.fixture(autouse=True)
def _base(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(l3_listener, "KEEPALIVE_S", 0.1)
    monkeypatch.setattr(refresher, "HEARTBEAT_S", 0.05)
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
        "CREATE MATERIALIZED VIEW items AS SELECT * FROM base",
        "CREATE UNIQUE INDEX ON items (id)",
    )


async def settled(harness: Harness, database: Database, *, watched: bool = True) -> None:
    await harness.until_leading()
    known = "SELECT count(*) FROM terrace.relations r"
    if watched:
        known += " JOIN terrace.refreshes f USING (view)"
    await harness.until(lambda: database.rows(known) == [(1,)])


async def told_of_all_keys(harness: Harness, epoch: int = 1) -> None:
    assert await harness.next_published() == ("items", epoch, None)
    assert await harness.next_change() == ("items", epoch, None)


async def value(harness: Harness, key: bytes = b"item:7") -> Any:
    (outcome,) = await harness.load(key)
    if outcome.kind is not Kind.HIT:
        return outcome.reason or outcome.kind
    return outcome.value if isinstance(outcome.value, dict) else json.loads(outcome.value or b"")


OTHER_ROW = {"id": 7, "body": "other 7", "extra": 14}
OTHER_HASH = {b"id": b"7", b"body": b"other 7", b"extra": b"14"}


@pytest.mark.parametrize("reply", ["json", "hash"])
@pytest.mark.parametrize("way", WAYS)
async def test_another_relation_under_the_name(database: Database, way: str, reply: str) -> None:
    """The keys leave, the new columns are served, and refreshes go on, all without a restart."""
    async with running(database, {**ITEMS, "reply": reply}, **FAST) as harness:
        await settled(harness, database)
        assert "first" in str(await value(harness))
        await database.change(*WAYS[way])
        expected = OTHER_HASH if reply == "hash" else OTHER_ROW
        if way != "recreate":
            assert await value(harness) == expected  # at once, not at the next look
        await told_of_all_keys(harness)
        assert await value(harness) == expected
        result = await harness.l3.refresh("items")
        assert result.changed == ()
        await harness.until(lambda: harness.l3.state == "ready")
        assert [status.replaced for status in await harness.l3.views()] == [1]
        assert harness.l3.statistics().refresh_failures == 0


@pytest.mark.parametrize("way", WAYS)
async def test_scheduled_refreshes_go_on(
    database: Database, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(database, {**ITEMS, "refresh": "30ms"}, **FAST) as harness:
        await settled(harness, database)
        await database.change(*WAYS[way])
        await told_of_all_keys(harness)
        before = harness.l3.statistics().refreshes
        await harness.until(lambda: harness.l3.statistics().refreshes > before + 2)
        await asyncio.sleep(0.2)
        while not harness.published.empty():  # rows that the server counted late may be told
            assert harness.published.get_nowait()[2] is not None
        assert harness.l3.statistics().is_leader
    assert "null value" not in caplog.text
    assert "view items is another relation now" in caplog.text


async def test_replaced_while_nobody_watches_for_refreshes(database: Database) -> None:
    """A refresh by hand looks the relation up, whatever `watch` says."""
    async with running(database, ITEMS, watch=0) as harness:
        await settled(harness, database, watched=False)
        await database.change(*SWAP)
        await harness.l3.refresh("items")
        assert (await harness.next_published())[2] is None


@pytest.mark.parametrize("way", WAYS)
async def test_replaced_while_no_terrace_ran(database: Database, way: str) -> None:
    async with running(database, ITEMS, **FAST) as harness:
        await settled(harness, database)
    database.run(*WAYS[way])
    async with running(database, ITEMS, **FAST) as harness:
        assert await harness.next_published() == ("items", 1, None)
        assert await value(harness) == OTHER_ROW
        assert (await harness.l3.refresh("items")).changed == ()


async def test_renamed_column_is_another_relation(database: Database) -> None:
    async with running(database, {**ITEMS, "reply": "hash"}, **FAST) as harness:
        await settled(harness, database)
        await database.change("ALTER MATERIALIZED VIEW items RENAME COLUMN body TO text")
        assert await value(harness) == {b"id": b"7", b"text": b"first"}
        await told_of_all_keys(harness)


async def test_other_owner(database: Database) -> None:
    """It may be refreshed no more: that is said, and ends when the owner is right again."""
    database.run("DROP ROLE IF EXISTS humble", "CREATE ROLE humble LOGIN",
                 "CREATE SCHEMA terrace AUTHORIZATION humble",
                 "ALTER MATERIALIZED VIEW items OWNER TO humble",
                 "GRANT SELECT ON base TO humble", "GRANT SELECT ON items TO humble")  # fmt: skip
    dsn = database.dsn.replace("user=terrace", "user=humble")
    async with running(dsn, {**ITEMS, "refresh": "1h"}, **FAST) as harness:
        await settled(harness, database)
        await database.change(
            "ALTER MATERIALIZED VIEW items OWNER TO terrace", "GRANT SELECT ON items TO humble"
        )
        await told_of_all_keys(harness)
        await harness.until(lambda: "may not be refreshed by humble" in harness.l3.state)
        await database.change("ALTER MATERIALIZED VIEW items OWNER TO humble")
        await told_of_all_keys(harness, 2)
        await harness.until(lambda: harness.l3.state == "ready")
    database.run("DROP OWNED BY humble CASCADE", "DROP ROLE humble")


MISFITS: list[tuple[Sequence[str], str, Sequence[str]]] = [
    (["CREATE MATERIALIZED VIEW items AS SELECT i AS ident FROM generate_series(1, 9) i"],
     'has no column "id"', ["ALTER MATERIALIZED VIEW items RENAME COLUMN ident TO id",
                            "CREATE UNIQUE INDEX ON items (id)"]),
    ([f"CREATE MATERIALIZED VIEW items AS {OTHER}"], "has no unique index",
     ["CREATE UNIQUE INDEX ON items (id)"]),
    ([f"CREATE MATERIALIZED VIEW items AS {OTHER} WITH NO DATA",
      "CREATE UNIQUE INDEX ON items (id)"], "is not populated",
     ["REFRESH MATERIALIZED VIEW items"]),
    ([f"CREATE TABLE items AS {OTHER}"], "is not a materialized view",
     ["DROP TABLE items", f"CREATE MATERIALIZED VIEW items AS {OTHER}",
      "CREATE UNIQUE INDEX ON items (id)"]),
]  # fmt: skip


@pytest.mark.parametrize(("create", "says", "mend"), MISFITS)
async def test_new_relation_that_does_not_fit(
    database: Database, create: Sequence[str], says: str, mend: Sequence[str]
) -> None:
    """Its keys get an error that says why, and come back by themselves."""
    async with running(database, ITEMS, **FAST) as harness:
        await settled(harness, database)
        assert harness.l3.served() == {"items": True}
        await database.change("BEGIN", "DROP MATERIALIZED VIEW items", *create, "COMMIT")
        assert await harness.next_published() == ("items", 1, None)  # no old row stays
        await harness.until(lambda: says in harness.l3.state)
        assert says in await value(harness)
        assert harness.l3.served() == {"items": False}
        await database.change(*mend)
        await harness.until(lambda: harness.l3.state == "ready")
        assert harness.l3.served() == {"items": True}
        await harness.l3.refresh("items")
        assert (await harness.load(b"item:7"))[0].kind is Kind.HIT


async def test_gap_between_drop_and_create(database: Database) -> None:
    async with running(database, ITEMS, **FAST) as harness:
        await settled(harness, database)
        await database.change("DROP MATERIALIZED VIEW items")
        assert "does not exist" in await value(harness)
        await harness.until(lambda: "does not exist" in harness.l3.state)
        await database.change(*RECREATE[1:])
        await told_of_all_keys(harness)
        await harness.until(lambda: harness.l3.state == "ready")
        assert await value(harness) == OTHER_ROW


async def test_relation_that_comes_earlier_in_the_search_path(database: Database) -> None:
    dsn = database.dsn + " options='-c search_path=early,public'"
    async with running(dsn, ITEMS, **FAST) as harness:
        await settled(harness, database)
        assert "first" in str(await value(harness))  # prepared on the connection
        await database.change(
            "CREATE SCHEMA early",
            f"CREATE MATERIALIZED VIEW early.items AS {OTHER}",
            "CREATE UNIQUE INDEX ON early.items (id)",
        )
        await told_of_all_keys(harness)
        await harness.until(lambda: harness.l3.state == "ready")
        assert await value(harness) == OTHER_ROW


async def test_absence_of_the_old_relation_is_forgotten(database: Database) -> None:
    async with running(database, {**ITEMS, "negative_ttl": "60s"}, **FAST) as harness:
        await settled(harness, database)
        assert await value(harness, b"item:abc") is Kind.NEGATIVE
        await database.change(
            "DROP MATERIALIZED VIEW items",
            "CREATE MATERIALIZED VIEW items AS SELECT 'abc' AS id, 1 AS body",
            "CREATE UNIQUE INDEX ON items (id)",
        )
        await told_of_all_keys(harness)
        await harness.until(lambda: harness.l3.state == "ready")
        assert not harness.l3.negative_nowait(b"item:abc")
        assert await value(harness, b"item:abc") == {"id": "abc", "body": 1}


async def test_trouble_with_one_view_does_not_end_the_term(database: Database) -> None:
    """Nor does it delay the refreshes of the others."""
    database.run("CREATE MATERIALIZED VIEW fine AS SELECT * FROM base",
                 "CREATE UNIQUE INDEX ON fine (id)")  # fmt: skip
    fine = {"keys": "fine:{id}", "view": "fine", "refresh": "30ms"}
    async with running(database, {**ITEMS, "refresh": "30ms"}, fine, **FAST) as harness:
        await harness.until_leading()
        pids = database.backends("refresher")
        for _ in range(3):
            await database.change(*RECREATE)
            before = harness.l3.statistics().refreshes
            await harness.until(lambda at=before: harness.l3.statistics().refreshes > at + 2)
        assert database.backends("refresher") == pids
