"""L3 against a real PostgreSQL: loading, validation, scans, and a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import FeatureNotSupported

from tests.tiers.l3_harness import Harness, running
from tests.tiers.postgres_fixture import Database, Postgres, database, postgres
from tiers.base import Kind
from tiers.errors import MappingProblem, TierUnavailable
from tiers.l3 import listener as l3_listener
from tiers.l3.postgres import L3Postgres
from tiers.options import L3Options
from tiers.pg.connection import conninfo_of
from tiers.pg.rows import array_literal

__all__ = ["database", "postgres"]

QUERY = """SELECT v.id::text AS id, 'Ann ' || v.id AS name, NULLIF(v.id, 3) AS age
           FROM generate_series(1, 50) AS v(id)"""
PEOPLE = {"keys": "person:{id}", "view": "people", "query": QUERY}


@pytest.fixture
def restless() -> Iterator[Postgres]:
    """A server of one's own, for tests that stop it."""
    server = Postgres()
    yield server
    server.destroy()


async def test_a_row_becomes_json_a_hash_or_a_string(database: Database) -> None:
    views = [
        {**PEOPLE, "keys": f"{reply}:{{id}}", "view": f"people_{i}", "reply": reply}
        for i, reply in enumerate(["json", "hash", "string:name", "string:age"])
    ]
    async with running(database, *views) as harness:
        (row,) = await harness.load(b"json:1")
        assert isinstance(row.value, bytes)
        assert json.loads(row.value) == {"id": "1", "name": "Ann 1", "age": 1}
        (row,) = await harness.load(b"hash:3")
        assert row.value == {b"id": b"3", b"name": b"Ann 3"}
        assert [o.value for o in await harness.load(b"string:name:1")] == [b"Ann 1"]
        assert [o.kind for o in await harness.load(b"string:age:3", b"string:age:4")] == [
            Kind.NEGATIVE,
            Kind.HIT,
        ]


async def test_ttl_is_shortened_by_at_most_the_jitter(database: Database) -> None:
    view = {**PEOPLE, "ttl": "100s", "ttl_jitter": 0.2}
    async with running(database, view) as harness:
        outcomes = await harness.load(*(b"person:%d" % i for i in range(1, 51)))
        ttls_s = {outcome.ttl_s for outcome in outcomes if outcome.ttl_s is not None}
        assert len(ttls_s) == 50
        assert min(ttls_s) >= 80.0
        assert max(ttls_s) <= 100.0


async def test_one_query_for_all_keys_and_absence_is_remembered(database: Database) -> None:
    async with running(database, PEOPLE) as harness:
        kinds = [o.kind for o in await harness.load(b"person:1", b"person:99", b"person:2")]
        assert kinds == [Kind.HIT, Kind.NEGATIVE, Kind.HIT]
        statistics = harness.l3.statistics()
        assert (statistics.queries, statistics.rows, statistics.negatives) == (1, 2, 1)
        assert harness.l3.negative_nowait(b"person:99")
        assert not harness.l3.negative_nowait(b"person:1")
        assert (await harness.l3.get(b"person:99")).kind is Kind.NEGATIVE
        assert harness.l3.statistics().queries == 1
        await harness.l3.invalidate([b"person:99"])
        assert not harness.l3.negative_nowait(b"person:99")
        assert (await harness.l3.get(b"unmapped")).kind is Kind.MISS


UUID = "6e7bd6b8-3b14-4d5c-9a57-3f5b7a5f3c11"
TYPES = [
    ("text", "a'b\"\\c{},%s é", ["'; DROP VIEW v; --", "%s", "A'B"]),
    ("varchar(3)", "JFK", ["JFKX", "JF", "jfk"]),
    ("char(5)", "ab", ["ab ", "ab   ", "abcdefgh"]),
    ("smallint", "7", ["007", "+7", "7.0", "32768", "abc", " 7"]),
    ("integer", "-7", ["7", "2147483648", "1e3", "0x7"]),
    ("bigint", "9223372036854775807", ["9223372036854775808", "٧"]),
    ("uuid", UUID, [UUID.upper(), UUID.replace("-", ""), "{" + UUID + "}", "x"]),
    ("date", "2024-02-29", ["2023-02-29", "20240229", "today", "infinity", "Feb 29 2024"]),
]


