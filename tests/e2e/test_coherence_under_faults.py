"""L1 under many clients while everything around it fails.

Two proxies: one straight on Redis, one behind a network that misbehaves. All the time
Redis' tracking table is far too small. One fault after the other; the promises are the
same as without: stale entries are not allowed here, so that any value that is too old
is a lie.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e.coherence_run import (
    KEYS,
    MAX_STALENESS_S,
    SCHEDULING_S,
    Run,
    expect_agreement,
    expect_no_lie,
)
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tests.fault_proxy import FaultProxy

RUN_S = 6.0
SOAK_S = float(os.environ.get("SOAK_S", "60"))
CALM_S = 0.15  # between two faults
BIG = "big"
BIG_BYTES = 10 * 1024**2


class FaultThread:
    """A FaultProxy with a loop of its own, for tests that live in threads."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._proxy = FaultProxy("127.0.0.1", port)
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> FaultThread:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._proxy.port}"

    def tell(self, verb: str, *arguments: object) -> None:
        self._loop.call_soon_threadsafe(getattr(self._proxy, verb), *arguments)


class FaultyRun(Run):
    """`disturb` goes through the faults, again and again."""

    def __init__(
        self, redis: RedisProcess, ports: list[int], run_s: float, network: FaultThread
    ) -> None:
        super().__init__(redis, ports, run_s)
        self._network = network
        self._pause = threading.Event()
        self.faults: dict[str, int] = {}

    def disturb(self) -> None:
        with Wire(self.redis.port) as self._direct:
            self._direct.ask("SET", BIG, b"x" * BIG_BYTES)
            for fault in itertools.cycle(self._faults()):
                if time.monotonic() > self.until:
                    break
                self.faults[fault.__name__] = self.faults.get(fault.__name__, 0) + 1
                fault()
                self._pause.wait(CALM_S)

    def _faults(self) -> list[Callable[[], None]]:
        return [
            self.stopped, self.killed_connections, self.one_way, self.reset, self.paused,
            self.flushed_in_a_transaction, self.swapped, self.expired, self.bytewise,
            self.big_reply, self.slow,
        ]  # fmt: skip

    def stopped(self) -> None:
        """Half-open: the kernel accepts, nobody answers."""
        self.redis.freeze()
        self._pause.wait(0.3)
        self.redis.thaw()

    def killed_connections(self) -> None:
        self._direct.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def one_way(self) -> None:
        """Requests arrive, replies and invalidations do not; then the connections die."""
        self._network.tell("stall_one_way", "down")
        self._pause.wait(0.3)
        self._network.tell("reset")
        self._network.tell("heal")

    def reset(self) -> None:
        self._network.tell("reset")

    def paused(self) -> None:
        self._direct.ask("CLIENT", "PAUSE", 150, "ALL")

    def flushed_in_a_transaction(self) -> None:
        for port in (self.redis.port, *self.ports):
            with Wire(port) as wire:
                self.flush(wire, transaction=True)
        self._direct.ask("SET", BIG, b"x" * BIG_BYTES)

    def swapped(self) -> None:
        """Databases that nobody uses: what counts is what it does to everything else."""
        for port in (self.redis.port, self.ports[0]):
            with Wire(port) as wire:
                wire.ask("SWAPDB", 2, 3)

    def expired(self) -> None:
        for key in KEYS:
            self._direct.ask("PEXPIRE", key, 15)
        self._pause.wait(0.05)

    def bytewise(self) -> None:
        self._network.tell("trickle", 1, 0.0)
        self._pause.wait(0.2)
        self._network.tell("heal")

    def slow(self) -> None:
        self._network.tell("delay", 0.02)
        self._pause.wait(0.3)
        self._network.tell("heal")

    def big_reply(self) -> None:
        """Ten megabytes on the tracked connection, ahead of whatever is invalidated meanwhile."""
        for port in self.ports:
            with Wire(port) as wire:
                wire.ask("GET", BIG)


@contextmanager
def pair(redis: RedisProcess, network: FaultThread) -> Iterator[list[TerraceProcess]]:
    options = {
        "l1__max_staleness": f"{MAX_STALENESS_S}s",
        "l1__stale_on_error": "0s",
        "l1__audit_interval": "100ms",
        "limits__bulk_bytes": "64MiB",
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_terrace(url, **options)) for url in (redis.url, network.url)
        ]


def play(redis: RedisProcess, run_s: float) -> None:
    with FaultThread(redis.port) as network, pair(redis, network) as terraces:
        with Wire(redis.port) as direct:
            direct.ask("CONFIG", "SET", "tracking-table-max-keys", 10)
        run = FaultyRun(redis, [t.port for t in terraces], run_s, network)
        findings = expect_no_lie(run)
        hits = [int(terrace.figure("l1_hits")) for terrace in terraces]
        mismatches = [int(terrace.figure("audit_mismatches")) for terrace in terraces]
        audited = [int(terrace.figure("audit_samples")) for terrace in terraces]
        print(f"{findings}; {hits} L1 hits, audited {audited}, faults {run.faults}")
        assert min(hits) > 200, "L1 took no part"
        assert mismatches == [0, 0]
        assert len(run.faults) >= 8
        expect_agreement(run)


def test_a_bound_that_is_not_kept_is_noticed(own_redis: RedisProcess) -> None:
    """The checker can fail: Terrace keeps to five seconds, and is judged by the usual bound."""
    with FaultThread(own_redis.port) as network:
        options = {"l1__max_staleness": "5s", "l1__stale_on_error": "0s"}
        with running_terrace(network.url, **options) as terrace:
            run = OneWay(own_redis, [terrace.port], 2.0, network)
            assert run.play().worst_s > MAX_STALENESS_S + SCHEDULING_S


class OneWay(FaultyRun):
    """Clients that only read, each a key of its own: with nothing but hits they never wait."""

    write_share = 0.0
    mget_share = 0.0

    def pick(self, name: str, chance: random.Random) -> str:
        return super().pick(name, chance) if name.startswith("stranger") else KEYS[int(name[-1])]

    def _faults(self) -> list[Callable[[], None]]:
        return [self.one_way]


def test_no_lie_whatever_fails(own_redis: RedisProcess) -> None:
    play(own_redis, RUN_S)


@pytest.mark.soak
def test_no_lie_whatever_fails_for_long(own_redis: RedisProcess) -> None:
    play(own_redis, SOAK_S)
