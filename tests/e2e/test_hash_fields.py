"""Hash fields that expire on their own (Redis 7.4, Valkey 9): no reader sees one after its end.

The server is told not to delete what has expired, so that no invalidation helps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire

LIFE_MS = 400


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    server = RedisProcess()
    try:
        server.start()
        with Wire(server.port) as wire:
            if wire.ask("HPTTL", "k", "FIELDS", 1, "f").startswith(b"-ERR unknown command"):
                pytest.skip("this server's hash fields do not expire")
        server.kill()
        server.start("--enable-debug-command", "yes")
        with Wire(server.port) as wire:
            assert wire.ask("DEBUG", "SET-ACTIVE-EXPIRE", 0) == b"+OK\r\n"
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module", params=[(), ("--set", "l1.stale_on_error=1h")])
def terrace(redis: RedisProcess, request: pytest.FixtureRequest) -> Iterator[TerraceProcess]:
    with running_terrace(redis.url, *request.param) as process:
        yield process


READS = (
    ("HGET", "{}", "short"),
    ("HGET", "{}", "none"),
    ("HMGET", "{}", "short", "long", "none"),
    ("HEXISTS", "{}", "short"),
    ("HSTRLEN", "{}", "short"),
    ("HSTRLEN", "{}", "none"),
    ("HGETALL", "{}"),
    ("HKEYS", "{}"),
    ("HVALS", "{}"),
)


@pytest.mark.parametrize("proto", [2, 3])
def test_no_read_sees_a_field_after_its_end(
    redis: RedisProcess, terrace: TerraceProcess, proto: int
) -> None:
    key = f"h{proto}{terrace.port}"
    commands = [tuple(part.format(key) for part in read) for read in READS]
    with Wire(redis.port, proto) as plain, Wire(terrace.port, proto) as wire:
        wire.ask("HSET", key, "short", "value", "long", "v")
        assert wire.ask("HPEXPIRE", key, LIFE_MS, "FIELDS", 1, "short") == b"*1\r\n:1\r\n"
        until = time.monotonic() + LIFE_MS / 1000
        while time.monotonic() < until + 0.02:  # without a pause, in which L1 would close
            for command in commands:
                wire.ask(*command)
        # First through Terrace: a look at the field makes the server delete it, and tell.
        seen = {command: wire.ask(*command) for command in commands}
        assert seen == {command: plain.ask(*command) for command in commands}


def test_stale_on_error_serves_no_field_after_its_end() -> None:
    redis = RedisProcess()
    try:
        redis.start()
        with (
            running_terrace(redis.url, "--set", "l1.stale_on_error=1h") as terrace,
            Wire(terrace.port) as wire,
        ):
            wire.ask("HSET", "h", "f", "v")
            if wire.ask("HPEXPIRE", "h", LIFE_MS, "FIELDS", 1, "f").startswith(b"-"):
                pytest.skip("this server's hash fields do not expire")
            wire.ask("HGET", "h", "f")
            time.sleep(0.05)
            redis.kill()
            time.sleep(LIFE_MS / 1000)
            assert wire.ask("HGET", "h", "f").startswith(b"-")
    finally:
        redis.close()


def test_reads_whose_fields_do_not_end_are_hits(
    redis: RedisProcess, terrace: TerraceProcess
) -> None:
    """Keeping the bound must not mean keeping nothing."""
    key = f"lasting{terrace.port}"
    with Wire(terrace.port) as wire:
        wire.ask("HSET", key, "f", "v", "g", "")
        for command in (
            ("HGET", "f"),
            ("HMGET", "f", "none"),
            ("HGETALL",),
            ("HKEYS",),
            ("HGET", "g"),
        ):
            name, *fields = command
            for _ in range(3):
                wire.ask(name, key, *fields)
                time.sleep(0.02)
            before = hits(wire)
            wire.ask(name, key, *fields)
            assert hits(wire) == before + 1, command


def hits(wire: Wire) -> int:
    flat = wire.ask("INFO", "tiers").decode()
    line = next(line for line in flat.splitlines() if line.startswith("l1_hits:"))
    return int(line.partition(":")[2])