@pytest.mark.parametrize(("sql_type", "present", "absent"), TYPES, ids=[t[0] for t in TYPES])
async def test_key_types(
    database: Database, sql_type: str, present: str, absent: list[str]
) -> None:
    """The one canonical text finds the row, through the index; all else is absent."""
    literal = present.replace("'", "''")
    database.run(
        f"CREATE MATERIALIZED VIEW v AS SELECT '{literal}'::{sql_type} AS k, 1 AS n",
        "CREATE UNIQUE INDEX ON v (k)",
    )
    async with running(database, {"keys": "v:{k}", "view": "v"}) as harness:
        assert harness.l3.state == "ready"
        hit, *others = await harness.load(*(f"v:{text}".encode() for text in (present, *absent)))
        assert hit.kind is Kind.HIT
        assert {outcome.kind for outcome in others} <= {Kind.NEGATIVE}
        assert (await harness.l3.scan_page(0, 0, 0, 10)).keys == [f"v:{present}".encode()]
        assert "Index" in await plan_of(harness, "v", [[present]])


async def plan_of(harness: Harness, view: str, columns: list[list[str]]) -> str:
    bound = harness.l3._binder.served[view]

    async def explain(connection: Any) -> str:
        arrays = [array_literal("\0".join(column)) for column in columns]
        cursor = await connection.execute(b"EXPLAIN " + bound._rows_by_key, arrays)
        return "\n".join(line for (line,) in await cursor.fetchall())

    return await harness.l3._pool.run(explain, harness.l3._pool.lane("view v"))


async def test_composite_keys_of_several_types(database: Database) -> None:
    database.run(
        'CREATE MATERIALIZED VIEW orders AS SELECT i AS "Customer", \'n:\' || i % 3 AS "no %s",'
        " date '2024-01-01' + i AS day, i AS total FROM generate_series(1, 100) i",
        'CREATE UNIQUE INDEX ON orders (day, "Customer") INCLUDE (total)',
        'CREATE UNIQUE INDEX ON orders ("no %s", day)',
    )
    views = (
        {"keys": "o:{customer}:{day}", "view": "orders", "key": {"customer": "Customer"}},
        {"keys": "p:{day}:{no}", "view": "public.orders", "key": {"no": "no %s"}, "reply": "hash"},
    )
    async with running(database, *views) as harness:
        kinds = [o.kind for o in await harness.load(b"o:3:2024-01-04", b"o:4:2024-01-04", b"o:x:y")]
        assert kinds == [Kind.HIT, Kind.NEGATIVE, Kind.NEGATIVE]
        (row,) = await harness.load(b"p:2024-01-04:n:0")
        assert row.value == {b"Customer": b"3", b"no %s": b"n:0", b"day": b"2024-01-04",
                             b"total": b"3"}  # fmt: skip
        assert "Index" in await plan_of(harness, "orders", [["3"], ["2024-01-04"]])


HOSTILE = [
    b"person:'", b'person:"', b"person:\\", b"person:{1}", b"person:1\0", b"person:\xff\xfe",
    b"person:" + b"x" * 1_000_000, b"person:1' OR '1'='1", b"person:$1", b"person:%(x)s",
    b"person:NULL", b"person:1,2", "person:\U0001f600\u202e".encode(), b"person:\x1b[0m\r\n",
]  # fmt: skip


async def test_hostile_keys_are_absent_and_harm_no_other_key(database: Database) -> None:
    async with running(database, PEOPLE) as harness:
        mapping = harness.l3.mappings.by_view("people")
        assert mapping is not None
        outcomes = await harness.l3.load(mapping, [*HOSTILE, b"person:1"])
        assert {outcomes[key].kind for key in HOSTILE} == {Kind.NEGATIVE}
        assert outcomes[b"person:1"].kind is Kind.HIT
        assert harness.l3.statistics().errors == 0
        for key in HOSTILE:
            assert await harness.l3.explain(key)


NASTY = [
    '"', "\\", '\\"', '","', "{}", "{", "}", ",", "NULL", "null", " ", " x ", "\t", "\n", "\r\n",
    "'", "'; DROP VIEW v; --", "$1", "%s", "%%", "%(x)s", "\x01\x7f", "\u202e\U0001f600", "a\\\\b",
    '{"a","b"}', "\\x41", "E'\\n'", "x" * 2000,
]  # fmt: skip


