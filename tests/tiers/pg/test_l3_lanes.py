"""One view that is locked, slow or broken costs the loads of the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.manual_clock import Clock
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.base import Kind
from tiers.errors import TierUnavailable
from tiers.guard.admission import Admission
from tiers.guard.breaker import State
from tiers.pg import rows as l3_rows
from tiers.pg.connection import Connection
from tiers.pg.lane import Lane
from tiers.tasks import TaskSet

__all__ = ["database", "postgres"]

DEADLINE_S = 0.6  # for one read on a busy machine
FOR_S = 1.5
TRIES = 4  # a busy machine may miss a deadline by itself; what is tested would show in each
QUERY = "SELECT id FROM generate_series(1, 100) id"


def view(name: str) -> dict[str, Any]:
    return {"keys": f"{name}:{{id}}", "view": name, "query": QUERY, "negative_ttl": "0s"}


async def until_stopped(work: Callable[[], Awaitable[Any]], stop: asyncio.Event) -> list[Any]:
    found = []
    while not stop.is_set():
        found.append(await work())
        await asyncio.sleep(0.001)
    return found


async def reads_beside(
    harness: Harness, trouble: list[Callable[[], Awaitable[Any]]], name: str
) -> list[Any]:
    """The outcomes of reading a view while several tasks do other things."""
    stop, tasks = asyncio.Event(), TaskSet("test")
    others = [tasks.start("trouble", until_stopped(work, stop)) for work in trouble * 4]
    reads = [
        tasks.start("read", until_stopped(lambda: harness.load(f"{name}:1".encode()), stop))
        for _ in range(2)
    ]
    await asyncio.sleep(FOR_S)
    stop.set()
    await asyncio.gather(*others)
    return [outcome for each in await asyncio.gather(*reads) for (outcome,) in each]


async def answers_again(harness: Harness, key: bytes) -> None:
    async with asyncio.timeout(20):
        while harness.l3.breaker.state is not State.CLOSED:
            await harness.load(key)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("pool_max", [2, 4])
async def test_a_locked_view_leaves_the_others_served(database: Database, pool_max: int) -> None:
    options: dict[str, Any] = {"deadline": DEADLINE_S, "pool_max": pool_max}
    async with running(database, view("locked"), view("free"), **options) as harness:
        await harness.load(b"free:1")
        database.run("BEGIN", "REFRESH MATERIALIZED VIEW locked")

        async def scan() -> None:
            with contextlib.suppress(TierUnavailable):
                await harness.l3.scan_page(0, 0, 0, 10)

        trouble = [lambda: harness.load(b"locked:1"), scan]
        for _ in range(TRIES):
            outcomes = await reads_beside(harness, trouble, "free")
            if all(outcome.kind is Kind.HIT for outcome in outcomes):
                break
            await answers_again(harness, b"free:1")
        assert {outcome.kind for outcome in outcomes} == {Kind.HIT}
        assert len(outcomes) > 4 * FOR_S / DEADLINE_S, "they waited behind the locked one"
        (locked,) = await harness.load(b"locked:1")
        assert locked.reason == f"view locked: no answer within {DEADLINE_S} s"
        assert {status.view for status in await harness.l3.views()} == {"locked", "free"}
        assert (await harness.l3.size()).used_bytes > 0
        assert harness.l3.breaker.state is State.CLOSED
        assert harness.l3.lanes()["locked"].breaker.state is not State.CLOSED
        database.run("ROLLBACK")
        began_s = time.monotonic()
        async with asyncio.timeout(20):
            while (await harness.load(b"locked:1"))[0].kind is not Kind.HIT:
                pass
        assert time.monotonic() - began_s < 2.0
        assert harness.l3.lanes()["locked"].breaker.state is State.CLOSED
        assert await lock_timeouts(harness) == {"0"}  # that of the tries is gone


async def lock_timeouts(harness: Harness) -> set[str]:
    """Of all sessions that the loads of one view may have at once."""

    async def ask(connection: Connection) -> str:
        await connection.execute("SELECT pg_sleep(0.05)")
        row = await (await connection.execute("SHOW lock_timeout")).fetchone()
        assert row is not None
        return str(row[0])

    pool = harness.l3._pool
    lanes = [pool.lane(f"view {name}") for name in ("locked", "free")] * 2
    return set(await asyncio.gather(*(pool.run(ask, lane) for lane in lanes)))


FAULTS = {
    "without rows yet": "REFRESH MATERIALIZED VIEW bad WITH NO DATA",  # 55000
    "dropped": "DROP MATERIALIZED VIEW bad",  # 42P01
    "made of what fails": """
        CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$;
        ALTER MATERIALIZED VIEW bad RENAME TO former;
        CREATE VIEW bad AS SELECT fail() AS id""",  # as if the disk were full
}


@pytest.mark.parametrize("statements", FAULTS.values(), ids=FAULTS)
async def test_what_the_server_says_of_a_statement_is_no_dead_server(
    database: Database, statements: str
) -> None:
    async with running(database, view("bad"), view("good"), deadline=1.0) as harness:
        await harness.load(b"bad:1")
        database.run(statements)
        outcomes = await reads_beside(harness, [lambda: harness.load(b"bad:1")], "good")
        assert {outcome.kind for outcome in outcomes} == {Kind.HIT}
        (bad,) = await harness.load(b"bad:1")
        assert bad.kind is Kind.UNAVAILABLE
        assert bad.reason.startswith("view bad: ")
        assert harness.l3.breaker.opened == 0


async def test_many_views_that_do_not_answer_are_tried_by_few_connections(
    database: Database,
) -> None:
    names = [f"locked{i}" for i in range(5)]
    options: dict[str, Any] = {"deadline": DEADLINE_S, "pool_max": 4}
    async with running(database, *map(view, names), view("free"), **options) as harness:
        database.run("BEGIN", *(f"REFRESH MATERIALIZED VIEW {name}" for name in names[1:]))
        with psycopg.connect(database.dsn) as other:
            other.execute("REFRESH MATERIALIZED VIEW locked0")
            stop, tasks = asyncio.Event(), TaskSet("test")
            trouble = [partial(harness.load, f"{name}:1".encode()) for name in names[1:]]
            begun = [tasks.start("trouble", until_stopped(work, stop)) for work in trouble]
            lanes = harness.l3.lanes

            async def all_fail() -> bool:
                await harness.load(b"locked0:1")
                return all(lanes()[name].breaker.state is not State.CLOSED for name in names)

            async with asyncio.timeout(10):
                while not await all_fail():
                    pass
            outcomes = await reads_beside(harness, [*trouble], "free")
            assert {outcome.kind for outcome in outcomes} == {Kind.HIT}
            other.rollback()
        async with asyncio.timeout(20):  # it is found to be free again beside those that are not
            while (await harness.load(b"locked0:1"))[0].kind is not Kind.HIT:
                pass
        stop.set()
        await asyncio.gather(*begun)
        assert harness.l3.lanes()["locked1"].breaker.state is not State.CLOSED
        database.run("ROLLBACK")


async def test_warming_does_not_wait_for_a_locked_view_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l3_rows, "STREAM_LOCK_TIMEOUT_MS", 50)
    async with running(database, view("locked")) as harness:
        database.run("BEGIN", "REFRESH MATERIALIZED VIEW locked")
        mapping = harness.l3.mappings.by_view("locked")
        assert mapping is not None
        with pytest.raises(TierUnavailable, match="lock timeout"):
            async for _ in harness.l3.stream(mapping):
                pass
        database.run("ROLLBACK")


async def test_a_locked_table_behind_a_query_does_not_hold_up_the_start(
    database: Database,
) -> None:
    database.run("CREATE TABLE base (id int)", "INSERT INTO base VALUES (1)")
    views = [{**view(f"v{n}"), "query": "SELECT id FROM base"} for n in range(8)]
    async with running(database, *views):
        pass
    database.run("BEGIN", "LOCK base")
    began_s = time.monotonic()
    async with running(database, *views) as harness:
        assert [o.kind for o in await harness.load(b"v7:1")] == [Kind.HIT]
    assert time.monotonic() - began_s < 3.0  # not half a second for each
    database.run("ROLLBACK")


# A lane in the queue


def lane(gate: Admission, share: int, name: str = "view v") -> Lane:
    return Lane(name, gate, share, 1.0, Clock())


def test_a_lane_keeps_to_its_share_and_leaves_one_to_the_others() -> None:
    clock = Clock()
    gate = Admission(4, clock)
    first, second, third = (lane(gate, 2) for _ in range(3))
    again: list[str] = []
    assert first.begin(lambda: None)
    assert first.begin(lambda: None)
    assert not first.begin(lambda: again.append("first"))
    assert second.begin(lambda: None)
    assert not second.begin(lambda: again.append("second"))  # the last one is for others
    assert third.begin(lambda: None)
    assert gate.in_flight == 4
    first.end()
    assert again == ["first", "second"]
    assert gate.in_flight == 3


def test_an_only_lane_has_all() -> None:
    gate = Admission(2, Clock())
    only = lane(gate, 2)
    assert [only.begin(lambda: None) for _ in range(3)] == [True, True, False]
    only.end()
    only.end()
    assert gate.in_flight == only.admission.in_flight == 0
