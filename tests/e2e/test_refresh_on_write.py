"""Refresh on write beside a real Redis: who writes a key that is read costs its readers no miss."""

from __future__ import annotations

import time

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import running_terrace
from tests.e2e.wire import Wire

WRITES = 50
A_REFRESH_S = 0.005


def commands_run(plain: Wire) -> int:
    text = plain.ask("INFO", "commandstats")
    return sum(
        int(line.partition(b"calls=")[2].partition(b",")[0])
        for line in text.splitlines()
        if line.startswith((b"cmdstat_get:", b"cmdstat_pttl:"))
    )


@pytest.mark.parametrize("proto", [2, 3])
def test_reads_between_writes_stay_hits(redis: RedisProcess, proto: int) -> None:
    with (
        running_terrace(redis.url, l1__audit_interval="0s") as terrace,
        Wire(terrace.port) as wire,
        Wire(redis.port) as plain,
    ):
        wire.ask("HELLO", proto)
        for _ in range(4):
            wire.ask("GET", "k")
        missed = int(terrace.figure("l1_misses"))
        for n in range(WRITES):
            wire.ask("GET", "k")  # its reply shows that coherence stands: what follows may hit
            assert wire.ask("SET", "k", n) == b"+OK\r\n"
            time.sleep(A_REFRESH_S)
            assert wire.ask("GET", "k") == b"$%d\r\n%d\r\n" % (len(str(n)), n)
        assert int(terrace.figure("l1_misses")) <= missed + WRITES // 4  # WRITES if each was one

        reads = commands_run(plain)
        for n in range(WRITES):  # nobody reads it any more
            wire.ask("SET", "k", n)
        assert commands_run(plain) <= reads + 4
