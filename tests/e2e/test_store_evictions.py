"""Stored keys that Terrace takes out of Redis beside writers: nothing acknowledged is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.ledger import Ledger
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres

__all__ = ["postgres"]

WRITERS = 4
STATE = "__terrace:store"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()


@pytest.fixture(scope="module")
def terrace(redis: RedisProcess, database: Database) -> Iterator[TerraceProcess]:
    with running_terrace(
        redis.url, l3__dsn=database.dsn, l3__store=json.dumps([{"keys": "s:*"}])
    ) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "reach PostgreSQL")
        yield terrace


KEYS = [f"s:k:shared:{n}" for n in range(4)]
EVICTIONS = {
    "keys": ("TIER.INVALIDATE", "KEYS", *KEYS, "other"),
    "pattern": ("TIER.INVALIDATE", "s:*"),
}


def again_and_again(port: int, command: tuple[str, ...], stop: threading.Event) -> None:
    with Wire(port) as wire:
        while not stop.is_set():
            assert wire.ask(*command).startswith(b":")
            time.sleep(0.001)  # writers go on between two


@pytest.mark.parametrize("way", EVICTIONS)
def test_increments_beside_an_invalidation_are_all_there(
    terrace: TerraceProcess, redis: RedisProcess, way: str
) -> None:
    ledger = Ledger("s:k:")
    with Wire(redis.port) as direct:
        direct.ask("FLUSHALL")
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        done = [threads.submit(ledger.write, [terrace.port], n) for n in range(WRITERS)]
        done += [threads.submit(again_and_again, terrace.port, EVICTIONS[way], ledger.stop)]
        time.sleep(0.8)
        ledger.stop.set()
        for future in done:
            future.result(20)
    with Wire(terrace.port) as wire:
        ledger.check(wire)
        wire.ask(*EVICTIONS[way])
        ledger.check(wire)
    assert ledger.acknowledged.total() > 20
    told = {text for text in ledger.errors if "send it again" not in text}
    assert told <= {"L3 (postgres) is unavailable"}, ledger.errors  # contended
