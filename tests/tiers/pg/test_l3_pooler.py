"""Through a connection pooler: nothing of Terrace stays in sessions that others get."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.tiers.l3_harness import Harness, running
from tests.tiers.pgbouncer_fixture import pooled
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.base import Kind
from tiers.errors import TierUnavailable
from tiers.store.entry import Capture, Entry
from tiers.tasks import TaskSet

__all__ = ["database", "postgres"]

PEOPLE = {"keys": "person:{id}", "view": "people", "query": "SELECT 1 AS id, 'Ada' AS name"}
N_WRITES = 40
LINEAGE = b"1"

_LEFT_BEHIND = """
    SELECT name || ' = ' || setting FROM pg_settings
    WHERE source = 'session' AND name NOT LIKE 'transaction%'  -- which end with it
    UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements
    UNION ALL SELECT 'listening on ' || c FROM pg_listening_channels() AS c
    UNION ALL SELECT 'advisory lock' FROM pg_locks
              WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relpersistence = 't'"""


def session(version: int) -> Capture:
    return Capture(Entry(b"session:1", version, "string", b"x", 0), LINEAGE)


async def left_behind(dsn: str, sessions: int) -> set[str]:
    """What is in the sessions that a client who asks for nothing is given."""
    found: set[str] = set()
    connections = [
        await psycopg.AsyncConnection.connect(dsn, prepare_threshold=None) for _ in range(sessions)
    ]  # each in a transaction, so that each has a session of its own
    for connection in connections:
        found |= {row[0] for row in await (await connection.execute(_LEFT_BEHIND)).fetchall()}
    for connection in connections:
        await connection.close()
    return found


@pytest.mark.parametrize("pool_size", [1, 2])
async def test_writes_of_others_through_the_same_pool_succeed(
    database: Database, pool_size: int
) -> None:
    database.run("CREATE TABLE orders (n int)")
    with pooled(database, default_pool_size=str(pool_size)) as pooler:
        before = await left_behind(pooler.dsn, pool_size)
        store = [{"keys": "session:*"}]
        async with running(pooler.dsn, PEOPLE, direct_dsn=database.dsn, store=store) as harness:
            stop = False

            async def read() -> None:
                while not stop:
                    (outcome,) = await harness.load(b"person:1")
                    assert outcome.kind is Kind.HIT, outcome

            tasks = TaskSet("test")
            readers = [tasks.start("read", read()) for _ in range(4)]
            assert harness.l3.store_table is not None
            await harness.l3.store_table.adopt(LINEAGE)
            for n in range(N_WRITES):
                async with await psycopg.AsyncConnection.connect(pooler.dsn) as other:
                    await other.execute("INSERT INTO orders VALUES (%s)", (n,))
                await harness.l3.scan_page(0, 0, 0, 10)
                await harness.l3.store_table.write([session(n + 1)])
            await harness.l3.size()
            await harness.l3.views()
            stop = True
            await asyncio.gather(*readers)
            assert await left_behind(pooler.dsn, pool_size) == before
            assert (await harness.l3.store_table.read([b"session:1"]))[b"session:1"].value == b"x"
        assert database.rows("SELECT count(*) FROM orders") == [(N_WRITES,)]
        assert await left_behind(pooler.dsn, pool_size) == before


async def test_texts_are_the_same_whatever_the_roles_settings_are(database: Database) -> None:
    name = database.dsn.rpartition("=")[2]
    view = {
        "keys": "t:{id}",
        "view": "times",
        "query": "SELECT 1 AS id, '2026-05-01 12:00+02'::timestamptz AS at, interval '90 min' AS i,"
        " 'a'::bytea AS b, 0.1::float8 + 0.2 AS f",
        "reply": "hash",
    }
    database.run(
        f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'",
        f"ALTER DATABASE {name} SET datestyle = 'German'",
        f"ALTER DATABASE {name} SET bytea_output = 'escape'",
        f"ALTER DATABASE {name} SET extra_float_digits = 0",
    )
    async with running(database, view) as harness:
        (direct,) = await harness.load(b"t:1")
    with pooled(database) as pooler:
        async with running(pooler.dsn, view, direct_dsn=database.dsn) as harness:
            (through,) = await harness.load(b"t:1")
    assert direct.value == through.value
    assert direct.value == {
        b"id": b"1",
        b"at": b"2026-05-01 10:00:00+00",
        b"i": b"PT1H30M",
        b"b": b"\\x61",
        b"f": b"0.30000000000000004",
    }


async def told(dsn: str, **options: Any) -> str:
    """What `terrace check` says, and `terrace serve` as well."""
    harness = Harness(dsn, [PEOPLE], **options)
    try:
        (problem,) = (await harness.l3.check()).problems
        await harness.l3.start()
        await harness.until(lambda: harness.l3.state.startswith("down: "))
        assert harness.l3.state.removeprefix("down: ") in problem
        return problem
    finally:
        await harness.l3.close()


@pytest.mark.parametrize("settings", [{}, {"default_pool_size": "5", "server_round_robin": "1"}])
async def test_a_shared_session_is_refused_and_the_option_named(
    database: Database, settings: dict[str, str]
) -> None:
    with pooled(database, **settings) as pooler:
        others = [psycopg.connect(pooler.dsn) for _ in range(2)]  # so that it has several sessions
        for other in others:
            other.execute("SELECT 1")
        for other in others:
            other.close()
        before = await left_behind(pooler.dsn, 2)
        problem = await told(pooler.dsn)
        assert problem.startswith("l3.dsn: a connection pooler in transaction mode gives the")
        assert "set l3.direct_dsn (TERRACE_L3__DIRECT_DSN)" in problem
        assert "\n" not in problem
        problem = await told(database.dsn, direct_dsn=pooler.dsn)
        assert problem.startswith("l3.direct_dsn: a connection pooler in transaction mode")
        assert await left_behind(pooler.dsn, 2) == before


async def test_a_pool_in_session_mode_needs_no_other_way(database: Database) -> None:
    database.run("CREATE TABLE base (id int PRIMARY KEY)", "INSERT INTO base VALUES (1)")
    view = {"keys": "b:{id}", "view": "b", "query": "SELECT id FROM base"}
    with pooled(database, pool_mode="session", default_pool_size="20") as pooler:
        async with running(pooler.dsn, view) as harness:
            assert [o.kind for o in await harness.load(b"b:1", b"b:2")] == [Kind.HIT, Kind.NEGATIVE]
            database.run("INSERT INTO base VALUES (2)")
            await harness.l3.refresh("b")
            assert await harness.next_change() == ("b", 1, [b"b:2"])
            assert [o.kind for o in await harness.load(b"b:2")] == [Kind.HIT]
            assert (await harness.l3.check()).problems == []
        assert await left_behind(pooler.dsn, 3) == set()


async def test_a_pool_in_session_mode_that_is_too_small_says_so_in_time(database: Database) -> None:
    with pooled(database, pool_mode="session", default_pool_size="1") as pooler:
        problem = await told(pooler.dsn, connect_timeout="300ms")
    assert "has no second connection (no answer within 0.3 s); set l3.direct_dsn" in problem


async def test_statement_mode_is_refused_in_one_line(database: Database) -> None:
    with pooled(database, pool_mode="statement") as pooler:
        problem = await told(pooler.dsn, direct_dsn=database.dsn)
    assert problem == (
        "l3.dsn: transaction blocks not allowed in statement pooling mode; set the pooler's "
        "pool_mode to transaction for this database"
    )


async def test_a_refused_startup_parameter_says_what_to_take_out(database: Database) -> None:
    with pooled(database) as pooler:
        dsn = f"{pooler.dsn} options='-c statement_timeout=1000'"
        problem = await told(dsn, direct_dsn=database.dsn)
    assert "unsupported startup parameter: options; a connection pooler refuses" in problem


async def test_both_ways_lead_to_one_database(database: Database, postgres: Any) -> None:
    other = postgres.create_database()
    try:
        with pooled(database) as pooler:
            problem = await told(pooler.dsn, direct_dsn=other.dsn)
    finally:
        other.close()
    assert problem.startswith("l3.dsn and l3.direct_dsn lead to different servers or databases")


async def test_another_encoding_is_refused_with_the_mend(database: Database) -> None:
    name = database.dsn.rpartition("=")[2]
    database.run(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
    async with running(database, PEOPLE) as harness:
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
    with pooled(database) as pooler:
        problem = await told(pooler.dsn, direct_dsn=database.dsn)
    assert "the connection pooler delivers texts as LATIN1; run: ALTER ROLE" in problem


async def test_a_slow_statement_ends_at_the_deadline_and_leaves_nothing(
    database: Database,
) -> None:
    with pooled(database, default_pool_size="2") as pooler:
        async with running(pooler.dsn, PEOPLE, direct_dsn=database.dsn, deadline=0.2) as harness:
            await harness.load(b"person:1")
            database.run("BEGIN", "REFRESH MATERIALIZED VIEW people")
            (outcome,) = await harness.load(b"person:1")
            with pytest.raises(TierUnavailable, match=r"view people: no answer within 0\.2 s"):
                await harness.l3.scan_page(0, 0, 0, 10)
            database.run("ROLLBACK")
            assert outcome.reason == "view people: no answer within 0.2 s"
            async with asyncio.timeout(20):
                while (await harness.load(b"person:1"))[0].kind is not Kind.HIT:
                    pass  # two statements took too long: it is tried again soon
            assert await left_behind(pooler.dsn, 2) == set()


async def test_an_entry_whose_commit_fails_is_not_acknowledged(database: Database) -> None:
    """What is sent before one Sync is committed there, after the statement has succeeded."""
    with pooled(database) as pooler:
        store = [{"keys": "session:*"}]
        async with running(pooler.dsn, direct_dsn=database.dsn, store=store) as harness:
            table = harness.l3.store_table
            assert table is not None
            database.run(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'not now'; END $$",
                "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON terrace.entries"
                " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
            )
            await table.adopt(LINEAGE)
            with pytest.raises(TierUnavailable, match="not now"):
                await table.write([session(1)])
            assert await table.read([b"session:1"]) == {}
            database.run("DROP TRIGGER late ON terrace.entries")
            assert (await table.write([session(1)])).versions == {b"session:1": 1}
            assert (await table.read([b"session:1"]))[b"session:1"] == session(1).entry
