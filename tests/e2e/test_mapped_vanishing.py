"""A key that a view has is absent to no command, whatever takes it out of Redis beside it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.tiers.postgres_fixture import Database, Postgres, postgres

__all__ = ["postgres"]

QUERY = "SELECT id, 'word ' || id AS word FROM generate_series(1, 20) id"
VIEWS = [
    {"keys": "w:{id}", "view": "w", "query": QUERY, "reply": "string:word"},
    {"keys": "h:{id}", "view": "h", "query": QUERY, "reply": "hash"},
    {"keys": "b:{id}", "view": "b", "query": QUERY, "reply": "string:word",
     "ttl": "2ms", "ttl_jitter": 0},
    {"keys": "c:{id}", "view": "c", "query": QUERY, "reply": "hash", "ttl": "2ms",
     "ttl_jitter": 0},
]  # fmt: skip
FOR_S = 0.8
CLIENTS = 4
GET = "return redis.call('GET', KEYS[1])"
COUNT = "return redis.call('EXISTS', KEYS[1], KEYS[2])"
LIVES = "return redis.call('PTTL', KEYS[1]) >= 0"
NIL = b"$-1\r\n"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    database = postgres.create_database()
    yield database
    database.close()


@pytest.fixture(scope="module", params=["true", "false"], ids=["L1", "no L1"])
def terrace(
    redis: RedisProcess, database: Database, request: pytest.FixtureRequest
) -> Iterator[TerraceProcess]:
    options = {"l3__dsn": database.dsn, "l3__view": json.dumps(VIEWS)}
    with running_terrace(redis.url, l1__enabled=request.param, **options) as terrace:
        terrace._wait(lambda: terrace.readiness()[1]["l3"] == "ready", "serve the views")
        yield terrace


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def in_multi(*command: str | int) -> Callable[[Wire], bytes]:
    def ask(wire: Wire) -> bytes:
        return wire.ask_all(("MULTI",), command, ("EXEC",))[-1]

    return ask


def once(*command: str | int) -> Callable[[Wire], bytes]:
    return lambda wire: wire.ask(*command)


def watched(key: str) -> Callable[[Wire], bytes]:
    def ask(wire: Wire) -> bytes:
        reply = wire.ask_all(("WATCH", key), ("MULTI",), ("GET", key), ("EXEC",))[-1]
        return b"*1\r\n" + bulk(WORD) if reply == b"*-1\r\n" else reply

    return ask


WORD = "word 3"


def questions(string: str, row: str) -> dict[str, tuple[Callable[[Wire], bytes], bytes]]:
    """What is asked, and its only right answer."""
    word, keys = bulk(WORD), [f"{string}:{i}" for i in range(1, 9)]
    all_words = b"*8\r\n" + b"".join(bulk(f"word {i}") for i in range(1, 9))
    key = keys[2]
    return {
        "GET": (once("GET", key), word),
        "GETRANGE": (once("GETRANGE", key, 0, 3), bulk("word")),
        "STRLEN": (once("STRLEN", key), b":6\r\n"),
        "TYPE": (once("TYPE", key), b"+string\r\n"),
        "HGET": (once("HGET", row, "word"), word),
        "HMGET": (once("HMGET", row, "none", "word"), b"*2\r\n" + NIL + word),
        "MGET": (once("MGET", *keys), all_words),
        "MGET twice": (once("MGET", key, key), b"*2\r\n" + word + word),
        "EXISTS": (once("EXISTS", *keys), b":8\r\n"),
        "EVAL": (once("EVAL", GET, 1, key), word),
        "EVAL of two keys": (once("EVAL", COUNT, 2, *keys[:2]), b":2\r\n"),
        "SETNX": (once("SETNX", key, "v"), b":0\r\n"),
        "SET NX": (once("SET", key, "v", "NX"), NIL),
        "HSETNX": (once("HSETNX", row, "word", "v"), b":0\r\n"),
        "PTTL in EVAL": (once("EVAL", LIVES, 1, key), b":1\r\n"),
        "GET in MULTI": (in_multi("GET", key), b"*1\r\n" + word),
        "EXISTS in MULTI": (in_multi("EXISTS", *keys), b"*1\r\n:8\r\n"),
        "HGET in MULTI": (in_multi("HGET", row, "word"), b"*1\r\n" + word),
        "EVAL in MULTI": (in_multi("EVAL", GET, 1, key), b"*1\r\n" + word),
        "GET of a WATCHed key": (watched(key), b"*1\r\n" + word),
    }  # fmt: skip


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Something done again and again meanwhile."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def wrong_answers(port: int, string: str, row: str, for_s: float = FOR_S) -> dict[str, bytes]:
    """One wrong answer to each of the questions that got one."""
    wrong: dict[str, bytes] = {}
    asked = [0]

    def client(number: int) -> None:
        until = time.monotonic() + for_s
        with Wire(port) as wire:
            while time.monotonic() < until:
                for name, (ask, right) in questions(string, row).items():
                    reply = ask(wire)
                    asked[0] += 1
                    if reply != right:
                        wrong[name] = reply

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked[0] >= CLIENTS * len(questions(string, row))
    return wrong


def test_with_nothing_beside_but_its_ttl(terrace: TerraceProcess) -> None:
    assert wrong_answers(terrace.port, "b", "c:3") == {}
    assert terrace.metrics()["terrace_l3_rows_brought_total"] > 0


def changes(row: str) -> dict[str, tuple[tuple[str | int, ...], ...]]:
    """What builds on the row; on nothing it would make a key without a TTL, and hide the row."""
    return {
        "HSET": (("HSET", row, "extra", "x"),),
        "HINCRBY": (("HINCRBY", row, "count", 1),),
        "HSETNX": (("HSETNX", row, "extra", "x"),),
        "EVAL": (("EVAL", "return redis.call('HSET', KEYS[1], 'extra', 'x')", 1, row),),
        "MULTI": (("MULTI",), ("HSET", row, "extra", "x"), ("EXEC",)),
    }


@pytest.mark.parametrize("name", changes(""))
def test_no_change_is_built_on_nothing(
    terrace: TerraceProcess, redis: RedisProcess, name: str
) -> None:
    made = 0
    with Wire(terrace.port) as wire, Wire(redis.port) as direct:
        direct.ask("UNLINK", *(f"c:{i}" for i in range(1, 21)))
        until = time.monotonic() + FOR_S / 4
        while time.monotonic() < until or made < 3:
            row = f"c:{made % 20 + 1}"
            assert not wire.ask_all(*changes(row)[name])[-1].startswith(b"-")
            made += 1
            without_ttl, word = direct.ask_all(("PTTL", row), ("HGET", row, "word"))
            assert without_ttl != b":-1\r\n", word
            if made % 7 == 0:
                direct.ask("UNLINK", row)


def test_an_evicted_key_is_absent_to_no_command(
    terrace: TerraceProcess, redis: RedisProcess
) -> None:
    with Wire(redis.port) as direct, Wire(redis.port) as filler:
        used = next(
            int(line.partition(":")[2])
            for line in direct.ask("INFO", "memory").decode().splitlines()
            if line.startswith("used_memory:")
        )
        direct.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        direct.ask("CONFIG", "SET", "maxmemory", used + 400_000)
        numbers = itertools.count()
        try:
            with beside(lambda: filler.ask("SET", f"filler:{next(numbers) % 5000}", "x" * 2000)):
                assert wrong_answers(terrace.port, "w", "h:3") == {}
        finally:
            direct.ask("CONFIG", "SET", "maxmemory", 0)
            direct.ask("FLUSHALL")


@pytest.mark.parametrize("what", ["FLUSHALL", "TIER.INVALIDATE w:* h:*", "UNLINK", "TIER.REFRESH"])
def test_whatever_takes_it_out_of_redis(
    terrace: TerraceProcess, redis: RedisProcess, what: str
) -> None:
    with Wire(redis.port) as direct, Wire(terrace.port) as wire:

        def disturb() -> None:
            if what == "FLUSHALL":
                direct.ask("FLUSHALL")
                time.sleep(0.0003)
            elif what == "UNLINK":
                direct.ask("UNLINK", "h:3", *(f"w:{i}" for i in range(1, 9)))
            elif what == "TIER.REFRESH":
                direct.ask("UNLINK", "h:3", *(f"w:{i}" for i in range(1, 9)))
                wire.ask("TIER.REFRESH", "w")
                wire.ask("TIER.REFRESH", "h")
            else:
                for pattern in what.split()[1:]:
                    wire.ask("TIER.INVALIDATE", pattern)

        with beside(disturb):
            assert wrong_answers(terrace.port, "w", "h:3") == {}