async def test_texts_that_mean_something_to_sql_are_keys_like_others(database: Database) -> None:
    """Each leads to its own row, alone and with all others in one query."""
    database.run("CREATE TABLE nasty (k text PRIMARY KEY, n integer)")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for n, text in enumerate(NASTY):
            connection.execute("INSERT INTO nasty VALUES (%s, %s)", (text, n))
    query = "SELECT k, k AS other, n FROM nasty"
    single = {"keys": "n:{k}", "view": "nasty1", "query": query, "reply": "string:n"}
    double = {"keys": "m:{k}::{other}", "view": "nasty2", "query": query, "reply": "string:n"}
    async with running(database, single, double) as harness:
        for form in (lambda text: f"n:{text}", lambda text: f"m:{text}::{text}"):
            keys = [form(text).encode() for text in NASTY]
            numbers = [str(n).encode() for n in range(len(NASTY))]
            assert [o.value for o in await harness.load(*keys)] == numbers
            assert [(await harness.load(key))[0].value for key in keys] == numbers
        assert harness.l3.statistics().errors == 0


async def test_collation_that_ignores_case_makes_no_second_key(database: Database) -> None:
    try:
        database.run(
            "CREATE COLLATION nocase"
            " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except FeatureNotSupported:
        pytest.skip("this PostgreSQL was built without ICU")
    database.run(
        "CREATE MATERIALIZED VIEW v AS SELECT 'JFK' COLLATE nocase AS k",
        "CREATE UNIQUE INDEX ON v (k)",
    )
    async with running(database, {"keys": "v:{k}", "view": "v"}) as harness:
        kinds = [outcome.kind for outcome in await harness.load(b"v:JFK", b"v:jfk")]
        assert kinds == [Kind.HIT, Kind.NEGATIVE]


# Views that do not fit

BASE = "CREATE MATERIALIZED VIEW v AS SELECT 1 AS id, 2.5 AS amount, '{}'::jsonb AS body"
MISFITS: list[tuple[list[str], dict[str, Any], str]] = [
    ([], {}, "does not exist; create it"),
    (["CREATE TABLE v (id int PRIMARY KEY)"], {}, "is not a materialized view"),
    ([BASE], {}, 'run: CREATE UNIQUE INDEX ON "v" ("id")'),
    ([BASE, "CREATE UNIQUE INDEX ON v (id, amount)"], {}, "no unique index on exactly"),
    ([BASE, "CREATE UNIQUE INDEX ON v (id) WHERE id > 0"], {}, "no unique index on exactly"),
    ([BASE, "CREATE UNIQUE INDEX ON v ((id + 0))"], {}, "no unique index on exactly"),
    ([BASE, "CREATE INDEX ON v (id)"], {}, "no unique index on exactly"),
    ([BASE], {"key": {"id": "code"}}, 'no column "code"; its columns are id, amount, body'),
    ([BASE], {"key": {"id": "amount"}}, "has the type numeric; cast it in the view to one of text"),
    ([BASE], {"reply": "string:title"}, 'no column "title"'),
    ([BASE + " WITH NO DATA", "CREATE UNIQUE INDEX ON v (id)"], {},
     "is not populated; run: REFRESH MATERIALIZED VIEW"),
    ([], {"query": "SELECT id FROM nowhere"}, 'relation "nowhere" does not exist'),
    ([], {"query": "SELECT 1 AS ident"}, 'column "id" does not exist'),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "options", "says"), MISFITS)
async def test_misfit_is_reported_with_its_mend_and_the_others_are_served(
    database: Database, statements: list[str], options: dict[str, Any], says: str
) -> None:
    database.run(*statements)
    misfit = {"keys": "v:{id}", "view": "v", **options}
    async with running(database, misfit, PEOPLE) as harness:
        ((problem,), _) = await harness.l3.check()
        assert problem.startswith("view v: ")
        assert says in problem
        assert says in harness.l3.state
        assert harness.l3.ready
        (outcome,) = await harness.load(b"v:1")
        assert outcome.kind is Kind.UNAVAILABLE
        assert outcome.reason.startswith("view v: ")
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]


