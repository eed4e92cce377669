"""Keys pushed by triggers of base tables: whichever statement, however many, whoever listens."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.tiers.l3_harness import Harness, ToldOf, running
from tests.tiers.postgres_fixture import Database, database, postgres
from tiers.errors import MappingProblem, TierUnavailable
from tiers.l3.triggers import Triggers, run_triggers
from tiers.options import L3Options, ViewOptions
from tiers.refresh import announcer, notices
from tiers.views import Mappings

__all__ = ["database", "postgres"]

ITEMS = {"keys": "item:{id}", "view": "items", "query": "SELECT id, body FROM base"}
QUIET = {"watch": 0}


@pytest.fixture(autouse=True)
def _base(database: Database) -> None:
    database.run(
        "CREATE TABLE base (id int, body text, day date)",
        "INSERT INTO base SELECT i, 'first', date '2024-05-06' FROM generate_series(1, 100) i",
    )


def options(database: Database) -> L3Options:
    return L3Options.model_validate({"dsn": database.dsn})


async def install(database: Database, pattern: str = "item:{id}", table: str = "base") -> Triggers:
    triggers = Triggers("terrace", table, pattern)
    await run_triggers(options(database), triggers.install())
    return triggers


async def published(harness: Harness) -> ToldOf:
    view, epoch, keys = await harness.next_published()
    return view, epoch, None if keys is None else sorted(keys)


def outbox(database: Database) -> int:
    return int(database.rows("SELECT count(*) FROM terrace.pushed")[0][0])


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ("INSERT INTO base VALUES (101, 'x'), (102, 'y')", [b"item:101", b"item:102"]),
        ("UPDATE base SET body = 'x' WHERE id IN (3, 4)", [b"item:3", b"item:4"]),
        ("UPDATE base SET id = 200 WHERE id = 3", [b"item:200", b"item:3"]),
        ("DELETE FROM base WHERE id = 5", [b"item:5"]),
        ("INSERT INTO base VALUES (NULL, 'no key'), (7, 'twice'), (7, 'twice')", [b"item:7"]),
        ("TRUNCATE base", None),
    ],
)
async def test_every_statement_that_changes_rows(
    database: Database, statement: str, keys: list[bytes] | None
) -> None:
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        database.run(statement)
        assert await published(harness) == ("items", 0, keys)
        view, _, told = await harness.next_change()
        assert (view, None if told is None else sorted(told)) == ("items", keys)
        await harness.until(lambda: outbox(database) == 0)


async def test_statements_that_change_no_rows_push_nothing(database: Database) -> None:
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        database.run("DELETE FROM base WHERE id = 0", "UPDATE base SET id = 1 WHERE id = 0")
        assert outbox(database) == 0
        database.run("DELETE FROM base WHERE id = 1")
        assert await published(harness) == ("items", 0, [b"item:1"])


async def test_absence_ends_when_the_key_is_pushed(database: Database) -> None:
    await install(database)
    async with running(database, {**ITEMS, "negative_ttl": "1h"}, **QUIET) as harness:
        await harness.load(b"item:101")
        assert harness.l3.negative_nowait(b"item:101")
        database.run("INSERT INTO base VALUES (101, 'new')")
        await harness.next_change()
        assert not harness.l3.negative_nowait(b"item:101")


async def test_push_brings_the_refresh_forward(database: Database) -> None:
    """Then the changed row is in the view long before its interval is over."""
    await install(database)
    async with running(database, {**ITEMS, "refresh": "1h"}, **QUIET) as harness:
        await harness.until_leading()
        database.run("UPDATE base SET body = 'second' WHERE id = 3")
        assert await published(harness) == ("items", 0, [b"item:3"])
        assert await published(harness) == ("items", 1, [b"item:3"])
        (outcome,) = await harness.load(b"item:3")
        assert b"second" in bytes(outcome.value)  # type: ignore[arg-type]


async def test_manual_refresh_stays_manual(database: Database) -> None:
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        database.run("UPDATE base SET body = 'second' WHERE id = 3")
        assert await published(harness) == ("items", 0, [b"item:3"])
        database.run("UPDATE base SET body = 'third' WHERE id = 4")
        assert await published(harness) == ("items", 0, [b"item:4"])
        assert harness.l3.statistics().refreshes == 0


async def test_many_rows_take_several_notices_and_very_many_are_all(database: Database) -> None:
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        database.run("INSERT INTO base SELECT i, '' FROM generate_series(1001, 6000) i")
        _, _, keys = await published(harness)
        assert keys is not None
        assert len(keys) == 5000
        told: list[bytes] = []
        while len(told) < 5000:
            told += (await harness.next_change())[2] or []
        assert sorted(told) == keys
        database.run("INSERT INTO base SELECT i, '' FROM generate_series(10001, 25000) i")
        assert await published(harness) == ("items", 0, None)
        assert await harness.next_change() == ("items", 0, None)


async def test_no_notice_is_longer_than_postgres_allows(database: Database) -> None:
    """8000 bytes, whatever the keys are made of: multi-byte text, and text that JSON escapes."""
    database.run("CREATE TABLE texts (id text)")
    await install(database, "text:{id}", "texts")
    with psycopg.connect(database.dsn, autocommit=True) as listener:
        listener.execute("LISTEN terrace")
        database.run(
            "INSERT INTO texts SELECT repeat(c, 300) || i FROM generate_series(1, 200) i,"
            " unnest(ARRAY['a', 'é', '😀', '\"', '\\', E'\\x01']) c"
        )
        payloads = [n.payload for n in listener.notifies(timeout=1.0)]
    assert len(payloads) > 10
    assert max(len(payload.encode()) for payload in payloads) < 8000
    assert len({key for payload in payloads for key in parse(payload).keys}) == 1200


async def test_burst_of_small_statements_is_published_in_few_goes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "MAX_PUSHED_KEYS", 50)
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        with psycopg.connect(database.dsn) as connection:  # one transaction
            for number in range(1, 41):
                connection.execute("UPDATE base SET body = 'x' WHERE id = %s", (number % 20 + 1,))
        assert await published(harness) == (
            "items",
            0,
            sorted(b"item:%d" % n for n in range(1, 21)),
        )
        with psycopg.connect(database.dsn) as connection:
            for number in range(1, 61):
                connection.execute("UPDATE base SET body = 'y' WHERE id = %s", (number,))
        assert await published(harness) == ("items", 0, None)  # above the bound: all


async def test_what_was_pushed_while_nobody_ran_is_worked_off(database: Database) -> None:
    await install(database)
    database.run("UPDATE base SET body = 'x' WHERE id = 3", "DELETE FROM base WHERE id = 4")
    async with running(database, ITEMS, **QUIET) as harness:
        assert await published(harness) == ("items", 0, [b"item:3", b"item:4"])


async def test_what_redis_was_not_told_is_told_later(database: Database) -> None:
    await install(database)
    async with running(database, ITEMS, **QUIET) as harness:
        await harness.until_leading()
        harness.redis.is_down = True
        database.run("UPDATE base SET body = 'x' WHERE id = 3")
        await harness.until(lambda: not harness.l3.statistics().is_leader)
        harness.redis.is_down = False
        assert await published(harness) == ("items", 0, [b"item:3"])
        await harness.until(lambda: outbox(database) == 0)


async def test_absences_do_not_survive_a_listener_that_was_away(database: Database) -> None:
    async with running(database, {**ITEMS, "negative_ttl": "1h"}, **QUIET) as harness:
        await harness.load(b"item:101")
        links = database.backends("link")
        database.kill("link")
        await harness.until(lambda: database.backends("link") not in ([], links))
        await harness.until(lambda: not harness.l3.negative_nowait(b"item:101"))


async def test_rolled_back_changes_push_nothing(database: Database) -> None:
    await install(database)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("DELETE FROM base")
        connection.rollback()
    assert outbox(database) == 0


async def test_hostile_texts_in_keys_and_names(database: Database) -> None:
    table = 'Odd "table" %s'
    quoted = '"' + table.replace('"', '""') + '"'
    database.run(f"CREATE TABLE {quoted} (id text)")
    await install(database, "it'em\\:{id}:$terrace$ %s", table)
    view = {"keys": "it'em\\:{id}:$terrace$ %s", "view": "items", "query": "SELECT 'x' AS id"}
    hostile = "'; DROP TABLE base; -- \n\"\\ é"
    async with running(database, view, **QUIET) as harness:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            insert = f"INSERT INTO {quoted.replace('%', '%%')} VALUES (%s)"
            connection.execute(insert.encode(), (hostile,))
        expected = f"it'em\\:{hostile}:$terrace$ %s".encode()
        assert await published(harness) == ("items", 0, [expected])
        assert (await harness.next_change())[2] == [expected]
    assert database.rows("SELECT count(*) FROM base") == [(100,)]


async def test_dates_are_pushed_as_they_are_keys_whatever_the_session(database: Database) -> None:
    await install(database, "day:{day}")
    view = {"keys": "day:{day}", "view": "days", "query": "SELECT DISTINCT day FROM base"}
    async with running(database, view, **QUIET) as harness:
        database.run("SET datestyle = 'German'", "UPDATE base SET body = 'x' WHERE id = 1")
        assert await published(harness) == ("days", 0, [b"day:2024-05-06"])


async def test_user_without_any_rights_on_the_schema_may_change_the_table(
    database: Database,
) -> None:
    await install(database)
    database.run(
        "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk", "GRANT ALL ON base TO clerk",
        "SET ROLE clerk", "DELETE FROM base WHERE id = 1", "RESET ROLE",
        "DROP OWNED BY clerk", "DROP ROLE clerk",
    )  # fmt: skip
    assert outbox(database) == 1


async def test_installing_twice_and_dropping_twice(database: Database) -> None:
    triggers = await install(database)
    await install(database)
    names = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'base'::regclass"
    assert database.rows(names) == [(4,)]
    for _ in range(2):
        await run_triggers(options(database), triggers.drop())
        assert database.rows(names) == [(0,)]


@pytest.mark.parametrize(
    ("table", "pattern", "text"),
    [
        ("nowhere", "item:{id}", "nowhere.*does not exist"),
        ("base", "item:{iata}", "iata"),
        ("base", "item", "it has no field"),
        ("a.b.c", "item:{id}", "is not a table name"),
    ],
)
async def test_what_cannot_be_installed_says_why(
    database: Database, table: str, pattern: str, text: str
) -> None:
    with pytest.raises((MappingProblem, TierUnavailable), match=text):
        await install(database, pattern, table)


# No IO


def parse(payload: str) -> Any:
    return notices.parse(payload)


def test_notices() -> None:
    assert parse('push ["a", "é"]') == notices.PushNotice((b"a", "é".encode()))
    assert parse("push-all item:{id}") == notices.PushNotice((), "item:{id}")
    for nonsense in ("push", "push []", "push {}", "push [1]", "push [", "push-all "):
        assert parse(nonsense) is None


def test_pushes_go_to_the_mappings_they_concern() -> None:
    mappings = Mappings(
        [ViewOptions(keys="a:{id}", view="va"), ViewOptions(keys="a:b:{id}", view="vb"),
         ViewOptions(keys="c:{id}", view="vc")]
    )  # fmt: skip

    def names(*pushed: Any) -> dict[str, Any]:
        return {mapping.name: keys for mapping, keys in mappings.pushed(pushed).items()}

    assert names(("x", [b"a:1", b"a:b:1", b"a:1", b"nothing"])) == {
        "va": [b"a:1"], "vb": [b"a:b:1"],
    }  # fmt: skip
    assert names(("a:{id}", None)) == {"va": None}
    assert names(("a:{other}", None)) == {"va": None, "vb": None}
    assert names(("a:{id}", None), ("x", [b"a:1", b"c:1"])) == {"va": None, "vc": [b"c:1"]}
    assert names(("z:{id}", None)) == {}
