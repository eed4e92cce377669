"""L1 under many clients, two proxies and strangers who write to Redis directly.

Promised: no crossed reply, no own write missed, nothing stale for good, and no hit that
was stale for longer than l1.max_staleness.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.e2e.coherence_run import MAX_STALENESS_S, SCHEDULING_S, Run, expect_no_lie, says
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

RUN_S = 3.0
SOAK_S = 120.0


@pytest.fixture(params=[1, 2], ids=["one proxy", "two proxies"])
def proxies(own_redis: RedisProcess, request: pytest.FixtureRequest) -> Iterator[list[int]]:
    with ExitStack() as stack:
        options: dict[str, Any] = {
            "l1__max_staleness": f"{MAX_STALENESS_S * 1000:g}ms",
            "l1__stale_on_error": 0,  # connections are killed: what is served then is no finding
        }
        running = [
            stack.enter_context(running_terrace(own_redis.url, **options))
            for _ in range(request.param)
        ]
        yield [process.port for process in running]
        hits = sum(int(process.figure("l1_hits")) for process in running)
        print(f"{hits} L1 hits")
        assert hits > 1000, "L1 took no part"


def test_no_lie_in_a_short_run(own_redis: RedisProcess, proxies: list[int]) -> None:
    expect_no_lie(Run(own_redis, proxies, RUN_S))


@pytest.mark.soak
def test_no_lie_in_a_long_run(own_redis: RedisProcess, proxies: list[int]) -> None:
    expect_no_lie(Run(own_redis, proxies, SOAK_S))


def test_expiry_is_never_late(own_redis: RedisProcess) -> None:
    """A value with a TTL is not served after it, although Redis may tell of it later."""
    with running_terrace(own_redis.url) as terrace, Wire(terrace.port) as wire:
        for ttl_ms in (60, 100) * 4:
            wire.ask("SET", "k", "v", "PX", ttl_ms)
            until = time.monotonic() + ttl_ms / 1000
            replies = set()
            while (began := time.monotonic()) < until + 0.05:
                reply = wire.ask("GET", "k")
                replies.add(reply)
                assert reply == b"$-1\r\n" or began <= until + 0.002, f"{began - until:.4f} s late"
            assert replies == {b"$1\r\nv\r\n", b"$-1\r\n"}


def test_databases_do_not_mix(own_redis: RedisProcess) -> None:
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(terrace.port) as zero,
        Wire(terrace.port) as one,
    ):
        one.ask("SELECT", 1)
        for number in range(100):
            zero.ask("SET", "k", f"zero{number}")
            one.ask("SET", "k", f"one{number}")
            for _ in range(2):
                assert decode(zero.ask("GET", "k")) == b"zero%d" % number
                assert decode(one.ask("GET", "k")) == b"one%d" % number
        assert one.ask("SWAPDB", 0, 1) == b"+OK\r\n"
        assert decode(zero.ask("GET", "k")) == b"one99"
        assert decode(one.ask("GET", "k")) == b"zero99"


def test_a_foreign_write_is_seen_within_the_bound(own_redis: RedisProcess) -> None:
    with (
        running_terrace(own_redis.url) as terrace,
        Wire(terrace.port) as wire,
        Wire(own_redis.port) as direct,
    ):
        worst_s = 0.0
        for number in range(200):
            wire.ask_all(("GET", "k"), ("GET", "k"))
            direct.ask("SET", "k", number)
            text = b"%d" % number
            seen = partial(says, wire, "k", b"$%d\r\n%b\r\n" % (len(text), text))
            worst_s = max(worst_s, wait_until(seen, "the new value is seen"))
        print(f"worst {worst_s * 1000:.2f} ms")
        assert worst_s <= MAX_STALENESS_S + SCHEDULING_S


def hits(terrace: TerraceProcess) -> int:
    return int(terrace.figure("l1_hits"))


def test_an_idle_proxy_costs_redis_no_pings_at_the_bound(own_redis: RedisProcess) -> None:
    """The watermark moves only while hits are served; then hits come back at once."""
    with running_terrace(own_redis.url) as terrace, Wire(terrace.port) as wire:
        wire.ask_all(("SET", "k", "v"), ("GET", "k"), ("GET", "k"))
        before = hits(terrace)
        wait_until(lambda: wire.ask("GET", "k") and hits(terrace) > before, "hits again", 2.0)
