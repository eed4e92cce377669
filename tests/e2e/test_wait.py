"""WAIT and WAITAOF speak for the writes of the client that asks, as on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

NO_REPLICA, ONE_REPLICA = b":0\r\n", b":1\r\n"
SHORT_MS = 150
LONG_MS = 5000


@pytest.fixture(scope="module")
def replicated() -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """A primary with one replica that is up to date."""
    primary, replica = RedisProcess(), RedisProcess()
    try:
        primary.start(
            *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "3600"),
            *("--appendonly", "yes", "--appendfsync", "no"),
        )
        with Wire(primary.port) as direct:
            replica.start("--replicaof", "127.0.0.1", str(primary.port))
            wait_until(
                lambda: b"state=online" in direct.ask("INFO", "replication"), "a replica", 20
            )
            direct.ask("SET", "first", "1")
            assert direct.ask("WAIT", 1, LONG_MS) == ONE_REPLICA
        yield primary, replica
    finally:
        primary.close()
        replica.close()


@pytest.fixture(scope="module")
def terrace(replicated: tuple[RedisProcess, RedisProcess]) -> Iterator[TerraceProcess]:
    with running_terrace(replicated[0].url) as process:
        yield process


@contextmanager
def stopped(replica: RedisProcess) -> Iterator[None]:
    replica.freeze()
    try:
        yield
    finally:
        replica.thaw()


WRITES = {
    "plain": [("SET", "k", "w")],
    "script": [("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, "k", "w")],
    "transaction": [("MULTI",), ("SET", "k", "w"), ("EXEC",)],
    "another database": [("SELECT", 3), ("SET", "k", "w")],
    "flush": [("FLUSHDB",)],
    "refused later": [("SET", "k", "w"), ("INCR", "k")],
}


@pytest.mark.parametrize("writes", WRITES.values(), ids=WRITES)
def test_a_stopped_replica_has_not_what_was_written(
    replicated: tuple[RedisProcess, RedisProcess],
    terrace: TerraceProcess,
    writes: list[tuple[str | int, ...]],
) -> None:
    with Wire(terrace.port) as wire, stopped(replicated[1]):
        for write in writes:
            wire.ask(*write)
        assert wire.ask("WAIT", 1, SHORT_MS) == NO_REPLICA
        assert wire.ask("WAIT", 1, SHORT_MS) == NO_REPLICA
    with Wire(terrace.port) as wire:
        for write in writes:
            wire.ask(*write)
        assert wire.ask("WAIT", 1, LONG_MS) == ONE_REPLICA


def test_who_wrote_nothing_waits_for_nobody(
    replicated: tuple[RedisProcess, RedisProcess], terrace: TerraceProcess
) -> None:
    """As on a connection of its own: what others wrote is not its concern."""
    answers = []
    for port in (replicated[0].port, terrace.port):
        with Wire(port) as other, Wire(port) as wire, stopped(replicated[1]):
            wire.ask("GET", "k")
            other.ask("SET", "k", "w")
            answers.append(wire.ask("WAIT", 1, SHORT_MS))
    if answers[0] == ONE_REPLICA:
        assert answers[1] == ONE_REPLICA


def test_nobody_else_waits_with_it(
    replicated: tuple[RedisProcess, RedisProcess], terrace: TerraceProcess
) -> None:
    with Wire(terrace.port) as wire, Wire(terrace.port) as other, stopped(replicated[1]):
        wire.ask("SET", "k", "w")
        wire.send("WAIT", 1, 3 * SHORT_MS)
        for _ in range(20):
            assert other.ask("SET", "other", "v") == b"+OK\r\n"
        assert wire.read() == [NO_REPLICA]


def test_in_a_transaction_it_does_not_wait_and_promises_nothing(
    replicated: tuple[RedisProcess, RedisProcess], terrace: TerraceProcess
) -> None:
    with Wire(terrace.port) as wire, stopped(replicated[1]):
        wire.ask("SET", "k", "w")
        replies = wire.ask_all(("MULTI",), ("WAIT", 1, LONG_MS), ("SET", "k", "x"), ("EXEC",))
        assert replies[-1] == b"*2\r\n" + NO_REPLICA + b"+OK\r\n"


def test_it_leaves_no_trace(
    replicated: tuple[RedisProcess, RedisProcess], terrace: TerraceProcess
) -> None:
    with Wire(replicated[0].port) as direct, Wire(terrace.port) as wire:
        wire.ask("SET", "k", "w")
        before = direct.ask("DBSIZE")
        assert wire.ask("WAIT", 1, LONG_MS) == ONE_REPLICA
        wire.ask("WAITAOF", 0, 0, LONG_MS)
        assert direct.ask("DBSIZE") == before


def test_waitaof_waits_for_the_file(
    replicated: tuple[RedisProcess, RedisProcess], terrace: TerraceProcess
) -> None:
    """A message to a channel is not in it, so the offset has to be moved by a write."""
    with Wire(replicated[0].port) as direct, Wire(terrace.port) as wire:
        if direct.ask("WAITAOF", 0, 0, 0).startswith(b"-"):
            pytest.skip("this server has no WAITAOF")
        direct.ask("SET", "k", "v")
        plain = decode(direct.ask("WAITAOF", 1, 0, SHORT_MS))
        wire.ask("SET", "k", "w")
        assert decode(wire.ask("WAITAOF", 1, 0, SHORT_MS)) == plain == [0, 0]
        direct.ask("CONFIG", "SET", "appendfsync", "always")
        wire.ask("SET", "k", "x")
        assert decode(wire.ask("WAITAOF", 1, 0, LONG_MS)) == [1, 0]
