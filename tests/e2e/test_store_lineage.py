"""Redis with stored keys of another time: a swap, a snapshot, a lagging replica, a second Redis.

What was acknowledged is in the table; older data in Redis must not be written back over it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres

__all__ = ["postgres"]

TRY_S = 10.0


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@contextlib.contextmanager
def storing(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__store=json.dumps([{"keys": "s:*"}])
    ) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "reach PostgreSQL")
        yield terrace


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with storing(redis, database) as terrace:
        yield terrace


def until_done(wire: Wire, *command: str | int) -> bytes:
    """As a client that sends it again when it was told to be undone, or not sent."""
    until = time.monotonic() + TRY_S
    while (reply := wire.ask(*command)).startswith(b"-") and time.monotonic() < until:
        time.sleep(0.01)
    return reply


def in_table(database: Database, key: str) -> bytes:
    ((value,),) = database.rows(f"SELECT value FROM terrace.entries WHERE key = '{key}'")
    assert isinstance(value, bytes)
    return value


def add_50(wire: Wire) -> None:
    for key in ("s:n", "s:m"):
        assert until_done(wire, "INCRBY", key, 50) == b":150\r\n"


def swap_twice(redis: RedisProcess, wire: Wire) -> None:
    with Wire(redis.port) as direct:
        direct.ask("SWAPDB", 0, 1)
        add_50(wire)
        direct.ask("SWAPDB", 0, 1)


def swap_twice_through_terrace(redis: RedisProcess, wire: Wire) -> None:
    wire.ask("SWAPDB", 0, 1)
    add_50(wire)
    wire.ask("SWAPDB", 0, 1)


def restart_with_a_snapshot(redis: RedisProcess, wire: Wire) -> None:
    with Wire(redis.port) as direct:
        assert direct.ask("SAVE") == b"+OK\r\n"
    add_50(wire)
    redis.kill()
    redis.start()


def fail_over_to_a_copy(redis: RedisProcess, wire: Wire) -> None:
    """The same process, with the data of a replica that did not hear of the last writes."""
    with running_redis() as copy, Wire(redis.port) as direct, Wire(copy.port) as other:
        for server in (direct, other):
            server.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        other.ask("REPLICAOF", "127.0.0.1", redis.port)
        wait_until(lambda: other.ask("GET", "s:n") == b"$3\r\n100\r\n", "it is copied")
        other.ask("REPLICAOF", "NO", "ONE")
        add_50(wire)
        direct.ask("REPLICAOF", "127.0.0.1", copy.port)
        wait_until(lambda: b"link_status:up" in direct.ask("INFO", "replication"), "it is back")
        direct.ask("REPLICAOF", "NO", "ONE")


CHANGES: list[Callable[[RedisProcess, Wire], None]] = [
    swap_twice, swap_twice_through_terrace, restart_with_a_snapshot, fail_over_to_a_copy,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_older_data_in_redis_is_neither_written_back_nor_read_for_long(
    redis: RedisProcess, database: Database, terrace: TerraceProcess, change: object
) -> None:
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        for n in range(1200):  # more than a page
            wire.send("SET", f"s:{n}", "v")
        wire.send("SET", "other", "stays")
        direct.ask("SET", "s:past", "Terrace")
        replies = wire.read(1201)
        assert set(replies) == {b"+OK\r\n"}
        for key in ("s:n", "s:m"):
            assert until_done(wire, "SET", key, 100) == b"+OK\r\n"
        assert callable(change)
        change(redis, wire)
        assert until_done(wire, "INCR", "s:n") == b":151\r\n"
        assert in_table(database, "s:n") == b"151"
        assert until_done(wire, "APPEND", "s:7", "+") == b":2\r\n"
        wait_until(lambda: wire.ask("GET", "s:m") == b"$3\r\n150\r\n", "it is read")
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        wait_until(lambda: direct.ask("ZSCORE", "__terrace:store", "S") == b"$-1\r\n", "swept")
        assert int(direct.ask("DBSIZE")[1:-2]) < 10
        assert wire.ask("GET", "s:past") == b"$7\r\nTerrace\r\n"  # Redis has the only one
        assert direct.ask("GET", "other") == b"$5\r\nstays\r\n"
        assert wire.ask("GET", "s:8") == b"$1\r\nv\r\n"


def test_two_redis_with_one_table_lose_nothing_acknowledged(database: Database) -> None:
    with (
        running_redis() as blue, running_redis() as green,
        storing(blue, database) as one, storing(green, database) as two,
        Wire(one.port) as first, Wire(two.port) as second,
    ):  # fmt: skip
        acknowledged = sent = 0
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            for wire in (first, second):
                sent += 1
                acknowledged += wire.ask("INCR", "s:both").startswith(b":")
        assert acknowledged > 1
        assert acknowledged <= int(in_table(database, "s:both")) <= sent
        assert "two Redis with one l3.schema" in one.log() + two.log()
        for wire in (first, second):
            value = until_done(wire, "INCRBY", "s:both", 0)
            assert int(value[1:-2]) == int(in_table(database, "s:both"))
