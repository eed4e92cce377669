"""CLIENT PAUSE on a running proxy: it ends by itself, and Redis' own clients notice nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire

PAUSE_MS = 600


@pytest.fixture
def wire(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        wire.ask_all(("FLUSHALL",), ("SET", "k", "old"), ("GET", "k"), ("GET", "k"))
        yield wire


def seconds(wire: Wire, *words: str) -> float:
    began = time.monotonic()
    assert not wire.ask(*words).startswith(b"-")
    return time.monotonic() - began


def test_all_holds_hits_too_and_ends_by_itself(
    terrace: TerraceProcess, redis: RedisProcess, wire: Wire
) -> None:
    with Wire(terrace.port) as other, Wire(redis.port) as direct:
        other.ask("GET", "k")
        began = time.monotonic()
        assert wire.ask("CLIENT", "PAUSE", PAUSE_MS) == b"+OK\r\n"
        assert direct.ask("SET", "k", "new") == b"+OK\r\n"
        assert time.monotonic() - began < PAUSE_MS / 1000, "Redis itself is not paused"
        assert other.ask("GET", "k") == b"$3\r\nnew\r\n"
        assert time.monotonic() - began >= PAUSE_MS / 1000


def test_writes_wait_for_the_unpause(terrace: TerraceProcess, wire: Wire) -> None:
    with Wire(terrace.port) as writer, Wire(terrace.port) as newcomer:
        assert wire.ask("CLIENT", "PAUSE", 60_000, "WRITE") == b"+OK\r\n"
        writer.send("SET", "k", "new")
        assert newcomer.ask("GET", "k") == b"$3\r\nold\r\n"
        assert newcomer.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert writer.read() == [b"+OK\r\n"]
        assert seconds(newcomer, "SET", "k", "newer") < 30


def test_a_paused_client_that_goes_leaves_nothing(terrace: TerraceProcess, wire: Wire) -> None:
    with Wire(terrace.port) as gone:
        wire.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        gone.send("SET", "k", "never")
    wait_until(lambda: wire.ask("CLIENT", "LIST").count(b" addr=") == 1, "only one is listed")
    wire.ask("CLIENT", "UNPAUSE")
    assert wire.ask("GET", "k") == b"$3\r\nold\r\n"


def test_it_can_be_stopped_while_paused(own_redis: RedisProcess) -> None:
    options = {"shutdown__deadline": "200ms"}
    with running_terrace(own_redis.url, **options) as terrace, Wire(terrace.port) as wire:
        wire.ask("CLIENT", "PAUSE", 60_000)
        wire.send("PING")
        terrace.signal()
        assert terrace.wait_exit() == 0
