"""What one client may ask for never holds up another for long: a canary is timed beside it.

Before their work was bounded, these held up the canary for as long as they took. On a quiet
machine it now waits 5 to 50 ms; on a busy one all takes longer, so the bound grows with it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

import pytest

from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess
from tests.e2e.wire import Wire, encode
from tests.e2e.worker_processes import needs_workers, running_workers, wire_to_each, worker_pids

MiB = 1024**2
STALL_MAX_S = 0.5  # or a third of the time that all took
PATIENCE_S = 30.0


def _sing(port: int, told: Connection) -> None:
    """PING again and again; the slowest answer. In a process of its own."""
    slowest_s = 0.0
    with Wire(port, timeout_s=PATIENCE_S) as wire:
        told.send(0.0)
        while not told.poll():
            began = time.monotonic()
            wire.ask("PING")
            slowest_s = max(slowest_s, time.monotonic() - began)
            time.sleep(0.001)
    told.send(slowest_s)


@contextlib.contextmanager
def canary(port: int) -> Iterator[Callable[[], float]]:
    """A function that ends it, and says how long it ever waited."""
    here, there = Pipe()
    process = Process(target=_sing, args=(port, there), daemon=True)
    process.start()
    try:
        here.recv()

        def end() -> float:
            here.send(None)
            return float(here.recv())

        yield end
    finally:
        process.kill()
        process.join()


def exchange(port: int, request: bytes, reply_bytes: int) -> bytes:
    """Send all and read so many bytes, both at once."""
    with Wire(port, timeout_s=PATIENCE_S) as wire:
        sender = threading.Thread(target=wire.send_raw, args=(request,), daemon=True)
        sender.start()
        reply = wire.read_bytes(reply_bytes)
        sender.join()
        return reply


def glob_of_400_kb(terrace: TerraceProcess) -> None:
    with Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
        assert wire.ask("CONFIG", "GET", "terrace." + "*a" * 200_000) == b"*0\r\n"
        assert wire.ask("CONFIG", "GET", *["terrace." + "*a" * 20] * 20_000) == b"*0\r\n"


def name_of_16_mib(terrace: TerraceProcess) -> None:
    with Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
        for command in (("CLIENT", "SETNAME"), ("CLIENT", "SETINFO", "LIB-NAME")):
            assert b"a name has at most 1024 bytes" in wire.ask(*command, "x" * 16 * MiB)
        assert b"a name has at most" in wire.ask("HELLO", 3, "SETNAME", "x" * MiB)
        assert wire.ask("CLIENT", "SETNAME", "x" * 1024) == b"+OK\r\n"


def half_a_million_pings(terrace: TerraceProcess) -> None:
    count = 500_000
    replies = exchange(terrace.port, encode("PING") * count, 7 * count)
    assert replies == b"+PONG\r\n" * count


@pytest.mark.parametrize("ask", [glob_of_400_kb, name_of_16_mib, half_a_million_pings])
def test_nobody_else_waits(terrace: TerraceProcess, ask: Callable[[TerraceProcess], None]) -> None:
    with canary(terrace.port) as end:
        began = time.monotonic()
        ask(terrace)
        took_s = time.monotonic() - began
        assert end() < max(STALL_MAX_S, took_s / 3)


class TestWorkers:
    pytestmark = needs_workers

    def test_no_request_is_too_long_for_their_bus(self, redis: RedisProcess) -> None:
        """A worker that was sent such a frame ended, and its clients' connections with it."""
        with running_workers(redis.url, 2) as terrace, wire_to_each(terrace, 2) as wires:
            pids = worker_pids(terrace)
            long = "x" * 12 * MiB
            with Wire(terrace.port, timeout_s=PATIENCE_S) as wire:
                assert wire.ask("CLIENT", "KILL", "ADDR", long) == b":0\r\n"
                assert (
                    wire.ask("CLIENT", "LIST", "ID", *range(10**6, 10**6 + 9000)) == b"$0\r\n\r\n"
                )
            assert [wire.ask("PING") for wire in wires] == [b"+PONG\r\n"] * 2
            assert worker_pids(terrace) == pids
