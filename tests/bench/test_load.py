"""The generator asks what it is told, and CPU time is that of the right process."""

from __future__ import annotations

import os
import time

import pytest
import redis

from bench.cpu import cpu_time, resident_bytes
from bench.load import LoadError, LoadSpec, OwnGenerator
from proxy.embedded.redis import RedisServer

CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


def test_distinct_keys_are_asked_for_once_each(redis_server: RedisServer) -> None:
    with redis.Redis(port=redis_server.port) as client:
        spec = LoadSpec(("INCR", "bench:seq:__seq_int__"), pipeline=4, clients=3, first=7)
        result = OwnGenerator(CORE).run(redis_server.port, spec, 40)
        assert result.requests == 40
        assert result.ops_per_s > 0
        assert 0 < result.p50_ms <= result.p99_ms
        values = client.mget([f"bench:seq:{n}" for n in range(7, 47)])
        assert values == [b"1"] * 40
        client.delete(*(f"bench:seq:{n}" for n in range(7, 47)))


def test_an_error_reply_is_a_failed_run(redis_server: RedisServer) -> None:
    spec = LoadSpec(("NOSUCHCOMMAND",), clients=1)
    with pytest.raises(LoadError, match="1 errors"):
        OwnGenerator(CORE).run(redis_server.port, spec, 1)


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(LoadError, match="the load generator failed") as caught:
        OwnGenerator(CORE).run(1, LoadSpec(("PING",)), 50)
    assert "\n" not in str(caught.value)


def test_cpu_time_grows_with_work() -> None:
    before = cpu_time(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    spent = cpu_time(os.getpid()) - before
    assert 30_000 <= spent.user_us + spent.system_us <= 500_000


def test_memory_grows_with_what_is_held() -> None:
    before = resident_bytes(os.getpid())
    held = b"x" * 50_000_000
    assert resident_bytes(os.getpid()) - before > 0.9 * len(held)
