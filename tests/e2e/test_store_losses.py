"""Nothing acknowledged is lost: Redis without persistence, or PostgreSQL, killed under writers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest

from tests.e2e.ledger import Ledger
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Postgres

Loss: TypeAlias = Callable[[RedisProcess, Postgres], None]

WRITERS = 6
SOAK_S = float(os.environ.get("TERRACE_SOAK_S", "60"))


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@contextlib.contextmanager
def two_terraces(redis: RedisProcess, postgres: Postgres) -> Iterator[list[TerraceProcess]]:
    database = postgres.create_database()
    database.close()  # its server will be stopped
    options = {
        "l3__dsn": database.dsn,
        "l3__store": json.dumps([{"keys": "s:*"}]),
    }
    with running_terrace(redis.url, **options) as one, running_terrace(redis.url, **options) as two:
        for terrace in (one, two):
            wait_stored(terrace)
        yield [one, two]


def wait_stored(terrace: TerraceProcess) -> None:
    def is_stored() -> bool:
        with Wire(terrace.port) as wire:
            return wire.ask("SET", "s:probe", "v") == b"+OK\r\n"

    terrace._wait(is_stored, "store")


def wait_swept(redis: RedisProcess) -> None:
    with Wire(redis.port) as direct:
        wait_until(
            lambda: direct.ask("ZSCORE", "__terrace:store", "S") == b"$-1\r\n",
            "older keys have left Redis",
        )


def lose_redis(redis: RedisProcess, postgres: Postgres) -> None:
    redis.kill()
    redis.start()


def lose_postgres(redis: RedisProcess, postgres: Postgres) -> None:
    postgres.stop()
    postgres.start()


def flush(redis: RedisProcess, postgres: Postgres) -> None:
    with Wire(redis.port) as wire:
        wire.ask("FLUSHALL")


def lose_both(redis: RedisProcess, postgres: Postgres) -> None:
    lose_redis(redis, postgres)
    lose_postgres(redis, postgres)


def swap_twice(redis: RedisProcess, postgres: Postgres) -> None:
    """The database comes back as it was, while another one was written to."""
    with Wire(redis.port) as wire:
        wire.ask("SWAPDB", 0, 1)
        time.sleep(0.1)
        wire.ask("SWAPDB", 0, 1)


def restore_a_snapshot(redis: RedisProcess, postgres: Postgres) -> None:
    with Wire(redis.port) as wire:
        wire.ask("SAVE")
    time.sleep(0.1)
    lose_redis(redis, postgres)


ENOUGH = 50  # acknowledged writes; a busy machine has longer to come to them
PATIENCE_S = 10.0
LOSSES = [lose_redis, lose_postgres, flush, lose_both]
OLDER = [swap_twice, restore_a_snapshot]  # is read for a moment


def run(postgres: Postgres, losses: list[Loss], duration_s: float, *, looks: bool = True) -> Ledger:
    ledger = Ledger("s:", looks=looks)
    with (
        running_redis() as redis,
        two_terraces(redis, postgres) as terraces,
        ThreadPoolExecutor(WRITERS) as writers,
    ):
        ports = [terrace.port for terrace in terraces]
        done = [writers.submit(ledger.write, ports, number) for number in range(WRITERS)]
        try:
            until = time.monotonic() + duration_s
            while (now := time.monotonic()) < until or (
                sum(list(ledger.acknowledged.values())) <= ENOUGH and now < until + PATIENCE_S
            ):
                time.sleep(0.2)  # writes go on between two losses
                random.choice(losses)(redis, postgres)
        finally:
            ledger.stop.set()
        for future in done:
            future.result(20)
        for terrace in terraces:
            wait_stored(terrace)
        wait_swept(redis)
        with Wire(terraces[0].port) as wire:
            ledger.check(wire)
        lose_redis(redis, postgres)
        for terrace in terraces:
            wait_stored(terrace)
            wait_swept(redis)
            with Wire(terrace.port) as wire:
                ledger.check(wire)
    return ledger


@pytest.mark.parametrize("loss", [lose_redis, lose_postgres, *OLDER])
def test_nothing_acknowledged_is_lost(own_postgres: Postgres, loss: Loss) -> None:
    ledger = run(own_postgres, [loss], 1.0, looks=loss not in OLDER)
    assert sum(ledger.acknowledged.values()) > ENOUGH


@pytest.mark.soak
@pytest.mark.parametrize("losses", [LOSSES, [*LOSSES, *OLDER]], ids=["lost", "older"])
def test_nothing_acknowledged_is_lost_for_long(own_postgres: Postgres, losses: list[Loss]) -> None:
    ledger = run(own_postgres, losses, SOAK_S, looks=losses is LOSSES)
    print(ledger.acknowledged.total(), "acknowledged", ledger.sent.total(), ledger.errors)
