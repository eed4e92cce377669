"""Many clients, long pipelines, large values: the others notice little, and memory comes back.

Each with small figures, and (soak) with those that hurt.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire, encode

MiB = 1024**2
PATIENCE_S = 60.0
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Scale:
    clients: int
    commands: int
    value_bytes: int
    storm: int

    def __str__(self) -> str:
        return f"{self.clients} clients"


SMALL = Scale(clients=700, commands=5000, value_bytes=5_000_000, storm=300)
REAL = Scale(clients=10_000, commands=100_000, value_bytes=100_000_000, storm=20_000)
SCALES = [SMALL, pytest.param(REAL, marks=pytest.mark.soak)]

# What others may have to wait at worst, on a busy machine; on a quiet one a tenth of it.
WORST_S = 3.0
GROWTH = 1.35  # of resident memory without L1, when all is over
SLACK_BYTES = 8 * MiB


class Canary(threading.Thread):
    """A client like any other: every reply is right, and none comes late."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._wire = Wire(port, timeout_s=PATIENCE_S)
        self._over = threading.Event()
        self.waits_s: list[float] = []
        self.wrong: list[bytes] = []

    def run(self) -> None:
        while not self._over.wait(0.002):
            number = len(self.waits_s)
            began = time.monotonic()
            replies = self._wire.ask_all(
                ("GET", "canary"), ("SET", "own", number), ("GET", "own"), ("GET", f"not:{number}")
            )
            self.waits_s.append(time.monotonic() - began)
            digits = b"%d" % number
            own = b"$%d\r\n%b\r\n" % (len(digits), digits)
            if replies != [b"$5\r\nsings\r\n", b"+OK\r\n", own, b"$-1\r\n"]:
                self.wrong += replies

    def end(self) -> None:
        self._over.set()
        self.join()
        self._wire.close()


@contextlib.contextmanager
def watched(redis: RedisProcess) -> Iterator[TerraceProcess]:
    """A Terrace with a canary, whose memory must come back."""
    with running_terrace(redis.url, listen__max_clients=12_000) as terrace:
        with Wire(terrace.port) as wire:
            assert wire.ask("SET", "canary", "sings") == b"+OK\r\n"
        canary = Canary(terrace.port)
        canary.start()
        try:
            wait_until(lambda: len(canary.waits_s) > 100, "the canary sings")
            before_bytes = private_bytes(terrace)
            yield terrace
            wait_until(lambda: terrace.metrics()["terrace_clients"] == 1, "all have left", 30)
            gc.collect()
            most_bytes = before_bytes * GROWTH + SLACK_BYTES
            with contextlib.suppress(AssertionError):
                wait_until(lambda: private_bytes(terrace) < most_bytes, "memory comes back")
            after_bytes = private_bytes(terrace)
        finally:
            canary.end()
        print(
            f"\nmemory beside L1: {before_bytes / MiB:.1f} MiB before, {after_bytes / MiB:.1f} "
            f"after; the canary waited {max(canary.waits_s) * 1000:.0f} ms at worst"
        )
        assert not canary.wrong
        assert max(canary.waits_s) < WORST_S
        assert after_bytes < most_bytes


def private_bytes(terrace: TerraceProcess) -> int:
    text = Path(f"/proc/{terrace.process.pid}/statm").read_text()
    _, resident, shared, *_ = text.split()
    return (int(resident) - int(shared)) * PAGE_BYTES


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_idle_connections(redis: RedisProcess, scale: Scale) -> None:
    with watched(redis) as terrace, contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(Wire(terrace.port, timeout_s=PATIENCE_S))
            for _ in range(scale.clients)
        ]
        for wire in wires:
            wire.send("PING")
        for wire in wires:
            assert wire.read() == [b"+PONG\r\n"]
        assert terrace.metrics()["terrace_clients"] == scale.clients + 1
        print(f"\n{scale.clients} idle: {private_bytes(terrace) / MiB:.1f} MiB")


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_pipeline_that_is_read_late(redis: RedisProcess, scale: Scale) -> None:
    """Nothing is lost, nothing is out of order."""
    filler = b"y" * 4000
    with watched(redis) as terrace, Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
        wire.ask("SET", "filler", filler)
        wire.ask("DEL", "counted")
        commands = [encode("INCR", "counted") + encode("GET", "filler")] * (scale.commands // 2)
        sender = threading.Thread(target=wire.send_raw, args=(b"".join(commands),))
        sender.start()
        wait_until(lambda: terrace.metrics()["terrace_output_unread_bytes"] > 0, "unread", 30)
        replies = wire.read(len(commands) * 2)
        sender.join()
        assert replies[0::2] == [b":%d\r\n" % number for number in range(1, len(commands) + 1)]
        assert set(replies[1::2]) == {b"$4000\r\n" + filler + b"\r\n"}


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_pipeline_that_is_never_read(redis: RedisProcess, scale: Scale) -> None:
    with watched(redis) as terrace, Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
        wire.ask("SET", "filler", b"y" * 2000)
        wire.send_raw(encode("GET", "filler") * scale.commands)
        unread_bytes = scale.commands * 2000 // 4
        wait_until(
            lambda: terrace.metrics()["terrace_output_unread_bytes"] > unread_bytes, "unread", 30
        )


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_large_value(redis: RedisProcess, scale: Scale) -> None:
    value = b"x" * scale.value_bytes
    with watched(redis) as terrace, Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
        for _ in range(2):
            assert wire.ask("SET", "large", value) == b"+OK\r\n"
            reply = wire.ask("GET", "large")
            assert reply == b"$%d\r\n%b\r\n" % (len(value), value)
        wire.send("GET", "large")  # and goes without reading it
    with Wire(redis.port) as plain:
        plain.ask("DEL", "large")


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_storm_of_connections(redis: RedisProcess, scale: Scale) -> None:
    """Every one of them is served, though all come and go at once."""

    def visit(number: int) -> bytes:
        with Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
            if number % 3 == 0:
                wire.linger_none()
            return wire.ask("ECHO", "in")

    with watched(redis) as terrace, ThreadPoolExecutor(50) as pool:
        assert set(pool.map(visit, range(scale.storm))) == {b"$2\r\nin\r\n"}