DROP = "DROP TABLE precious"
SEVERAL_STATEMENTS = [
    f"SELECT 1 AS id; {DROP}",
    f"SELECT 1 AS id; {DROP}; SELECT 1 AS id",
    f"SELECT 1 AS id/*;*/;/*;*/ {DROP} --",
    f"SELECT ';--' AS s, 1 AS id; {DROP} -- ;",
    f"SELECT 1 AS id) AS v LIMIT 0; COMMIT; {DROP}; SELECT id FROM (SELECT 1 AS id",
    f"SELECT 1 AS id WITH NO DATA; {DROP}",
    f"; {DROP}",
    DROP,
    "WITH gone AS (DELETE FROM precious RETURNING 1 AS id) SELECT id FROM gone",
    "DELETE FROM precious RETURNING 1 AS id",
    "SELECT 1 AS id WITH NO DATA",
    "SELECT 1 AS id INTO spoils",
    "SELECT $1::int AS id",
]


@pytest.mark.parametrize("query", SEVERAL_STATEMENTS)
async def test_a_query_is_one_select_or_nothing_is_run(database: Database, query: str) -> None:
    """By `check`, for a view that is missing, and for one whose query is to be applied."""
    database.run("CREATE TABLE precious (n int)", "INSERT INTO precious VALUES (1)")
    view = {"keys": "v:{id}", "view": "v", "query": query}

    async def refused() -> None:
        harness = Harness(database.dsn, [view])
        (problem,), _ = await harness.l3.check()
        assert problem.startswith("view v: its query is refused: ")
        assert database.rows("SELECT n FROM precious") == [(1,)]
        await harness.l3.close()

    await refused()
    async with running(database, view) as harness:
        assert "view v: its query is refused: " in harness.l3.state
    assert database.rows("SELECT n FROM precious") == [(1,)]
    assert database.rows("SELECT to_regclass('v'), to_regclass('spoils')") == [(None, None)]
    async with running(database, {**view, "query": "SELECT 1 AS id"}):
        pass
    await refused()
    async with running(database, view) as harness:
        assert [o.kind for o in await harness.load(b"v:1")] == [Kind.HIT]  # from the old view
    assert database.rows("SELECT n FROM precious") == [(1,)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS id;",
        " SELECT 1 AS id ;; \n",
        "SELECT 1 AS id; -- as ever;",
        "/* ; */ SELECT 1 AS id -- ;",
        "SELECT 1 AS id WHERE 7 % 2 = 1 AND 'a%' LIKE '%%'",
        "TABLE one",
        "VALUES (1)",
        "WITH a AS (SELECT 1 AS id) SELECT id FROM a",
    ],
)
async def test_a_query_may_end_as_people_end_theirs(database: Database, query: str) -> None:
    database.run("CREATE TABLE one (id int)", "INSERT INTO one VALUES (1)")
    key = {"id": "column1"} if query.startswith("VALUES") else {}
    view = {"keys": "v:{id}", "view": "v", "query": query, "key": key}
    harness = Harness(database.dsn, [view])
    assert (await harness.l3.check()).problems == []
    await harness.l3.close()
    async with running(database, view) as harness:
        assert [o.kind for o in await harness.load(b"v:1")] == [Kind.HIT]
        assert harness.l3.state == "ready"


async def test_mended_view_is_served_without_a_restart(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l3_listener, "KEEPALIVE_S", 0.05)
    database.run(BASE)
    async with running(database, {"keys": "v:{id}", "view": "v"}) as harness:
        database.run("CREATE UNIQUE INDEX ON v (id)")
        await harness.until(lambda: harness.l3.state == "ready")
        assert [o.kind for o in await harness.load(b"v:1")] == [Kind.HIT]
        database.run("DROP MATERIALIZED VIEW v")
        (outcome,) = await harness.load(b"v:1")
        assert outcome.kind is Kind.UNAVAILABLE
        assert "view v: does not exist; create it" in outcome.reason
        await harness.until(lambda: "does not exist; create it" in harness.l3.state)


async def test_every_problem_at_once_and_nothing_is_changed_by_looking(database: Database) -> None:
    views = [{"keys": f"v{i}:{{id}}", "view": f"v{i}"} for i in range(3)]
    harness = Harness(database.dsn, [*views, PEOPLE])
    problems, _ = await harness.l3.check()
    assert [problem.partition(":")[0] for problem in problems] == ["view v0", "view v1", "view v2"]
    (found,) = database.rows("SELECT to_regnamespace('terrace'), to_regclass('people')")
    assert found == (None, None)
    await harness.l3.close()


