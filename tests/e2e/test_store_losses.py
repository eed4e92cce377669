"""Nothing acknowledged is lost: Redis without persistence, or PostgreSQL, killed under writers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Postgres

WRITERS = 6
SHARED = 4  # counters that all writers increment
SOAK_S = float(os.environ.get("TERRACE_SOAK_S", "60"))


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


class Ledger:
    """What writers sent, and which of it was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.deleted: dict[str, bool] = {}
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def write(self, terraces: list[TerraceProcess], number: int) -> None:
        """One writer: a key of its own that only grows, and counters shared with the others."""
        chance = random.Random(number)
        own = f"s:own:{number}"
        while not self.stop.is_set():
            with contextlib.suppress(OSError), Wire(chance.choice(terraces).port) as wire:
                while not self.stop.is_set():
                    shared = f"s:shared:{chance.randrange(SHARED)}"
                    self.step(wire, own, "SET", own, self.sent[own] + 1)
                    self.step(wire, shared, "INCR", shared)
                    self.look(wire, own)

    def step(self, wire: Wire, key: str, *command: str | int) -> None:
        with self._lock:
            self.sent[key] += 1
        reply = wire.ask(*command)
        if reply.startswith(b"-"):
            with self._lock:
                self.errors[reply.split(b":")[1].decode().strip()] += 1
            time.sleep(0.005)  # a client that backs off
        else:
            with self._lock:
                self.acknowledged[key] = (
                    self.sent[key] if command[0] == "SET" else self.acknowledged[key] + 1
                )

    def look(self, wire: Wire, own: str) -> None:
        """Nobody else writes it: it is what was acknowledged last, or sent since."""
        reply = wire.ask("GET", own)
        if reply.startswith(b"-"):
            return
        value = 0 if reply == b"$-1\r\n" else int(reply.split(b"\r\n")[1])
        if not self.acknowledged[own] <= value <= self.sent[own]:
            self.wrong.append(f"{own} is {value}, acknowledged {self.acknowledged[own]}")

    def check(self, wire: Wire) -> None:
        assert self.wrong == []
        for key, sent in sorted(self.sent.items()):
            reply = wire.ask("GET", key)
            value = 0 if reply == b"$-1\r\n" else int(reply.split(b"\r\n")[1])
            assert self.acknowledged[key] <= value <= sent, (key, reply, self.errors)


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


LOSSES = [lose_redis, lose_postgres, flush, lose_both]


def run(postgres: Postgres, loss: object, duration_s: float) -> Ledger:
    ledger = Ledger()
    with (
        running_redis() as redis,
        two_terraces(redis, postgres) as terraces,
        ThreadPoolExecutor(WRITERS) as writers,
    ):
        done = [writers.submit(ledger.write, terraces, number) for number in range(WRITERS)]
        try:
            until = time.monotonic() + duration_s
            while time.monotonic() < until:
                time.sleep(0.2)  # writes go on between two losses
                (loss if callable(loss) else random.choice(LOSSES))(redis, postgres)
        finally:
            ledger.stop.set()
        for future in done:
            future.result(20)
        for terrace in terraces:
            wait_stored(terrace)
        with Wire(terraces[0].port) as wire:
            ledger.check(wire)
        lose_redis(redis, postgres)
        for terrace in terraces:
            wait_stored(terrace)
            with Wire(terrace.port) as wire:
                ledger.check(wire)
    return ledger


@pytest.mark.parametrize("loss", [lose_redis, lose_postgres])
def test_nothing_acknowledged_is_lost(own_postgres: Postgres, loss: object) -> None:
    ledger = run(own_postgres, loss, 1.0)
    assert sum(ledger.acknowledged.values()) > 50


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_for_long(own_postgres: Postgres) -> None:
    ledger = run(own_postgres, None, SOAK_S)
    print(ledger.acknowledged.total(), "acknowledged", ledger.sent.total(), ledger.errors)
