"""No command runs in another database than its client's; a refusal is heard by its client only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import NULL2, OK, bulk, integer

OUT_OF_RANGE = b"-ERR DB index is out of range\r\n"
SPIN = "while true do end"


@contextlib.contextmanager
def with_user(redis: RedisProcess, **options: object) -> Iterator[TerraceProcess]:
    """Terrace as a user of its own, whose rights can be changed."""
    with Wire(redis.port) as direct:
        assert direct.ask("ACL", "SETUSER", "proxy", "on", ">pw", "~*", "&*", "+@all") == OK
    with running_terrace(f"redis://proxy:pw@127.0.0.1:{redis.port}", **options) as terrace:
        yield terrace


def writes(key: str) -> list[tuple[str | int, ...]]:
    """One of each way that a command takes, all of them writes, and reads between."""
    return [
        ("GET", key), ("SET", key, "v"), ("GET", key), ("INCR", f"{key}:n"), ("TTL", key),
        ("EVAL", "return redis.call('set', KEYS[1], 1)", 1, f"{key}:script"), ("TIME",),
        ("SORT", f"{key}:none", "STORE", f"{key}:sorted"), ("BLPOP", f"{key}:none", "0.01"),
    ]  # fmt: skip


@pytest.mark.parametrize("proto", [2, 3])
def test_a_user_that_may_select_no_more(own_redis: RedisProcess, proto: int) -> None:
    """Its clients of other databases are refused; those of database 0 notice nothing."""
    with (
        with_user(own_redis) as terrace,
        Wire(own_redis.port) as direct,
        Wire(terrace.port, proto) as three,
        Wire(terrace.port) as zero,
    ):
        three.ask_all(("SELECT", 3), *writes("a"))
        before = direct.ask("DBSIZE")
        direct.ask("ACL", "SETUSER", "proxy", "-select")
        assert three.ask("SELECT", 3).startswith(b"-NOPERM")
        direct.ask("CLIENT", "KILL", "USER", "proxy")
        terrace.wait_ready()
        for number in range(5):
            replies = three.ask_all(*writes(f"lost:{number}"))
            assert all(reply.startswith(b"-NOPERM") for reply in replies), replies
            multi = three.ask_all(("MULTI",), ("SET", "lost", 1), ("EXEC",))
            assert multi[2].startswith(b"-EXECABORT")
            key = f"z:{number}"
            assert zero.ask_all(("SET", key, 1), ("GET", key)) == [OK, bulk("1")]
        assert direct.ask("KEYS", "lost*") == b"*0\r\n"
        assert before == integer(0)
        direct.ask("ACL", "SETUSER", "proxy", "+select")
        wait_until(lambda: three.ask("SET", "back", 1) == OK, "the database is allowed again")
        assert direct.ask_all(("EXISTS", "back"), ("SELECT", 3), ("EXISTS", "back")) == [
            integer(0), OK, integer(1),
        ]  # fmt: skip


def test_fewer_databases_after_a_restart(own_redis: RedisProcess) -> None:
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(terrace.port) as nine,
        Wire(terrace.port) as zero,
    ):
        nine.ask_all(("SELECT", 9), *writes("a"))
        own_redis.kill()
        wait_until(lambda: nine.ask("SET", "k", 1)[:1] == b"-", "Redis is gone")
        own_redis.start("--databases", "4")
        terrace.wait_ready()
        replies = nine.ask_all(*writes("lost"))
        assert set(replies) == {OUT_OF_RANGE}
        assert nine.ask("SELECT", 9) == OUT_OF_RANGE
        assert zero.ask_all(("SELECT", 9), ("SELECT", 3), ("SELECT", 0)) == [OUT_OF_RANGE, OK, OK]
        assert zero.ask("DBSIZE") == integer(0)
        assert nine.ask_all(("SELECT", 2), ("SET", "k", 1), ("GET", "k")) == [OK, OK, bulk("1")]
        assert zero.ask("GET", "k") == NULL2


def test_while_a_script_runs(own_redis: RedisProcess) -> None:
    """Everybody hears BUSY, and whoever ends the script may be in any database."""
    with (
        running_terrace(own_redis.url, l2__deadline="5s") as terrace,
        Wire(own_redis.port) as direct,
        Wire(own_redis.port) as spinner,
        Wire(terrace.port) as three,
        Wire(terrace.port) as zero,
    ):
        direct.ask_all(("CONFIG", "SET", "lua-time-limit", 50))
        three.ask_all(("SELECT", 3), ("SET", "k", "v"), ("GET", "k"))
        five = Wire(terrace.port)
        five.ask("SELECT", 5)
        spinner.send("EVAL", SPIN, 0)
        wait_until(lambda: direct.ask("TIME").startswith(b"-BUSY"), "the script runs")
        for wire in (three, zero, five):
            for command in (
                ("SET", "k", 1),
                ("TTL", "k"),
                ("GET", "cold"),
                ("EVAL", "return 1", 0),
            ):
                reply = wire.ask(*command)
                assert reply.startswith(b"-BUSY"), (command, reply)
        selected, plain = five.ask("SELECT", 6), direct.ask("SELECT", 6)
        assert selected == plain, "as this server says"
        assert five.ask("SCRIPT", "KILL") == OK
        assert spinner.read()[0].startswith(b"-")
        assert three.ask_all(("GET", "k"), ("SET", "k", 2)) == [bulk("v"), OK]
        assert zero.ask("GET", "k") == NULL2
        five.close()


def test_commands_about_two_databases(redis: RedisProcess, terrace: TerraceProcess) -> None:
    with Wire(terrace.port) as wire, Wire(terrace.port) as zero:
        zero.ask("FLUSHALL")
        wire.ask_all(("SELECT", 3), ("SET", "a", "three"), ("GET", "a"))
        assert wire.ask_all(("COPY", "a", "b", "DB", 4), ("MOVE", "a", 0), ("GET", "a")) == [
            integer(1), integer(1), NULL2,
        ]  # fmt: skip
        assert zero.ask_all(("GET", "a"), ("GET", "a")) == [bulk("three")] * 2
        assert wire.ask_all(("SELECT", 4), ("GET", "b"), ("SWAPDB", 0, 4), ("GET", "b")) == [
            OK, bulk("three"), OK, NULL2,
        ]  # fmt: skip
        assert wire.ask("GET", "a") == bulk("three")
        assert zero.ask_all(("GET", "a"), ("GET", "b")) == [NULL2, bulk("three")]


@pytest.mark.parametrize("proto", [2, 3])
def test_select_in_a_transaction(redis: RedisProcess, terrace: TerraceProcess, proto: int) -> None:
    with Wire(terrace.port, proto) as wire, Wire(redis.port) as direct:
        wire.ask("FLUSHALL")
        wire.ask_all(("SELECT", 1), ("MULTI",), ("SELECT", 2), ("SET", "k", 1), ("EXEC",))
        assert wire.ask("GET", "k") == bulk("1")
        wire.ask_all(("MULTI",), ("SELECT", 99), ("SET", "l", 1), ("EXEC",))
        wire.ask_all(("SET", "m", 1), ("MULTI",), ("SET", "n", 1), ("EXEC",))
        sizes = [direct.ask_all(("SELECT", db), ("DBSIZE",))[1] for db in range(3)]
        assert sizes == [integer(0), integer(0), integer(4)]


def test_many_databases_at_once(redis: RedisProcess, terrace: TerraceProcess) -> None:
    """Reads and writes of all of them between each other, on few connections."""
    wires = [Wire(terrace.port) for _ in range(16)]
    try:
        for db, wire in enumerate(wires):
            wire.ask_all(("SELECT", db), ("FLUSHDB",))
        for number in range(20):
            for db, wire in enumerate(wires):
                for command in (("GET", "k"), ("SET", "k", f"{db}.{number}"), ("GET", "k")):
                    wire.send(*command)
                wire.send("INCR", "n")
            for db, wire in enumerate(wires):
                before = bulk(f"{db}.{number - 1}") if number else NULL2
                expected = [before, OK, bulk(f"{db}.{number}"), integer(number + 1)]
                assert wire.read(4) == expected
    finally:
        for wire in wires:
            wire.close()
