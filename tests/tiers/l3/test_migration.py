"""A view whose query changed: built beside the old one, and swapped under its readers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.base import Kind
from tiers.l3 import migrate as l3_migrate

__all__ = ["database", "postgres"]

OLD = "SELECT id, 'old' AS word, id * 2 AS double FROM generate_series(1, 200) id"
NEW = "SELECT id, 'new' AS word, id * 3 AS triple FROM generate_series(1, 200) id"


def view(query: str, reply: str = "hash", **more: Any) -> dict[str, Any]:
    return {"keys": "n:{id}", "view": "numbers", "query": query, "reply": reply, **more}


async def word(harness: Harness, key: bytes = b"n:7") -> str:
    (outcome,) = await harness.load(key)
    assert outcome.kind is Kind.HIT, outcome
    if isinstance(outcome.value, dict):
        return outcome.value[b"word"].decode()
    assert outcome.value is not None
    return str(json.loads(outcome.value)["word"])


async def migrated(harness: Harness) -> None:
    async with asyncio.timeout(10):
        while await word(harness) != "new":  # noqa: ASYNC110 (a state, not an event)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("reply", ["json", "hash", "string:word"])
async def test_readers_of_every_proxy_see_no_gap(database: Database, reply: str) -> None:
    async with running(database, view(OLD, reply)) as elder:
        await elder.until_leading()
        mapping = elder.l3.mappings.by_view("numbers")
        assert mapping is not None
        keys = [b"n:%d" % i for i in range(1, 50)]
        failures, stop = [], asyncio.Event()

        async def read() -> None:
            while not stop.is_set():
                outcomes = await elder.l3.load(mapping, keys)
                failures.extend(o for o in outcomes.values() if o.kind is not Kind.HIT)

        readers = [asyncio.get_running_loop().create_task(read()) for _ in range(3)]
        async with running(database, view(NEW, reply)) as younger:
            if reply == "string:word":
                await younger.until(
                    lambda: database.rows("SELECT query FROM terrace.views") == [(NEW,)]
                )
            else:
                await migrated(younger)
                assert await word(elder) == "new"
            assert await elder.next_change() == ("numbers", 1, None)
            (
                view_name,
                _,
                keys_told,
            ) = await elder.next_published()  # told again at the next look
            assert (view_name, keys_told) == ("numbers", None)
            stop.set()
            await asyncio.gather(*readers)
            assert failures == []
            assert younger.l3.state == elder.l3.state == "ready"
            assert database.rows("SELECT count(*) FROM pg_matviews") == [(1,)]


async def test_indexes_and_grants_of_others_are_kept(database: Database) -> None:
    async with running(database, view(OLD)):
        database.run(
            "DROP ROLE IF EXISTS reader",
            "CREATE ROLE reader",
            "GRANT SELECT ON numbers TO reader, PUBLIC",
            'CREATE INDEX "by USING word" ON numbers USING hash (word) WHERE id > 3',
            "CREATE UNIQUE INDEX by_double ON numbers (double)",
        )
        indexes = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'numbers' ORDER BY 1"
        )
        before = dict(database.rows(indexes))
        async with running(database, view(NEW)) as harness:
            await migrated(harness)
    del before["by_double"]  # that column is gone
    assert dict(database.rows(indexes)) == before
    grants = "SELECT has_table_privilege('reader', 'numbers', 'SELECT'), relacl::text ~ '=r/'"
    assert database.rows(grants + " FROM pg_class WHERE relname = 'numbers'") == [(True, True)]
    database.run("DROP OWNED BY reader", "DROP ROLE reader")


@pytest.mark.parametrize(
    ("query", "more", "says"),
    [
        ("SELECT id FROM nowhere", {}, 'relation "nowhere" does not exist'),
        ("SELECT 1 AS other", {}, '"id" does not exist'),
        ("SELECT 1 AS id FROM generate_series(1, 2)", {}, "could not create unique index"),
    ],
)
async def test_a_query_that_fails_leaves_the_old_view_in_force(
    database: Database, query: str, more: dict[str, Any], says: str, caplog: Any
) -> None:
    async with running(database, view(OLD)):
        pass
    async with running(database, view(query, **more)) as harness:
        await harness.until(lambda: says in caplog.text)
        assert await word(harness) == "old"
        assert database.rows("SELECT query FROM terrace.views") == [(OLD,)]


async def test_what_depends_on_the_view_is_not_dropped(database: Database, caplog: Any) -> None:
    async with running(database, view(OLD)):
        database.run("CREATE VIEW dependent AS SELECT * FROM numbers")
    async with running(database, view(NEW)) as harness:
        await harness.until(lambda: "view dependent depends on" in caplog.text)
        assert "drop what depends on the view" in caplog.text
        assert await word(harness) == "old"


async def test_a_long_reader_is_waited_for_without_holding_up_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(l3_migrate, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(l3_migrate, "LOCK_PAUSE_S", 0.01)
    async with running(database, view(OLD)):
        pass
    database.run("BEGIN", "SELECT FROM numbers")
    async with running(database, view(NEW)) as harness:
        for _ in range(20):
            assert await word(harness) == "old"
        database.run("COMMIT")
        await migrated(harness)


async def test_a_view_that_terrace_did_not_create_is_left_alone(database: Database) -> None:
    database.run(
        f"CREATE MATERIALIZED VIEW numbers AS {OLD}", "CREATE UNIQUE INDEX ON numbers (id)"
    )
    async with running(database, view(NEW)) as harness:
        assert await word(harness) == "old"
        assert not harness.l3._binder.outdated
