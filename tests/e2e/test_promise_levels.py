"""Promises per namespace, over several Terraces on one Redis.

The second Terrace hears from Redis 10 ms late, so that what tracking alone would promise
(nothing, across connections) shows in every run.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire
from tests.fault_proxy import FaultProxy
from tiers.wire.resp import decode

BOUND_S = 0.1
LATE_S = 0.01
ROUNDS = 6
NAMESPACES = [
    {"match": "strict:*", "consistency": "strict", "max_staleness": f"{BOUND_S}s"},
    {"match": "raw:*", "consistency": "bypass"},
    {"match": "off:*", "l1": "off"},
    {"match": "short:*", "max_age": "100ms"},
    {"match": "tight:*", "max_staleness": "40ms"},
]
OPTIONS = {"namespace": json.dumps(NAMESPACES), "l1__max_staleness": f"{BOUND_S}s"}

Command = tuple[Argument, ...]


@dataclass
class Pair:
    near: TerraceProcess
    far: TerraceProcess  # hears from Redis late


@pytest.fixture
async def pair(own_redis: RedisProcess) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(FaultProxy("127.0.0.1", own_redis.port))
        with ExitStack() as processes:

            def start(url: str) -> TerraceProcess:
                return processes.enter_context(running_terrace(url, **OPTIONS))

            near = await asyncio.to_thread(start, own_redis.url)
            far = await asyncio.to_thread(start, f"redis://127.0.0.1:{wire.port}")
            wire.delay(LATE_S)
            try:
                yield Pair(near, far)
            finally:
                wire.heal()
                await asyncio.to_thread(processes.close)


def hits(terrace: TerraceProcess) -> int:
    return int(terrace.figure("l1_hits"))


def warm(terrace: TerraceProcess, wire: Wire, key: str) -> None:
    """Until the key is answered from memory."""
    before = hits(terrace)
    wait_until(lambda: wire.ask("GET", key) and hits(terrace) > before, f"{key} is a hit")


def old_values_read(pair: Pair, key: str, ways: list[list[Command]]) -> int:
    """How many reads through the far Terrace missed a write acknowledged by the near one."""
    missed = 0
    with Wire(pair.near.port) as writer, Wire(pair.far.port) as reader:
        for number in range(ROUNDS):
            writer.ask("SET", key, f"before{number}")
            wait_until(
                lambda n=number: decode(reader.ask("GET", key)) == b"before%d" % n, "it is seen"
            )
            warm(pair.far, reader, key)
            for command in ways[number % len(ways)]:
                writer.ask(*(f"after{number}" if part == "VALUE" else part for part in command))
            missed += decode(reader.ask("GET", key)) != b"after%d" % number
    return missed


def ways(key: str) -> list[list[Command]]:
    return [
        [("SET", key, "VALUE")],
        [("MULTI",), ("SET", key, "VALUE"), ("EXEC",)],
        [("EVAL", "return redis.call('set', KEYS[1], ARGV[1])", 1, key, "VALUE")],
        [("SET", "spare", "VALUE"), ("RENAME", "spare", key)],
        [("EVAL", "return redis.call('set', ARGV[1], ARGV[2])", 0, key, "VALUE")],
        [("MULTI",), ("EVAL", "return redis.call('set', ARGV[1], ARGV[2])", 0, key, "VALUE"),
         ("EXEC",)],
    ]  # fmt: skip


async def test_a_strict_write_is_seen_by_every_read_after_it(pair: Pair) -> None:
    strict = await asyncio.to_thread(old_values_read, pair, "strict:k", ways("strict:k"))
    bounded = await asyncio.to_thread(old_values_read, pair, "bounded:k", ways("bounded:k"))
    assert strict == 0
    assert bounded > 0, "nothing would have been missed without the promise either"


async def test_a_strict_write_waits_for_no_longer_than_the_bound(pair: Pair) -> None:
    def held_s(*command: Argument) -> float:
        with Wire(pair.near.port) as wire:
            began = time.monotonic()
            assert wire.ask(*command)[:1] in b"+:$*"
            return time.monotonic() - began

    strict = await asyncio.to_thread(held_s, "SET", "strict:k", "v")
    assert BOUND_S <= strict < BOUND_S + 1
    assert await asyncio.to_thread(held_s, "FLUSHALL") >= BOUND_S
    assert await asyncio.to_thread(held_s, "BLPOP", "strict:list", "0.05") >= BOUND_S
    assert await asyncio.to_thread(held_s, "MSET", "other", "v", "strict:b", "v") >= BOUND_S
    quick = min([await asyncio.to_thread(held_s, "SET", "other", "v") for _ in range(5)])
    assert quick < BOUND_S
    assert int(await asyncio.to_thread(pair.near.figure, "strict_writes_held")) == 4


@pytest.mark.parametrize("disturbed", [False, True])
async def test_many_clients_at_once(pair: Pair, own_redis: RedisProcess, disturbed: bool) -> None:
    """Whoever reads after an acknowledgement reads that value or a later one, on each Terrace.

    Also when Redis forgets who serves strict keys, and all connections are lost, again and again.
    """

    def play() -> tuple[int, int]:
        acked, reads, wrong = 0, 0, 0
        until = time.monotonic() + 2
        over = threading.Event()

        def write() -> None:
            nonlocal acked
            with Wire(pair.near.port) as wire:
                while time.monotonic() < until:
                    reply = wire.ask("INCR", "strict:n")
                    if reply.startswith(b":"):  # else its outcome is not known
                        acked = int(reply[1:-2])
            over.set()

        def read(port: int) -> None:
            nonlocal reads, wrong
            with Wire(port) as wire:
                while not over.is_set():
                    least = acked
                    value = decode(wire.ask("GET", "strict:n"))
                    if not isinstance(value, Exception):
                        reads += 1
                        wrong += int(value or 0) < least

        def disturb() -> None:
            with Wire(own_redis.port) as direct:
                while not over.wait(0.25):
                    direct.ask("DEL", "__terrace:peers")
                    direct.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        ports = [pair.near.port, pair.far.port, pair.far.port]
        threads = [threading.Thread(target=write)]
        threads += [threading.Thread(target=read, args=(port,)) for port in ports]
        threads += [threading.Thread(target=disturb)] * disturbed
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert acked > 3
        return reads, wrong

    reads, wrong = await asyncio.to_thread(play)
    assert reads > 100
    assert wrong == 0


def test_what_is_never_cached_is_read_each_time(own_redis: RedisProcess) -> None:
    with running_terrace(own_redis.url, **OPTIONS) as terrace, Wire(terrace.port) as wire:
        with Wire(own_redis.port) as direct:
            for key in ("raw:k", "off:k"):
                for number in range(20):
                    direct.ask("SET", key, number)
                    assert decode(wire.ask("GET", key)) == b"%d" % number
                    assert decode(wire.ask("MGET", key, key)) == [b"%d" % number] * 2
                    assert wire.ask("STRLEN", key) == direct.ask("STRLEN", key)
        assert hits(terrace) == 0
        assert terrace.figure("l1_entries") == "0"


def test_ages_and_bounds_of_their_own(own_redis: RedisProcess) -> None:
    with running_terrace(own_redis.url, **OPTIONS) as terrace, Wire(terrace.port) as wire:
        wire.ask("SET", "short:k", "v")
        wire.ask("SET", "tight:k", "v")
        fills = int(terrace.figure("l1_fills"))
        wait_until(
            lambda: wire.ask("GET", "short:k") and int(terrace.figure("l1_fills")) > fills + 2,
            "it is read again after max_age",
        )
        before = hits(terrace)
        wait_until(
            lambda: [wire.ask("GET", "tight:k") for _ in range(20)] and hits(terrace) > before,
            "reads follow each other within the tighter bound",
        )


def test_a_lone_terrace_does_not_wait(own_redis: RedisProcess) -> None:
    """Once nobody can be missing from the set of those who serve strict keys."""
    with running_terrace(own_redis.url, **OPTIONS) as terrace, Wire(terrace.port) as wire:
        with Wire(own_redis.port) as direct:
            wait_until(
                lambda: direct.ask("EXISTS", "__terrace:peers") == b":1\r\n", "it is entered"
            )
            # As if it had been there for a minute.
            direct.ask("ZINCRBY", "__terrace:peers", 60_000, "born")
        held_s = []
        for _ in range(5):
            began = time.monotonic()
            wire.ask("SET", "strict:k", "v")
            held_s.append(time.monotonic() - began)
        warm(terrace, wire, "strict:k")
        assert terrace.figure("strict_peers") == "0"
        assert min(held_s) < BOUND_S