async def test_patterns_that_overlap_are_no_problem(database: Database) -> None:
    views = [{**PEOPLE, "view": f"people{i}", "keys": keys}
             for i, keys in enumerate(["p:{id}", "p:x:{id}"])]  # fmt: skip
    async with running(database, *views) as harness:
        assert (await harness.l3.check()).problems == []


async def test_what_a_start_would_create_or_build_anew_is_told(database: Database) -> None:
    async def notes(query: str) -> list[str]:
        harness = Harness(database.dsn, [{**PEOPLE, "query": query}])
        problems, notes = await harness.l3.check()
        assert problems == []
        await harness.l3.close()
        return notes

    first = PEOPLE["query"]
    (note,) = await notes(first)
    assert note.startswith("view people: does not exist; the start creates it")
    async with running(database, PEOPLE):
        pass
    assert await notes(first) == []
    (note,) = await notes(first + " -- changed")
    assert note.startswith("view people: its query changed; the start builds the new view")
    harness = Harness(database.dsn, [{**PEOPLE, "query": "SELECT nonsense"}])
    (problem,), told = await harness.l3.check()
    assert problem.startswith("view people: its query is refused")
    assert told == []
    await harness.l3.close()


async def test_role_without_privileges_gets_the_grants_to_run(database: Database) -> None:
    database.run(
        "DROP ROLE IF EXISTS poor",
        "CREATE ROLE poor LOGIN",
        BASE,
        "CREATE UNIQUE INDEX ON v (id)",
    )
    dsn = database.dsn.replace("user=terrace", "user=poor")
    view = {"keys": "v:{id}", "view": "v", "refresh": "1h"}
    harness = Harness(dsn, [view])
    (first, second, third), _ = await harness.l3.check()
    assert 'CREATE SCHEMA IF NOT EXISTS "terrace" AUTHORIZATION "poor"' in first
    assert 'GRANT SELECT ON "v" TO "poor"' in second
    assert 'OWNER TO "poor"' in third
    await harness.l3.close()
    database.run("CREATE SCHEMA terrace AUTHORIZATION poor", "GRANT SELECT ON v TO poor")
    async with running(dsn, {**view, "refresh": "manual"}) as allowed:
        assert [o.kind for o in await allowed.load(b"v:1")] == [Kind.HIT]
        with pytest.raises(MappingProblem, match=r"was not refreshed.*ownership to poor"):
            await allowed.l3.refresh("v")


async def test_several_proxies_may_start_at_once(database: Database) -> None:
    harnesses = [Harness(database.dsn, [PEOPLE]) for _ in range(4)]
    try:
        await asyncio.gather(*(harness.start() for harness in harnesses))
        for harness in harnesses:
            assert harness.l3.state == "ready"
            assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
    finally:
        await asyncio.gather(*(harness.l3.close() for harness in harnesses))


async def test_view_that_cannot_be_created_leaves_nothing_behind(database: Database) -> None:
    query = "SELECT 1 AS id FROM generate_series(1, 2);"
    async with running(database, {"keys": "v:{id}", "view": "v", "query": query}) as harness:
        assert "Key (id)=(1) is duplicated" in harness.l3.state
        assert database.rows("SELECT to_regclass('v')") == [(None,)]


# SCAN and streams


async def scan(harness: Harness, count: int = 10) -> tuple[list[bytes], int]:
    keys: list[bytes] = []
    epoch, block, pages = 0, 0, 0
    while True:
        page = await harness.l3.scan_page(0, epoch, block, count)
        keys += page.keys
        pages += 1
        if page.next_block is None:
            return keys, pages
        epoch, block = page.epoch, page.next_block


NUMBERS = {
    "keys": "n:{id}",
    "view": "numbers",
    "query": "SELECT id, v, repeat('x', 50) AS pad FROM base",
}


def fill_numbers(database: Database, rows: int) -> None:
    database.run(f"CREATE TABLE base AS SELECT id, 0 AS v FROM generate_series(1, {rows}) id")


async def test_scan_of_a_quiet_view_returns_every_key_once(database: Database) -> None:
    fill_numbers(database, 5000)
    async with running(database, NUMBERS) as harness:
        keys, pages = await scan(harness, count=500)
        assert sorted(keys) == sorted(b"n:%d" % i for i in range(1, 5001))
        assert 8 <= pages <= 15


