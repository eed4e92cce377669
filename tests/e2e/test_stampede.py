"""Very many clients miss the same rows at once: PostgreSQL is asked a handful of times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, database, eventually, postgres

__all__ = ["database", "postgres"]

KEYS = 100
CLIENTS = 50  # of each proxy; each asks for every key
HANDFUL = 12  # queries of two proxies, of which the second finds most rows read by the first
VIEW = {
    "keys": "n:{id}",
    "view": "numbers",
    "reply": "string:word",
    "query": f"SELECT id, 'word ' || id AS word FROM generate_series(1, {KEYS}) id",
}


@pytest.fixture
def fleet(redis: RedisProcess, database: Database) -> Iterator[list[TerraceProcess]]:
    with ExitStack() as stack:
        fleet = [
            stack.enter_context(
                running_terrace(redis.url, l3__dsn=database.dsn, l3__view=json.dumps([VIEW]))
            )
            for _ in range(2)
        ]
        for terrace in fleet:
            eventually(lambda terrace=terrace: terrace.readiness()[1]["l3"] == "ready")
        yield fleet


def test_10_000_misses_of_100_keys(fleet: list[TerraceProcess], redis: RedisProcess) -> None:
    reads = [("GET", f"n:{i}") for i in range(1, KEYS + 1)]
    expected = [b"$%d\r\nword %d\r\n" % (len(b"word %d" % i), i) for i in range(1, KEYS + 1)]
    with ExitStack() as stack:
        stack.enter_context(Wire(redis.port)).ask("FLUSHALL")
        wires = [stack.enter_context(Wire(t.port)) for t in fleet for _ in range(CLIENTS)]
        assert len(wires) * len(reads) == 10_000
        for wire in wires:
            for read in reads:
                wire.send(*read)
        for wire in wires:
            assert wire.read(len(reads)) == expected
    assert sum(int(terrace.figure("l3_queries")) for terrace in fleet) <= HANDFUL
