"""Redis dies, freezes, refuses or vanishes; Terrace is told to stop. What clients see then.

RECOVERY_S is the promise: backoff_max is 0.5 s, so within a second of its return Redis
is in use again. Patience of Terrace is shortened so that the tests are short.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.e2e.fault_matrix import RECOVERY_S, SLACK_S
from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess, running_terrace
from tests.e2e.wire import Argument, Wire, encode
from tests.fault_proxy import FaultProxy
from tests.ports import free_port
from tiers.wire.resp import decode

IN_TIME_S = 2.0  # the deadlines below, and patience with a busy machine
IMPATIENT: dict[str, Any] = {"l2__deadline": "500ms", "l2__connect_timeout": "300ms"}
L2_DOWN = b"-ERR terrace: L2 (redis) is unavailable: "
UNKNOWN = b"the outcome of this command is unknown and it was not retried"

NEED_REDIS: tuple[tuple[Argument, ...], ...] = (
    ("GET", "unknown"),
    ("MGET", "known", "unknown"),
    ("TTL", "known"),
    ("STRLEN", "known"),
    ("SET", "known", "w"),
    ("EVAL", "return 1", 0),
)


@pytest.fixture
def terrace(own_redis: RedisProcess) -> Iterator[TerraceProcess]:
    with running_terrace(own_redis.url, **IMPATIENT) as process:
        yield process


@pytest.fixture
def wire(terrace: TerraceProcess) -> Iterator[Wire]:
    with Wire(terrace.port) as wire:
        yield wire


def warm(wire: Wire) -> None:
    """Three entries of L1: a value, a hash and an absence."""
    wire.ask_all(("SET", "known", "v"), ("HSET", "hash", "f", "v"))
    for _ in range(2):
        wire.ask("GET", "known")
        wire.ask("HGETALL", "hash")
        wire.ask("GET", "absent")


def wait_down(terrace: TerraceProcess) -> None:
    wait_until(lambda: terrace.readiness()[0] == 503, "Terrace noticed")


def expect_degraded(terrace: TerraceProcess, wire: Wire) -> None:
    """Known answers from L1, errors for the rest, and never a nil for what is not known."""
    served_before = terrace.metrics()["terrace_stale_served_total"]
    assert wire.ask("GET", "known") == b"$1\r\nv\r\n"
    assert wire.ask("GET", "absent") == b"$-1\r\n"
    assert wire.ask("HGETALL", "hash") == b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    assert wire.ask("MGET", "known", "absent") == b"*2\r\n$1\r\nv\r\n$-1\r\n"
    with Wire(terrace.port, 3) as resp3:
        assert resp3.ask_all(("GET", "known"), ("GET", "absent")) == [b"$1\r\nv\r\n", b"_\r\n"]
    assert terrace.metrics()["terrace_stale_served_total"] > served_before
    for command in NEED_REDIS:
        began = time.monotonic()
        reply = wire.ask(*command)
        assert reply.startswith(b"-ERR terrace: L2 (redis)"), (command, reply)
        assert time.monotonic() - began < IN_TIME_S, command
    assert wire.ask("BLPOP", "q", 0).startswith(b"-ERR terrace: L2 (redis)")
    assert wire.ask("PING") == b"+PONG\r\n"
    assert terrace.get("/healthz")[0] == 200


def expect_recovery(terrace: TerraceProcess, wire: Wire, began: float, reply: bytes) -> None:
    wait_until(lambda: wire.ask("GET", "unknown") == b"$-1\r\n", "reads reach Redis again")
    took_s = time.monotonic() - began
    print(f"recovered after {took_s * 1000:.0f} ms")
    assert took_s < RECOVERY_S + SLACK_S
    terrace.wait_ready()
    assert wire.ask("GET", "known") == reply
    assert wire.ask_all(("SET", "known", "new"), ("GET", "known"))[1] == b"$3\r\nnew\r\n"


def test_redis_is_killed_and_comes_back(
    own_redis: RedisProcess, terrace: TerraceProcess, wire: Wire
) -> None:
    warm(wire)
    own_redis.kill()
    wait_down(terrace)
    expect_degraded(terrace, wire)
    assert wire.ask("SET", "k", "v").endswith(b"the command was not sent\r\n")
    own_redis.start()
    expect_recovery(terrace, wire, time.monotonic(), b"$-1\r\n")


def test_redis_freezes_and_goes_on(
    own_redis: RedisProcess, terrace: TerraceProcess, wire: Wire
) -> None:
    warm(wire)
    own_redis.freeze()
    began = time.monotonic()
    assert wire.ask("GET", "known") == b"$1\r\nv\r\n"
    assert time.monotonic() - began < IN_TIME_S
    reply = wire.ask("SET", "other", "x")
    assert UNKNOWN in reply or reply.startswith(L2_DOWN)
    wait_down(terrace)
    expect_degraded(terrace, wire)
    own_redis.thaw()
    expect_recovery(terrace, wire, time.monotonic(), b"$1\r\nv\r\n")


def test_beyond_the_window_known_entries_are_errors_too(own_redis: RedisProcess) -> None:
    with (
        running_terrace(own_redis.url, l1__stale_on_error="1s", **IMPATIENT) as terrace,
        Wire(terrace.port) as wire,
    ):
        warm(wire)
        began = time.monotonic()
        own_redis.kill()
        replies = {b""}
        while not any(reply.startswith(b"-") for reply in replies):
            replies.add(wire.ask("GET", "known"))
            assert time.monotonic() - began < 3.0
        replies.remove(b"")
        assert time.monotonic() - began > 0.9
        assert b"$1\r\nv\r\n" in replies
        assert len(replies) == 2
        assert wire.ask("GET", "known").startswith(L2_DOWN)


def test_starts_with_redis_down(own_redis: RedisProcess) -> None:
    own_redis.kill()
    with (
        running_terrace(own_redis.url, ready=False, **IMPATIENT) as terrace,
        Wire(terrace.port) as wire,
        Wire(terrace.port, 3) as resp3,
    ):
        for client in (wire, resp3):
            assert client.ask("GET", "k").startswith(L2_DOWN)
            assert client.ask("SET", "k", "v").endswith(b"the command was not sent\r\n")
            assert client.ask("MULTI") == b"+OK\r\n"
            assert client.ask("SET", "k", "v").startswith(b"-ERR terrace")
            assert client.ask("EXEC").startswith(b"-EXECABORT")
        assert terrace.readiness()[0] == 503
        assert terrace.get("/healthz")[0] == 200
        own_redis.start()
        expect_recovery(terrace, wire, time.monotonic(), b"$-1\r\n")


# Through the fault proxy


@pytest.fixture
async def fault(own_redis: RedisProcess) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", own_redis.port) as proxy:
        yield proxy


@pytest.fixture
async def behind(fault: FaultProxy) -> AsyncIterator[TerraceProcess]:
    """A Terrace that reaches its Redis only through `fault`."""
    context = running_terrace(f"redis://127.0.0.1:{fault.port}", **IMPATIENT)
    process = await asyncio.to_thread(context.__enter__)
    yield process
    await asyncio.to_thread(context.__exit__, None, None, None)


async def in_thread(work: Callable[[Wire], None], port: int) -> None:
    def run() -> None:
        with Wire(port) as wire:
            work(wire)

    await asyncio.to_thread(run)


@pytest.mark.parametrize("verb", ["refuse", "drop"])
async def test_network_to_redis_fails(fault: FaultProxy, behind: TerraceProcess, verb: str) -> None:
    await in_thread(warm, behind.port)
    getattr(fault, verb)()

    def degraded(wire: Wire) -> None:
        wait_until(
            lambda: wire.ask("GET", "unknown").startswith(b"-ERR terrace: L2"), "Terrace noticed"
        )
        wait_down(behind)
        expect_degraded(behind, wire)

    await in_thread(degraded, behind.port)
    fault.heal()
    began = time.monotonic()
    await in_thread(lambda wire: expect_recovery(behind, wire, began, b"$1\r\nv\r\n"), behind.port)


@pytest.mark.parametrize("proto", [2, 3])
async def test_a_write_that_was_sent_is_not_retried(
    own_redis: RedisProcess, fault: FaultProxy, behind: TerraceProcess, proto: int
) -> None:
    """Redis runs the INCR, its reply is lost: the client is told, and it counted once."""
    fault.stall_one_way("down")
    with await asyncio.to_thread(Wire, behind.port, proto) as wire:
        assert UNKNOWN in await asyncio.to_thread(wire.ask, "INCR", "counter")
    fault.heal()
    await asyncio.to_thread(behind.wait_ready)
    with await asyncio.to_thread(Wire, behind.port, proto) as wire:
        assert await asyncio.to_thread(wire.ask, "GET", "counter") == b"$1\r\n1\r\n"
    with await asyncio.to_thread(Wire, own_redis.port) as direct:
        statistics = await asyncio.to_thread(direct.ask, "INFO", "commandstats")
    assert b"cmdstat_incr:calls=1," in statistics


async def test_reset_in_the_middle_of_pipelines(
    own_redis: RedisProcess, fault: FaultProxy, behind: TerraceProcess
) -> None:
    """Every command gets one reply in its place, and the counter fits what was said."""
    fault.trickle(97, 0.001)
    rounds, depth = 6, 200
    acknowledged = unknown = 0
    for _ in range(rounds):
        await asyncio.to_thread(behind.wait_ready)
        with await asyncio.to_thread(Wire, behind.port) as wire:
            asked = asyncio.ensure_future(  # noqa: TID251 (a test's own task, awaited below)
                asyncio.to_thread(wire.ask_all, *[("INCR", "counter")] * depth)
            )
            seen = fault.bytes["down"]
            replying = partial(lambda seen: fault.bytes["down"] > seen, seen)
            await asyncio.to_thread(wait_until, replying, "replies are coming")
            fault.reset()
            replies = await asked
        numbers = [decode(reply) for reply in replies if reply[:1] == b":"]
        assert numbers == sorted(set(numbers))
        errors = [reply for reply in replies if reply[:1] == b"-"]
        assert len(numbers) + len(errors) == depth
        assert all(UNKNOWN in e or b"was not sent" in e for e in errors), errors
        acknowledged += len(numbers)
        unknown += sum(UNKNOWN in e for e in errors)
    with await asyncio.to_thread(Wire, own_redis.port) as direct:
        count = int(decode(await asyncio.to_thread(direct.ask, "GET", "counter")))
    print(f"acknowledged {acknowledged}, unknown {unknown}, counted {count}")
    assert acknowledged <= count <= acknowledged + unknown
    assert unknown > 0, "the resets met no request in flight"


async def test_a_slow_network_in_tiny_pieces(fault: FaultProxy, behind: TerraceProcess) -> None:
    fault.trickle(3, 0.0002)
    text = "x" * 60

    def work(wire: Wire) -> None:
        replies = wire.ask_all(("SET", "k", text), ("GET", "k"), ("INCR", "n"), ("GET", "k"))
        assert [decode(reply) for reply in replies[1:]] == [text.encode(), 1, text.encode()]

    await in_thread(work, behind.port)


# Stopping


def stop_with(redis: RedisProcess, **options: object) -> TerraceProcess:
    terrace = TerraceProcess(redis.url, **options)
    terrace.wait_answering()
    terrace.wait_ready()
    return terrace


def blocked(redis: RedisProcess, count: int = 1) -> bool:
    with Wire(redis.port) as direct:
        return b"blocked_clients:%d\r" % count in direct.ask("INFO", "clients")


def refuses(port: int) -> bool:
    try:
        Wire(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_a_blocked_client_finish(own_redis: RedisProcess) -> None:
    terrace = stop_with(own_redis)
    with Wire(terrace.port) as waiter, Wire(own_redis.port) as direct:
        waiter.send("BLPOP", "q", 0)
        wait_until(lambda: blocked(own_redis), "blocked")
        terrace.signal()
        wait_until(lambda: refuses(terrace.port), "no new clients")
        direct.ask("RPUSH", "q", "e")
        assert waiter.read() == [b"*2\r\n$1\r\nq\r\n$1\r\ne\r\n"]
        assert waiter.read_to_end() == b""
    terrace.stop()


def test_sigterm_answers_what_is_in_flight(own_redis: RedisProcess) -> None:
    terrace = stop_with(own_redis)
    with Wire(terrace.port) as wire, Wire(terrace.port) as idle:
        own_redis.freeze()
        for number in range(100):
            wire.send("INCR", "n")
            wire.send("ECHO", number)
        # The others wait for the size of the first replies.
        wait_until(lambda: re.search(rb"oll=[2-9]\d", idle.ask("CLIENT", "LIST")), "many wait")
        terrace.signal()
        wait_until(lambda: refuses(terrace.port), "no new clients")
        assert idle.read_to_end() == b""
        own_redis.thaw()
        replies = [decode(reply) for reply in wire.read(200)]
        assert replies[::2] == list(range(1, 101))
        assert replies[1::2] == [b"%d" % number for number in range(100)]
        assert wire.read_to_end() == b""
    terrace.stop()


def test_the_deadline_of_draining(own_redis: RedisProcess) -> None:
    """Also where Redis cannot even be asked to unblock."""
    terrace = stop_with(own_redis, shutdown__deadline="300ms")
    with Wire(terrace.port) as waiter:
        waiter.send("BLPOP", "q", 0)
        wait_until(lambda: blocked(own_redis), "blocked")
        own_redis.freeze()
        began = time.monotonic()
        terrace.stop()
        assert 0.3 <= time.monotonic() - began < 3.0
        assert waiter.read_to_end() == b""
    own_redis.thaw()
    with Wire(own_redis.port) as direct:
        wait_until(lambda: blocked(own_redis, 0), "Redis sees that it is gone")
        direct.ask("RPUSH", "q", "e")
        assert direct.ask("LLEN", "q") == b":1\r\n"


def test_draining_does_not_wait_for_what_may_never_come(own_redis: RedisProcess) -> None:
    """Blocked clients get what the end of their own time would have brought; nothing is lost."""
    terrace = stop_with(own_redis, shutdown__deadline="5s")
    with Wire(terrace.port) as list_, Wire(terrace.port, 3) as stream, Wire(terrace.port) as held:
        list_.send_raw(encode("BLPOP", "q", 0) + encode("SET", "behind", "x"))
        stream.send("XREAD", "BLOCK", 0, "STREAMS", "s", "0")
        wait_until(lambda: blocked(own_redis, 2), "blocked")
        with Wire(terrace.port) as other:
            other.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        held.send("SET", "held", "x")
        began = time.monotonic()
        terrace.stop()
        assert time.monotonic() - began < 4.8
        assert list_.read_to_end() == b"*-1\r\n"
        assert stream.read_to_end() == b"_\r\n"
        assert held.read_to_end() == b""
    with Wire(own_redis.port) as direct:
        direct.ask("RPUSH", "q", "e")
        assert direct.ask("LLEN", "q") == b":1\r\n"
        assert direct.ask("EXISTS", "behind", "held") == b":0\r\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(own_redis: RedisProcess, number: int) -> None:
    terrace = stop_with(own_redis, shutdown__deadline="60s")
    with Wire(terrace.port) as waiter:
        waiter.send("BLPOP", "q", 0)
        wait_until(lambda: blocked(own_redis), "blocked")
        terrace.signal(number)
        wait_until(lambda: refuses(terrace.port), "draining")
        assert terrace.process.poll() is None
        began = time.monotonic()
        terrace.signal(number)
        terrace.wait_exit()
        assert time.monotonic() - began < 3.0
    terrace.stop()


@pytest.mark.parametrize("option", ["listen__port", "admin__port"])
def test_a_busy_port_is_one_line(own_redis: RedisProcess, option: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = holder.getsockname()[1]
        terrace = TerraceProcess(own_redis.url, **{option: busy})
        try:
            assert terrace.wait_exit() == 1
            told = [line for line in terrace.log().splitlines() if " info " not in line]
            assert len(told) == 1, told
            assert str(busy) in told[0]
            assert option.replace("__", ".") in told[0], told
        finally:
            terrace.close()


def test_nobody_is_served_by_a_process_that_cannot_stay(own_redis: RedisProcess) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        terrace = TerraceProcess(own_redis.url, admin__port=holder.getsockname()[1])
        try:
            while terrace.process.poll() is None:
                assert refuses(terrace.port)
                time.sleep(0.001)
        finally:
            terrace.close()


def test_sigterm_before_it_serves(own_redis: RedisProcess) -> None:
    """As orchestrators do: stopped again while it still starts. No traceback, no leftovers."""
    terrace = TerraceProcess(own_redis.url, listen__port=free_port())
    try:
        wait_until(lambda: terrace.process.poll() is None, "started")
        terrace.signal()
        assert terrace.wait_exit() in (0, -signal.SIGTERM)
        assert "Traceback" not in terrace.log()
    except subprocess.TimeoutExpired:
        pytest.fail(f"still there: {terrace.log()}")
    finally:
        terrace.close()