@pytest.mark.parametrize("seed", range(3))
async def test_scan_returns_every_key_that_was_there_throughout(
    database: Database, seed: int
) -> None:
    """Rows are changed, deleted and added, and refreshed, between the pages."""
    chance = random.Random(seed)
    fill_numbers(database, 3000)
    async with running(database, NUMBERS) as harness:
        throughout = set(range(1, 3001))
        found: set[bytes] = set()
        epoch, block, refreshes, continued = 0, 0, 0, 0
        while True:
            page = await harness.l3.scan_page(0, epoch, block, 60)
            found.update(page.keys)
            continued += refreshes > 0 and not page.restarted
            if page.next_block is None:
                break
            epoch, block = page.epoch, page.next_block
            if chance.random() < 0.4:
                changed = chance.sample(sorted(throughout), 200)
                deleted, moved = changed[:10], changed[10:]
                throughout.difference_update(deleted)
                database.run(
                    f"DELETE FROM base WHERE id IN ({','.join(map(str, deleted))})",
                    f"UPDATE base SET v = v + 1 WHERE id IN ({','.join(map(str, moved))})",
                )
                await harness.l3.refresh("numbers")
                # Room for moved rows in early blocks, which the scan has passed already.
                database.run("VACUUM numbers")
                refreshes += 1
        assert refreshes > 3
        assert continued > 3
        assert {b"n:%d" % i for i in throughout} <= found


@pytest.mark.parametrize("why", ["all keys changed", "log trimmed"])
async def test_scan_starts_again_when_the_changed_keys_are_not_known(
    database: Database, why: str
) -> None:
    fill_numbers(database, 3000)
    async with running(database, NUMBERS) as harness:
        page = await harness.l3.scan_page(0, 0, 0, 1000)
        assert page.next_block
        database.run("UPDATE base SET v = 1 WHERE id = 1")
        await harness.l3.refresh("numbers")
        forget = "DELETE FROM" if why == "log trimmed" else "UPDATE"
        change = "" if why == "log trimmed" else "SET keys = NULL"
        database.run(f"{forget} terrace.refresh_log {change}")
        page = await harness.l3.scan_page(0, page.epoch, page.next_block, 1000)
        assert page.restarted
        assert page.epoch == 1
        first, _ = await scan(harness, count=1000)
        assert page.keys == first[: len(page.keys)]


async def test_stream_gives_all_rows_that_match(database: Database) -> None:
    fill_numbers(database, 1200)
    async with running(database, NUMBERS) as harness:
        mapping = harness.l3.mappings.by_view("numbers")
        assert mapping is not None
        batches = [batch async for batch in harness.l3.stream(mapping)]
        assert max(map(len, batches)) <= 500
        rows = dict(row for batch in batches for row in batch)
        assert len(rows) == 1200
        assert rows[b"n:7"].kind is Kind.HIT
        some = [batch async for batch in harness.l3.stream(mapping, b"n:1?")]
        assert sorted(key for batch in some for key, _ in batch) == [
            b"n:%d" % i for i in range(10, 20)
        ]


# A server that misbehaves


async def test_starts_before_postgres_and_recovers_by_itself(restless: Postgres) -> None:
    harness = Harness(restless.dsn(), [PEOPLE], deadline=4.0)
    try:
        await harness.l3.start()
        await harness.until(lambda: harness.l3.state.startswith("down: "))
        started_at = time.monotonic()
        (outcome,) = await harness.load(b"person:1")
        assert time.monotonic() - started_at < 3.0  # not the whole deadline
        assert outcome.kind is Kind.UNAVAILABLE
        assert "connection" in outcome.reason
        ((problem,), _) = await harness.l3.check()
        assert problem.startswith("l3.dsn: ")
        restless.start()
        assert await harness.l3.wait_ready(10)
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
        restless.stop()
        await harness.until(lambda: harness.l3.state.startswith("down: "))
        restless.start()
        assert await harness.l3.wait_ready(10)
        await harness.until(lambda: harness.l3.ready)
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
    finally:
        await harness.l3.close()


