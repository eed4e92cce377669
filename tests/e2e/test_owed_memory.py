"""A few kilobytes of requests that ask for hundreds of megabytes: memory stays small, and a
client that reads gets everything."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.memory import private_bytes
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode

MiB = 1024**2
BOUND_BYTES = 16 * MiB
SMALL: dict[str, object] = {
    "limits__output_buffer_bytes": BOUND_BYTES, "limits__bulk_bytes": 4 * MiB,
}  # fmt: skip
SAME = "local v, t = redis.call('GET', KEYS[1]), {} for i = 1, 100 do t[i] = v end return t"
GETS = 1000  # of 900 kB, in 30 kB


@pytest.fixture
def big(redis: RedisProcess) -> bytes:
    value = b"x" * 900_000
    with Wire(redis.port) as plain:
        assert plain.ask("SET", "big", value) == b"+OK\r\n"
    return b"$%d\r\n%b\r\n" % (len(value), value)


def used_bytes(terrace: TerraceProcess) -> int:
    """Without L1, whose budget is its own."""
    return private_bytes(Path(f"/proc/{terrace.process.pid}/statm"))


def grown_bytes(terrace: TerraceProcess, before_bytes: int, seconds: float) -> int:
    """The most that was in use beyond `before_bytes`, looked at for so long."""
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, used_bytes(terrace) - before_bytes)
        time.sleep(0.01)
    return most


@pytest.mark.parametrize("cached", [True, False])
def test_large_values_behind_one_miss(redis: RedisProcess, big: bytes, cached: bool) -> None:
    options = SMALL | ({} if cached else {"l1__max_value_bytes": "64KiB"})
    with running_terrace(redis.url, **options) as terrace:
        before_bytes = used_bytes(terrace)
        with Wire(terrace.port) as silent:
            if cached:
                assert silent.ask("GET", "big") == silent.ask("GET", "big") == big
            silent.receive_little()
            silent.send_raw(encode("GET", "missing") + encode("GET", "big") * GETS)
            assert grown_bytes(terrace, before_bytes, 0.5) < 4 * BOUND_BYTES
        with Wire(terrace.port) as slow:
            slow.send_raw(encode("GET", "big") * 100 + encode("ECHO", "end"))
            for number in range(100):
                if number < 10:
                    time.sleep(0.02)
                assert slow.read()[0] == big
            assert slow.read() == [b"$3\r\nend\r\n"]
            for words in (["MGET", *["big"] * 450], ["EVAL", SAME, 1, "big"]):
                before_bytes = used_bytes(terrace)
                slow.send(*words)
                assert grown_bytes(terrace, before_bytes, 0.3) < 4 * BOUND_BYTES
                assert b"larger than limits.output_buffer_bytes" in slow.read()[0]
            assert slow.ask("GET", "big") == big
            assert used_bytes(terrace) - before_bytes < 4 * BOUND_BYTES
        assert terrace.metrics()["terrace_output_limit_closed_total"] == 0


def test_nothing_is_kept_of_large_requests_that_were_answered(redis: RedisProcess) -> None:
    """Neither the requests nor the lists of their keys."""
    keys = [f"key:{number:080}" for number in range(300_000)]
    with running_terrace(redis.url) as terrace, Wire(terrace.port, timeout_s=20.0) as wire:
        assert wire.ask("DEL", *keys[:1000]) == b":0\r\n"
        before_bytes = used_bytes(terrace)
        assert wire.ask("DEL", *keys) == b":0\r\n"
        requests = [encode("DEL", *keys[first::40]) for first in range(40)]  # of 700 kB each
        wire.send_raw(b"".join(requests))
        assert wire.read(40) == [b":0\r\n"] * 40
        wait_until(
            lambda: (
                wire.ask("SET", "k", "v") == b"+OK\r\n"
                and used_bytes(terrace) - before_bytes < 12 * MiB
            ),
            "it is forgotten",
        )
