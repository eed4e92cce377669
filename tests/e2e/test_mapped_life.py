"""A mapped key from its first read on: what clients write to it, and what a refresh does then."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, eventually, postgres

__all__ = ["postgres"]

NIL, OK = b"$-1\r\n", b"+OK\r\n"
QUERY = "SELECT id, word FROM words"
VIEWS = [
    {"keys": "w:{id}", "view": "w", "query": QUERY, "reply": "string:word"},
    {"keys": "h:{id}", "view": "h", "query": QUERY, "reply": "hash"},
    {"keys": "s:{id}", "view": "swapped", "query": QUERY, "reply": "hash"},  # by another relation
    {"keys": "t:{id}", "view": "t", "query": QUERY, "reply": "string:word",
     "on_delete": "tombstone"},
    {"keys": "d:{id}", "view": "d", "query": QUERY, "reply": "string:word",
     "on_delete": "tombstone"},
    {"keys": "b:{id}", "view": "b", "query": QUERY, "reply": "string:word",
     "on_delete": "tombstone", "ttl": "200ms", "ttl_jitter": 0},
]  # fmt: skip


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    database.run(
        "CREATE TABLE words AS SELECT id, 'old ' || id AS word FROM generate_series(1, 20) id"
    )
    yield database
    database.close()


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__view=json.dumps(VIEWS), l3__watch="50ms"
    ) as terrace:
        eventually(lambda: terrace.readiness()[1]["l3"] == "ready")
        yield terrace


@pytest.fixture
def wire(terrace: TerraceProcess, redis: RedisProcess, database: Database) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        wire.ask("FLUSHALL")
        database.run("UPDATE words SET word = 'old ' || id")
        for view in VIEWS:
            wire.ask("TIER.REFRESH", str(view["view"]))
        yield wire


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def change(database: Database, row: int, *views: str, wire: Wire) -> None:
    database.run(f"UPDATE words SET word = 'new {row}' WHERE id = {row}")
    for view in views:
        wire.ask("TIER.REFRESH", view)


def test_what_a_client_wrote_stays_until_its_row_changes(wire: Wire, database: Database) -> None:
    assert wire.ask("SET", "w:1", "mine") == OK
    assert wire.ask("SET", "w:2", "mine, too") == OK
    change(database, 3, "w", wire=wire)
    assert wire.ask("GET", "w:1") == bulk("mine")
    assert wire.ask("TTL", "w:1") == b":-1\r\n"
    change(database, 1, "w", wire=wire)
    assert wire.ask("GET", "w:1") == bulk("new 1")
    assert wire.ask("GET", "w:2") == bulk("mine, too")


def test_a_field_is_added_to_the_row(wire: Wire, database: Database) -> None:
    assert wire.ask("HSET", "h:1", "extra", "x") == b":1\r\n"
    assert wire.ask("HMGET", "h:1", "word", "extra") == b"*2\r\n" + bulk("old 1") + bulk("x")
    change(database, 1, "h", wire=wire)
    assert wire.ask("HMGET", "h:1", "word", "extra") == b"*2\r\n" + bulk("new 1") + NIL


def test_expire_acts_on_the_loaded_row(wire: Wire) -> None:
    assert wire.ask("EXPIRE", "w:4", 1000) == b":1\r\n"
    assert int(wire.ask("TTL", "w:4")[1:]) > 300
    assert wire.ask("PEXPIRE", "w:4", 1) == b":1\r\n"
    eventually(lambda: int(wire.ask("TTL", "w:4")[1:]) <= 300)
    assert wire.ask("GET", "w:4") == bulk("old 4")  # loaded again


def test_a_deleted_key_is_loaded_again(wire: Wire) -> None:
    assert wire.ask("GET", "w:5") == bulk("old 5")
    assert wire.ask("DEL", "w:5") == b":1\r\n"
    assert wire.ask("DEL", "w:5") == b":0\r\n"
    assert wire.ask("GET", "w:5") == bulk("old 5")


@pytest.mark.parametrize("was_read", [True, False])
def test_a_tombstone_holds_until_the_row_changes(
    wire: Wire, database: Database, was_read: bool
) -> None:
    if was_read:
        assert wire.ask("GET", "t:6") == bulk("old 6")
    assert wire.ask("DEL", "t:6") == b":%d\r\n" % was_read
    for _ in range(2):
        assert wire.ask("GET", "t:6") == NIL
        assert wire.ask("EXISTS", "t:6") == b":0\r\n"
    assert wire.ask("MGET", "t:6", "t:7") == b"*2\r\n" + NIL + bulk("old 7")
    change(database, 7, "t", wire=wire)
    assert wire.ask("GET", "t:6") == NIL
    change(database, 6, "t", wire=wire)
    # Absence ends with PostgreSQL's notification: Redis tells nothing of a key that is not there.
    eventually(lambda: wire.ask("GET", "t:6") == bulk("new 6"))


def test_a_tombstone_lasts_as_long_as_a_row_would(wire: Wire) -> None:
    assert wire.ask("DEL", "b:8") == b":0\r\n"
    assert wire.ask("GET", "b:8") == NIL
    eventually(lambda: wire.ask("GET", "b:8") == bulk("old 8"))


def test_a_row_that_was_deleted_and_came_back(wire: Wire, database: Database) -> None:
    assert wire.ask("GET", "w:9") == bulk("old 9")
    database.run("DELETE FROM words WHERE id = 9")
    wire.ask("TIER.REFRESH", "w")
    assert wire.ask("GET", "w:9") == NIL
    database.run("INSERT INTO words VALUES (9, 'again')")
    wire.ask("TIER.REFRESH", "w")
    eventually(lambda: wire.ask("GET", "w:9") == bulk("again"))


def test_another_relation_takes_the_name(
    wire: Wire, terrace: TerraceProcess, database: Database
) -> None:
    """As dbt does it: what Redis, L1 and the negative cache knew of the old one is gone."""
    assert wire.ask("GET", "s:1")[:1] == b"-"  # it is a hash
    for _ in range(3):
        assert wire.ask("HGET", "s:1", "word") == bulk("old 1")
        assert wire.ask("EXISTS", "s:99") == b":0\r\n"
    assert terrace.metrics()['terrace_view_served{view="swapped"}'] == 1
    database.run(
        "CREATE MATERIALIZED VIEW swapped__tmp AS"
        " SELECT id, 'other ' || id AS word, 1 AS more FROM generate_series(1, 99) id",
        "CREATE UNIQUE INDEX ON swapped__tmp (id)",
        "BEGIN",
        "ALTER MATERIALIZED VIEW swapped RENAME TO swapped__backup",
        "ALTER MATERIALIZED VIEW swapped__tmp RENAME TO swapped",
        "COMMIT",
        "DROP MATERIALIZED VIEW swapped__backup CASCADE",
    )
    eventually(lambda: wire.ask("HMGET", "s:1", "word", "more").endswith(b"other 1\r\n$1\r\n1\r\n"))
    eventually(lambda: wire.ask("HGET", "s:99", "word") == bulk("other 99"))
    assert wire.ask("TIER.REFRESH", "swapped")[:1] != b"-"
    eventually(lambda: terrace.metrics()['terrace_view_replaced{view="swapped"}'] == 1)
    assert terrace.metrics()["terrace_l3_replaced_views_total"] == 1


def test_unserved_view_has_a_metric(redis: RedisProcess, database: Database) -> None:
    """And is served again when it was mended."""
    view = json.dumps([{"keys": "lone:{id}", "view": "lone", "reply": "string:word"}])
    served = 'terrace_view_served{view="lone"}'
    terrace = TerraceProcess(
        redis.url, l3__dsn=database.dsn, l3__view=view, l3__schema="lone_schema", l3__watch="50ms"
    )
    with contextlib.closing(terrace):
        terrace.wait_answering()
        eventually(lambda: terrace.metrics()[served] == 0)
        database.run(f"CREATE MATERIALIZED VIEW lone AS {QUERY}")
        with Wire(terrace.port) as wire:
            eventually(lambda: b"has no unique index" in wire.ask("GET", "lone:1"))
            database.run("CREATE UNIQUE INDEX ON lone (id)")
            eventually(lambda: terrace.metrics()[served] == 1)
            assert wire.ask("GET", "lone:1")[:1] == b"$"


def test_what_tier_views_tells(wire: Wire, database: Database) -> None:
    change(database, 1, "w", wire=wire)

    def told() -> dict[bytes, bytes]:
        parts = wire.ask("TIER.VIEWS").split(b"\r\n")
        names = (b"view", b"rows", b"refreshed_seconds_ago", b"seconds", b"changed",
                 b"lag_seconds", b"next_in_seconds")  # fmt: skip
        return {name: parts[parts.index(name) + 2] for name in names}

    # Redis was just flushed, and how far it was told with it: the leader notices.
    eventually(lambda: float(told()[b"lag_seconds"]) == 0)
    values = told()
    assert values[b"view"] == b"w"
    assert values[b"rows"] == b"20"
    assert values[b"changed"] == b"1"
    assert values[b"next_in_seconds"] == b"not scheduled"


def test_a_view_is_warmed_on_demand_and_counted(
    wire: Wire, terrace: TerraceProcess, redis: RedisProcess
) -> None:
    before = terrace.metrics()
    wire.ask("TIER.WARM", "w")
    with Wire(redis.port) as direct:
        assert direct.ask("EXISTS", *(f"w:{i}" for i in range(1, 21))) == b":20\r\n"
    rows, stored = (
        terrace.metrics()[name] - before[name]
        for name in ("terrace_l3_warm_rows_total", "terrace_l3_warm_stored_total")
    )
    assert (rows, stored) == (20, 20)
    assert "view w: warmed, 20 rows in" in terrace.log()


NEWER = {
    "SET w:1 mine IFEQ 'old 1'": OK,
    "SET w:2 mine IFEQ mine": NIL,
    "DELIFEQ w:3 'old 3'": b":1\r\n",
    "MSETEX 2 w:4 a w:99 b NX": b":0\r\n",
    "MSETEX 2 w:5 a w:6 b XX": b":1\r\n",
    "HGETDEL h:1 FIELDS 1 word": b"*1\r\n" + bulk("old 1"),
    "HGETEX h:2 FIELDS 1 word": b"*1\r\n" + bulk("old 2"),
    "HSETEX h:3 FXX FIELDS 1 word x": b":1\r\n",
    "HPERSIST h:4 FIELDS 1 word": b"*1\r\n:-1\r\n",
}


@pytest.mark.parametrize("in_multi", [False, True], ids=["alone", "in MULTI"])
@pytest.mark.parametrize("line", NEWER)
def test_writes_of_newer_servers_look_at_the_row(
    wire: Wire, redis: RedisProcess, line: str, in_multi: bool
) -> None:
    words = shlex.split(line)
    with Wire(redis.port) as direct:
        told = direct.ask(*(word.replace(":", "-probe:") for word in words))
        if told.startswith((b"-ERR unknown command", b"-ERR syntax error")):
            pytest.skip(f"this server knows no {words[0]} like this")
    if in_multi:
        reply = wire.ask_all(("MULTI",), tuple(words), ("EXEC",))[-1]
        assert reply == b"*1\r\n" + NEWER[line]
    else:
        assert wire.ask(*words) == NEWER[line]


KEY = "the key"
REMOVALS = {
    "DEL": (("DEL", KEY),),
    "GETDEL": (("GETDEL", KEY),),
    "RENAME": (("RENAME", KEY, "elsewhere"),),
    "EXPIRE 0": (("EXPIRE", KEY, 0),),
    "EVAL": (("EVAL", "return redis.call('DEL', KEYS[1])", 1, KEY),),
    "DEL in MULTI": (("MULTI",), ("DEL", KEY), ("EXEC",)),
    "UNLINK in MULTI": (("MULTI",), ("UNLINK", "t:14", KEY), ("SET", "x", 1), ("EXEC",)),
    "GETDEL in MULTI": (("MULTI",), ("GETDEL", KEY), ("EXEC",)),
    "RENAME in MULTI": (("MULTI",), ("RENAME", KEY, "elsewhere"), ("EXEC",)),
    "DEL before SELECT": (("MULTI",), ("DEL", KEY), ("SELECT", 0), ("EXEC",)),
}


@pytest.mark.parametrize("how", REMOVALS)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_however_it_is_removed_it_stays_absent(wire: Wire, how: str, is_loaded: bool) -> None:
    row = 1 + 2 * list(REMOVALS).index(how) + is_loaded  # an absence is remembered for a while
    commands = [tuple(f"d:{row}" if word == KEY else word for word in c) for c in REMOVALS[how]]
    if is_loaded:
        assert wire.ask("GET", f"d:{row}") == bulk(f"old {row}")
    last = wire.ask_all(*commands)[-1]
    assert not last.startswith(b"-"), last
    assert wire.ask("GET", f"d:{row}") == NIL
    assert wire.ask("EXISTS", f"d:{row}", "t:6") == b":1\r\n"
    assert wire.ask_all(("MULTI",), ("GET", f"d:{row}"), ("EXEC",))[-1] == b"*1\r\n" + NIL
    wire.ask("DEL", "elsewhere", "x")


def test_a_delete_that_did_not_stay_leaves_no_tombstone(wire: Wire, redis: RedisProcess) -> None:
    wire.ask_all(("MULTI",), ("DEL", "t:7"), ("SET", "t:7", "mine"), ("EXEC",))
    assert wire.ask("GET", "t:7") == bulk("mine")
    wire.ask_all(("MULTI",), ("DEL", "t:8"), ("DISCARD",))
    with Wire(redis.port) as direct:
        assert direct.ask("EXISTS", "__terrace:tombstone:t:7") == b":0\r\n"
        direct.ask("DEL", "t:7")
    eventually(lambda: wire.ask("GET", "t:7") == bulk("old 7"))  # a stranger's: within the bound
    assert wire.ask("GET", "t:8") == bulk("old 8")


def test_a_transaction_after_a_refresh_sees_the_new_row(
    wire: Wire, terrace: TerraceProcess, database: Database
) -> None:
    assert wire.ask_all(("MULTI",), ("GET", "w:9"), ("APPEND", "w:9", "!")) == [
        OK, b"+QUEUED\r\n", b"+QUEUED\r\n"
    ]  # fmt: skip
    with Wire(terrace.port) as other:
        change(database, 9, "w", wire=other)
    assert wire.ask("EXEC") == b"*2\r\n" + bulk("new 9") + b":6\r\n"
    time.sleep(0.1)
    assert wire.ask("GET", "w:9") == bulk("new 9!")


def test_its_own_fill_does_not_fail_a_watch(wire: Wire, redis: RedisProcess) -> None:
    """Nothing is loaded between WATCH and EXEC that a WATCHed key would have to change for."""
    for _ in range(3):
        with Wire(redis.port) as direct:
            direct.ask("UNLINK", "w:1", "w:2")
        assert wire.ask("WATCH", "w:1", "w:2") == OK
        assert wire.ask("GET", "w:1") == bulk("old 1")
        assert wire.ask("TTL", "w:2").startswith(b":")
        replies = wire.ask_all(
            ("MULTI",), ("GET", "w:1"), ("APPEND", "w:1", "!"), ("STRLEN", "w:2"), ("EXEC",)
        )
        assert replies[-1] == b"*3\r\n" + bulk("old 1") + b":6\r\n:5\r\n"


def test_a_watch_sees_the_key_go(wire: Wire, terrace: TerraceProcess, database: Database) -> None:
    assert wire.ask("WATCH", "w:2") == OK
    with Wire(terrace.port) as other:
        change(database, 2, "w", wire=other)
    assert wire.ask("GET", "w:2") == bulk("new 2")
    assert wire.ask_all(("MULTI",), ("GET", "w:2"), ("EXEC",))[-1] == b"*-1\r\n"