async def test_silent_server_is_unavailable_in_time_and_never_answers_late(
    restless: Postgres,
) -> None:
    restless.start()
    async with running(restless.dsn(), PEOPLE, deadline=0.4) as harness:
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
        restless.freeze()
        started_at = time.monotonic()
        (outcome,) = await harness.load(b"person:2")
        assert time.monotonic() - started_at < 5.0
        assert outcome.kind is Kind.UNAVAILABLE
        assert outcome.reason == "no answer within 0.65 s"
        started_at = time.monotonic()
        assert [o.kind for o in await harness.load(b"person:3")] == [Kind.UNAVAILABLE]
        assert time.monotonic() - started_at < 0.35  # no deadline: the breaker is open
        restless.resume()
        async with asyncio.timeout(10):
            while (outcome := (await harness.load(b"person:5"))[0]).kind is not Kind.HIT:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert isinstance(outcome.value, bytes)
        assert json.loads(outcome.value)["id"] == "5"


async def test_close_is_bounded_while_the_server_is_silent(restless: Postgres) -> None:
    restless.start()
    harness = Harness(restless.dsn(), [PEOPLE], deadline=30.0)
    await harness.start()
    await harness.load(b"person:1")
    restless.freeze()
    load = asyncio.gather(harness.load(b"person:2"))
    await asyncio.sleep(0)
    started_at = time.monotonic()
    await harness.l3.close()
    ((outcome,),) = await load
    assert outcome.kind is Kind.UNAVAILABLE
    assert time.monotonic() - started_at < 4.0


async def test_slow_query_ends_at_the_deadline_and_says_so(database: Database) -> None:
    async with running(database, PEOPLE, deadline=0.2) as harness:
        await harness.load(b"person:1")
        database.run("BEGIN", "REFRESH MATERIALIZED VIEW people")  # blocks readers
        (outcome,) = await harness.load(b"person:2")
        database.run("ROLLBACK")
        assert (outcome.kind, outcome.reason) == (
            Kind.UNAVAILABLE,
            "view people: no answer within 0.2 s",
        )


async def test_killed_connections_are_replaced_unnoticed(database: Database) -> None:
    async with running(database, PEOPLE) as harness:
        await asyncio.gather(*(harness.load(b"person:%d" % i) for i in range(1, 5)))
        assert database.kill("loads") >= 1
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
        assert database.kill("link") == 1
        assert [o.kind for o in await harness.load(b"person:1")] == [Kind.HIT]
        await harness.until(lambda: database.backends("link"))
        await harness.until(lambda: harness.l3.ready)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3cret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=s3cret user=u",
        "postgresql//u:s3cret@127.0.0.1:1/db",
        "postgresql://u:s3cret@127.0.0.1:1/db?sslmode=s3cret",
    ],
)
async def test_no_password_in_any_message(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness(dsn, [PEOPLE])
    await harness.l3.start()
    await harness.until(lambda: harness.l3.state.startswith("down: "))
    (outcome,) = await harness.load(b"person:1")
    texts = [
        harness.l3.state,
        outcome.reason,
        repr(harness.l3),
        *(await harness.l3.check()).problems,
    ]
    await harness.l3.close()
    assert outcome.kind is Kind.UNAVAILABLE
    assert "s3cret" not in "".join(texts) + caplog.text


def test_users_connection_settings_win() -> None:
    conninfo = conninfo_of(L3Options(dsn="host=h application_name=mine keepalives_idle=3"), "dsn")
    assert "application_name=mine" in conninfo
    assert "keepalives_idle=3" in conninfo


async def test_requests_for_what_is_not_there(database: Database) -> None:
    async with running(database, PEOPLE, {"keys": "v:{id}", "view": "v"}) as harness:
        with pytest.raises(MappingProblem, match="the mapped views are: people, v"):
            await harness.l3.refresh("nonsense")
        with pytest.raises(MappingProblem, match="does not exist"):
            await harness.l3.refresh("v")
        with pytest.raises(TierUnavailable, match="does not exist"):
            await harness.l3.scan_page(1, 0, 0, 10)


async def test_explain_says_what_it_knows(database: Database) -> None:
    async with running(database, PEOPLE) as harness:
        assert (await harness.l3.explain(b"person:1"))["L3"] == "present"
        assert (await harness.l3.explain(b"person:99"))["L3"] == "absent"
        assert (await harness.l3.explain(b"person:99"))["L3.negative"].startswith("for ")
        assert (await harness.l3.explain(b"other"))["L3"] == "not mapped"
        assert isinstance(harness.l3, L3Postgres)
        assert "people" in repr(harness.l3._binder.served["people"])
