"""Stored keys that Terrace takes out of Redis beside writers: nothing acknowledged is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.ledger import Ledger
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres

__all__ = ["postgres"]

WRITERS = 4
STATE = "__terrace:store"
QUEUED = [b"+QUEUED\r\n"]


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


KEYS = [f"s:keys:shared:{n}" for n in range(4)]
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
    ledger = Ledger(f"s:{way}:")
    with Wire(redis.port) as direct:
        direct.ask("FLUSHALL")
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        done = [threads.submit(ledger.write, [terrace.port], n) for n in range(WRITERS)]
        done += [threads.submit(again_and_again, terrace.port, EVICTIONS[way], ledger.stop)]
        try:
            time.sleep(0.8)
            wait_until(lambda: ledger.acknowledged.total() > 20, "some writes are acknowledged")
        finally:
            ledger.stop.set()
        for future in done:
            future.result(20)
    with Wire(terrace.port) as wire:
        ledger.check(wire)
        wire.ask(*EVICTIONS[way])
        ledger.check(wire)
    told = {text for text in ledger.errors if "send it again" not in text}
    assert told <= {"L3 (postgres) is unavailable"}, ledger.errors  # contended


READS = {
    "EXISTS": (("EXISTS", "s:r:1", "s:r:2"), b":2\r\n"),
    "EXISTS with one that is absent": (("EXISTS", "s:r:1", "s:r:none"), b":1\r\n"),
    "TTL": (("TTL", "s:r:1"), b":-1\r\n"),
    "STRLEN": (("STRLEN", "s:r:2"), b":3\r\n"),
    "BITCOUNT": (("BITCOUNT", "s:r:1"), b":15\r\n"),
    "HGET": (("HGET", "s:r:h", "field"), b"$5\r\nvalue\r\n"),
    "MGET": (("MGET", "s:r:1", "s:r:2"), b"*2\r\n$3\r\none\r\n$3\r\ntwo\r\n"),
}


def ways(command: tuple[str, ...]) -> list[tuple[tuple[str, ...], ...]]:
    return [(command,), (("MULTI",), command, ("EXEC",))]


@pytest.mark.parametrize("what", ["FLUSHALL", "TIER.INVALIDATE"])
def test_a_stored_key_that_leaves_redis_is_absent_to_no_read(
    terrace: TerraceProcess, redis: RedisProcess, what: str
) -> None:
    stop, wrong = threading.Event(), dict[str, bytes]()
    answered = 0
    with Wire(terrace.port) as wire:
        for command in (("SET", "s:r:1", "one"), ("SET", "s:r:2", "two"),
                        ("HSET", "s:r:h", "field", "value")):  # fmt: skip
            assert not wire.ask(*command).startswith(b"-")

    def disturb() -> None:
        with Wire(redis.port) as direct, Wire(terrace.port) as wire:
            while not stop.is_set():
                if what == "FLUSHALL":
                    direct.ask("FLUSHALL")
                else:
                    wire.ask("TIER.INVALIDATE", "s:r:*")
                time.sleep(0.003)

    with ThreadPoolExecutor(1) as threads, Wire(terrace.port) as wire:
        done = threads.submit(disturb)
        until = time.monotonic() + 1.5
        try:
            while time.monotonic() < until:
                for name, (command, right) in READS.items():
                    for way in ways(command):
                        reply = wire.ask_all(*way)[-1]
                        if reply.startswith(b"-"):  # said honestly
                            continue
                        answered += 1
                        if reply != (right if len(way) == 1 else b"*1\r\n" + right):
                            wrong[f"{name}, {len(way)}"] = reply
        finally:
            stop.set()
        done.result(10)
    assert wrong == {}
    assert answered > 20


def test_a_transaction_tells_what_was_taken_out_under_it_from_what_was_deleted(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    with Wire(terrace.port) as wire, Wire(terrace.port) as other, Wire(redis.port) as direct:
        other.ask("SET", "s:t", "value")
        assert wire.ask_all(("MULTI",), ("GET", "s:t"), ("SET", "plain", "1"))[1:] == QUEUED * 2
        other.ask("TIER.INVALIDATE", "KEYS", "s:t")
        assert wire.ask("EXEC").startswith(b"-ERR terrace: ")
        assert wire.ask_all(("MULTI",), ("GET", "s:t"))[1:] == QUEUED
        direct.ask("FLUSHALL")
        assert wire.ask("EXEC").startswith(b"-ERR terrace: ")
        assert wire.ask_all(("MULTI",), ("GET", "s:t"), ("SELECT", "1"), ("GET", "s:t"))[1:] == (
            QUEUED * 3
        )
        other.ask("TIER.INVALIDATE", "s:*")
        assert wire.ask("EXEC").startswith(b"-ERR terrace: ")
        wire.ask("SELECT", 0)
        assert wire.ask_all(("MULTI",), ("GET", "s:t"), ("GET", "s:none"))[1:] == QUEUED * 2
        assert other.ask("DEL", "s:t") == b":1\r\n"
        assert wire.ask("EXEC") == b"*2\r\n$-1\r\n$-1\r\n"


@pytest.mark.parametrize("command", [
    ("GET", "s:none"), ("EXISTS", "s:none"), ("MGET", "s:none", "other"), ("TTL", "s:none"),
    ("HGETALL", "s:none"), ("HLEN", "s:none"), ("MGET", "s:none", "s:one"),
])  # fmt: skip
def test_a_client_that_caches_may_ask_for_what_the_store_lacks(
    terrace: TerraceProcess, command: tuple[str, ...]
) -> None:
    with Wire(terrace.port, 3) as tracks, Wire(terrace.port, 3) as plain:
        plain.ask("SET", "s:one", "1")
        assert tracks.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        reply, right = tracks.ask(*command), plain.ask(*command)
        assert reply == right
        assert tracks.read()[0].startswith(b">2\r\n$10\r\ninvalidate\r\n")


def test_a_key_that_redis_evicts_is_absent_to_no_write(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    ledger = Ledger("s:e:")
    keys = [f"s:e:shared:{n}" for n in range(4)]

    def evict() -> None:
        with Wire(redis.port) as direct:
            while not ledger.stop.is_set():
                direct.ask("UNLINK", *keys)
                time.sleep(0.001)

    with ThreadPoolExecutor(WRITERS + 1) as threads:
        done = [threads.submit(ledger.write, [terrace.port], n) for n in range(WRITERS)]
        done += [threads.submit(evict)]
        try:
            time.sleep(0.8)
            wait_until(lambda: ledger.acknowledged.total() > 20, "some writes are acknowledged")
        finally:
            ledger.stop.set()
        for future in done:
            future.result(20)
    with Wire(terrace.port) as wire:
        ledger.check(wire)


def test_a_transaction_undoes_what_it_made_of_an_evicted_key(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        wire.ask("SET", "s:n", 41)
        assert wire.ask_all(("MULTI",), ("SET", "s:m", 1), ("INCR", "s:n"))[1:] == QUEUED * 2
        direct.ask("UNLINK", "s:n")
        assert b"send it again" in wire.ask("EXEC")
        assert wire.ask_all(("MULTI",), ("INCR", "s:n"), ("DEL", "s:n"), ("INCR", "s:n"),
                            ("GETDEL", "s:n"), ("EXEC",))[-1] == (
            b"*4\r\n:42\r\n:1\r\n:1\r\n$1\r\n1\r\n"
        )  # fmt: skip
        assert wire.ask_all(("GET", "s:n"), ("INCR", "s:n")) == [b"$-1\r\n", b":1\r\n"]
