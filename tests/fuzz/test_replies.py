"""A Redis that answers garbage: Terrace says so to those who asked, stays up, and recovers.

The canary asks what Terrace answers itself; whoever asked Redis gets some reply, or is
disconnected, within the deadline. Nothing is checked of what garbage may look like: bytes
that happen to be RESP are passed on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess, running_redis
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire
from tests.fuzz.budget import SEED, within_budget
from tests.fuzz.canary import SECRET, Canary, assert_log_is_harmless, resident_kib
from tests.fuzz.hostile_redis import HostileRedis
from tests.fuzz.mutator import mutants

SINGS: list[tuple[tuple[Argument, ...], bytes]] = [
    (("PING",), b"+PONG\r\n"),
    (("ECHO", "alive"), b"$5\r\nalive\r\n"),
]
DEADLINE = "300ms"
ANSWERED_WITHIN_S = 5.0
GROWTH_KIB = 80_000
ASKS: tuple[tuple[Argument, ...], ...] = (
    ("GET", "k"), ("MGET", "k", "l"), ("HGETALL", "h"), ("SET", "k", "v"), ("INFO", "server"),
    ("EVAL", "return 1", 0), ("ZRANGE", "z", 0, -1, "WITHSCORES"), ("CONFIG", "GET", "maxmemory"),
    ("SCAN", 0), ("COMMAND", "COUNT"), ("SELECT", 3), ("GEOPOS", "g", "m"),
    ("CLIENT", "TRACKINGINFO"), ("SCRIPT", "LOAD", "return 2"), ("DBSIZE",),
)  # fmt: skip


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with running_redis() as server, Wire(server.port) as wire:
        wire.ask("SET", "k", "v")
        yield server


def ask_during(hostile: HostileRedis, terrace: TerraceProcess, garbage: bytes, number: int) -> None:
    """Some reply or the end of the connection, in time, to each of a few requests."""
    args = [ASKS[(number + step * 5) % len(ASKS)] for step in range(3)]
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(terrace.port, timeout_s=ANSWERED_WITHIN_S)) for _ in args]
        hostile.garbage = garbage
        try:
            for wire, ask in zip(wires, args, strict=True):
                wire.send(*ask)
            for wire, ask in zip(wires, args, strict=True):
                try:
                    wire.read()
                except ConnectionError:
                    pass
                except TimeoutError:
                    raise AssertionError(
                        f"{ask}: no answer when Redis said {garbage!r}; {terrace.log()}"
                    ) from None
        finally:
            hostile.garbage = None


def recovered(terrace: TerraceProcess) -> bool:
    with contextlib.suppress(ConnectionError), Wire(terrace.port) as wire:
        return wire.ask("GET", "k") == b"$1\r\nv\r\n" and wire.ask("SET", "k", "v") == b"+OK\r\n"
    return False


def test_garbage_is_survived(redis: RedisProcess) -> None:
    began = time.monotonic()
    options = {"l2__deadline": DEADLINE, "l2__backoff_min": "1ms", "l2__backoff_max": "20ms"}
    with (
        HostileRedis(redis.port) as hostile,
        running_terrace(hostile.url, **options) as terrace,
    ):
        before_kib = resident_kib(terrace.process.pid)
        with Canary(terrace.port, SINGS) as canary:
            for number, data in enumerate(within_budget(mutants("replies", SEED), 12)):
                ask_during(hostile, terrace, data, number)
                with Wire(redis.port) as direct:  # whatever the requests have left there
                    direct.ask("SET", "k", "v")
                wait_until(lambda: recovered(terrace), f"it recovers from {data[:200]!r}", 15)
        assert hostile.replaced > 5
        assert canary.slowest_s < 3
        assert resident_kib(terrace.process.pid) - before_kib < GROWTH_KIB
        # That a handler could not read its reply is an error to be told, in one line; the
        # tasks of Terrace itself go on.
        forbidden = ("Traceback", "unexpectedly", "terrace.tasks")
        assert_log_is_harmless(terrace.log(), began, SECRET, forbidden)
        terrace.signal()
        assert terrace.wait_exit() == 0
