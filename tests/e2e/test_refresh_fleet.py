"""One refresher for a fleet: killed at any moment, another takes over within five seconds."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, eventually, postgres

__all__ = ["postgres"]

TAKES_OVER_S = 5.0


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    database.run(
        "CREATE TABLE base (id int, body text)",
        "INSERT INTO base SELECT i, 'first' FROM generate_series(1, 100) i",
        "CREATE TABLE delay AS SELECT 0.0::float8 AS seconds",
    )
    yield database
    database.close()


def view(query: str, refresh: str) -> str:
    return json.dumps([{"keys": "item:{id}", "view": "items", "query": query, "refresh": refresh}])


def is_leader(terrace: TerraceProcess) -> bool:
    return terrace.figure("l3_is_refresher") == "1"


def fleet(
    stack: ExitStack, redis: RedisProcess, database: Database, views: str
) -> list[TerraceProcess]:
    """Two, of which the first is the leader."""
    first = stack.enter_context(running_terrace(redis.url, l3__dsn=database.dsn, l3__view=views))
    eventually(lambda: is_leader(first))
    second = stack.enter_context(running_terrace(redis.url, l3__dsn=database.dsn, l3__view=views))
    return [first, second]


def kill(terrace: TerraceProcess) -> float:
    terrace.process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    terrace.process.wait(5)
    return killed_at


def test_leader_killed_while_idle(redis: RedisProcess, database: Database) -> None:
    views = view("SELECT id, body FROM base", "200ms")
    with ExitStack() as stack:
        leader, other = fleet(stack, redis, database, views)
        assert not is_leader(other)
        killed_at = kill(leader)
        eventually(lambda: is_leader(other), timeout_s=2 * TAKES_OVER_S)
        assert time.monotonic() - killed_at < TAKES_OVER_S
        with Wire(other.port) as wire:
            assert b"first" in wire.ask("GET", "item:3")
            database.run("UPDATE base SET body = 'second' WHERE id = 3")
            eventually(lambda: b"second" in wire.ask("GET", "item:3"))


def test_leader_killed_in_the_middle_of_a_refresh(redis: RedisProcess, database: Database) -> None:
    """The server must notice, abort the refresh and give the lock to another."""
    views = view("SELECT id, body FROM base, delay, pg_sleep(seconds)", "200ms")
    with ExitStack() as stack:
        leader, other = fleet(stack, redis, database, views)
        eventually(lambda: other.readiness()[1]["l3"] == "ready")
        database.run("UPDATE delay SET seconds = 60")
        running = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'terrace refresher'"
            " AND query LIKE 'REFRESH%' AND state = 'active' AND wait_event = 'PgSleep'"
        )
        eventually(lambda: database.rows(running) == [(1,)])
        database.run("UPDATE delay SET seconds = 0")
        killed_at = kill(leader)
        eventually(lambda: is_leader(other), timeout_s=2 * TAKES_OVER_S)
        assert time.monotonic() - killed_at < TAKES_OVER_S


def test_two_regions_on_one_schema(redis: RedisProcess, database: Database) -> None:
    """Each Redis has a leader of its own, and is told of refreshes and pushes alike."""
    views = view("SELECT id, body FROM base", "100ms")
    with ExitStack() as stack:
        other = stack.enter_context(running_redis())
        both = [
            stack.enter_context(running_terrace(each.url, l3__dsn=database.dsn, l3__view=views))
            for each in (redis, other)
        ]
        for terrace in both:
            eventually(lambda one=terrace: is_leader(one))
        wires = [stack.enter_context(Wire(terrace.port)) for terrace in both]
        for wire in wires:
            wire.ask("FLUSHALL")  # it may hold rows of another test's database
            assert b"first" in wire.ask("GET", "item:3")
            assert b"first" in wire.ask("GET", "item:4")
        database.run("UPDATE base SET body = 'second' WHERE id = 3")
        for wire in wires:
            eventually(lambda one=wire: b"second" in one.ask("GET", "item:3"))
        assert sum(float(terrace.figure("l3_refreshes")) > 0 for terrace in both) == 1
        database.run("SELECT terrace.push('item:{id}', ARRAY['item:4'])")
        for server in (redis, other):
            eventually(lambda one=server: not holds(one, "item:4"))


def holds(redis: RedisProcess, key: str) -> bool:
    with Wire(redis.port) as wire:
        return wire.ask("EXISTS", key) == b":1\r\n"
