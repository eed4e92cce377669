"""A connection to Redis that is kept: made again, probed, given up, told once."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import pytest

from tests.tiers.scripted_redis import WAIT_S, Answer, ScriptedRedis, scripted_redis, usual
from tests.tiers.upstream_play import SECRET, Waits, options, until
from tiers.errors import TierUnavailable
from tiers.guard.connect_gate import ConnectGate
from tiers.l2.kept_upstream import KeptUpstream
from tiers.l2.node import WHO
from tiers.l2.upstream import TCP_KEEPALIVE_S, TCP_USER_TIMEOUT_MS, Endpoint, Upstream
from tiers.options import L2Options
from tiers.tasks import TaskSet
from tiers.wire.resp import error, pack, simple


class Kept:
    """A KeptUpstream under test, with its transitions recorded."""

    def __init__(self, server: ScriptedRedis, url: str = "", **changes: Any) -> None:
        self.story: list[str] = []
        self.tasks = TaskSet("test")
        limits = {k: changes.pop(k) for k in list(changes) if k in L2Options.model_fields}
        self.gate = ConnectGate("test", options(**limits), time.monotonic)
        self.upstream = KeptUpstream(
            "L2 test",
            Endpoint.from_url(url or server.url),
            options(**limits),
            self.gate,
            proto=3,
            clock=time.monotonic,
            on_ready=lambda sent_at: self.story.append("ready"),
            on_down=lambda: self.story.append("down"),
            **changes,
        )

    async def __aenter__(self) -> Kept:
        self.gate.on_failure = self.upstream.on_unreachable
        self.gate.on_open = self.upstream.retry
        self.tasks.start("keep", self.upstream.keep())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.tasks.close()

    async def connected(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.upstream.connected.wait()


async def test_it_connects_and_reconnects_by_itself() -> None:
    async with scripted_redis() as server, Kept(server) as kept:
        await kept.connected()
        assert kept.upstream.server[b"server"] in (b"redis", "redis")
        for _ in range(3):
            waiter = Waits()
            server.answer = lambda args: usual(args) if args[0] != b"GET" else None
            kept.upstream.send(pack([b"GET", b"k"]), waiter)
            await server.wait_received(b"GET", b"k")
            server.cut()
            await waiter.wait()
            assert waiter.losses[0][1]
            await kept.connected()
        assert kept.story == ["ready", "down"] * 3 + ["ready"]
        assert server.accepted == 4


async def test_it_waits_for_a_server_that_comes_later() -> None:
    async with scripted_redis(listening=False) as server, Kept(server) as kept:
        await until(lambda: "No such file" in kept.upstream.reason)
        assert kept.story == []
        await server.start()
        await kept.connected()
        await server.stop()
        await until(lambda: not kept.upstream.ready)
        await server.start()
        await kept.connected()
        assert kept.story == ["ready", "down", "ready"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"HELLO", error("NOAUTH HELLO must be called with the client already authenticated")),
        (b"HELLO", error("WRONGPASS invalid username-password pair or user is disabled.")),
        (b"HELLO", error("ERR unknown command `HELLO`")),
        (b"PING", error("LOADING Redis is loading the dataset in memory")),
        (b"PING", error("MASTERDOWN Link with MASTER is down")),
    ],
)
async def test_a_refused_handshake_is_told_and_tried_again(command: bytes, reply: bytes) -> None:
    def refuse(args: list[bytes]) -> Answer:
        return reply if args[0] == command else usual(args)

    async with scripted_redis() as server:
        server.answer = refuse
        async with Kept(server) as kept:
            await server.wait_for(lambda: server.accepted >= 3)
            assert not kept.upstream.ready
            assert "ready" not in kept.story
            assert reply[1:-2].decode() in kept.upstream.reason
            server.answer = usual
            await kept.connected()


async def test_what_the_handshake_asks_may_be_refused_by_its_owner() -> None:
    def accept(replies: list[Any]) -> str:
        return "no tracking here" if isinstance(replies[-1], Exception) else ""

    async with scripted_redis() as server:
        refusing = True

        def answer(args: list[bytes]) -> Answer:
            return error("ERR no") if refusing and args[0] == b"CLIENT" else usual(args)

        server.answer = answer
        handshake = [[b"CLIENT", b"TRACKING", b"ON"]]
        async with Kept(server, handshake=handshake, accept=accept) as kept:
            await until(lambda: kept.upstream.reason == "no tracking here")
            refusing = False
            await kept.connected()
            assert server.received[-4:] == [[b"HELLO", b"3"], WHO, *handshake, [b"PING"]]


async def test_a_silent_server_is_given_up_at_the_deadline() -> None:
    async with scripted_redis() as server, Kept(server, deadline_s=0.5) as kept:
        await kept.connected()
        server.answer = lambda args: None
        waiter = Waits()
        kept.upstream.send(pack([b"GET", b"k"]), waiter)
        await server.wait_received(b"GET", b"k")
        now = kept.upstream.upstream.pipe.last_sent_at
        kept.upstream.watch(now + 0.4)
        assert not waiter.losses
        server.answer = usual
        kept.upstream.watch(now + 0.6)
        assert waiter.losses == [("no reply within 0.5 s", True)]
        await server.wait_for(lambda: server.accepted >= 2)  # that connection is not used again
        await kept.connected()


async def test_an_idle_connection_is_probed_and_a_half_open_one_found_out() -> None:
    async with scripted_redis() as server, Kept(server, ping_interval_s=2, deadline_s=1) as kept:
        await kept.connected()
        pings = server.received.count([b"PING"])
        sent_at = kept.upstream.upstream.pipe.last_sent_at
        kept.upstream.watch(sent_at + 1.9)
        kept.upstream.watch(sent_at + 2.1)
        await server.wait_for(lambda: server.received.count([b"PING"]) == pings + 1)
        await until(lambda: not len(kept.upstream.upstream.pipe))
        server.answer = lambda args: None  # half open: it takes bytes and never answers
        sent_at = kept.upstream.upstream.pipe.last_sent_at
        kept.upstream.watch(sent_at + 2.1)
        await server.wait_for(lambda: server.received.count([b"PING"]) == pings + 2)
        server.answer = usual
        kept.upstream.watch(kept.upstream.upstream.pipe.last_sent_at + 1.1)
        assert kept.story == ["ready", "down"]
        await kept.connected()


async def test_error_replies_are_no_fault_of_the_connection() -> None:
    """A data error moves nothing (rule 15)."""
    async with scripted_redis() as server, Kept(server) as kept:
        await kept.connected()
        wrong = error("WRONGTYPE Operation against a key holding the wrong kind of value")
        server.answer = lambda args: wrong if args[0] == b"GET" else usual(args)
        waiters = [Waits() for _ in range(500)]
        for waiter in waiters:
            kept.upstream.send(pack([b"GET", b"k"]), waiter)
        await waiters[-1].wait()
        assert {waiter.replies[0][0] for waiter in waiters} == {wrong}
        assert kept.upstream.ready
        assert kept.story == ["ready"]


async def test_dead_peers_are_found_by_the_kernel_too() -> None:
    """Rule 12: probes of an idle connection, and a bound on what was sent and not acknowledged."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT_S)
    upstream = Upstream(time.monotonic)
    try:
        port = listener.getsockname()[1]
        await upstream.open(Endpoint.from_url(f"redis://127.0.0.1:{port}"), [], 2.0)
        assert upstream._transport is not None
        sock = upstream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == TCP_KEEPALIVE_S
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == TCP_USER_TIMEOUT_MS
    finally:
        upstream.abort("test over")
        listener.close()


async def test_every_attempt_looks_the_name_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 12: after a failover the name leads elsewhere."""
    loop = asyncio.get_running_loop()
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    ports = [first.getsockname()[1], second.getsockname()[1]]
    asked: list[str] = []

    async def lookup(host: str, port: int, **rest: object) -> list[tuple[object, ...]]:
        asked.append(host)
        address = ("127.0.0.1", ports[min(len(asked), 2) - 1])
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    monkeypatch.setattr(loop, "getaddrinfo", lookup)
    first.close()  # nobody listens there any more
    second.setblocking(False)
    async with scripted_redis() as server, Kept(server, "redis://redis.example:6379"):
        peer, _ = await asyncio.wait_for(loop.sock_accept(second), WAIT_S)
        peer.close()
    second.close()
    assert set(asked) == {"redis.example"}
    assert len(asked) >= 2


async def test_nothing_shows_a_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def refuse(args: list[bytes]) -> Answer:
        return error("WRONGPASS invalid username-password pair or user is disabled.")

    async with scripted_redis() as server:
        server.answer = refuse
        url = f"unix://user:{SECRET}@{server.path}"
        async with Kept(server, url) as kept:
            await server.wait_for(lambda: server.accepted >= 2)
            shown = f"{kept.upstream!r} {kept.upstream.reason} {caplog.text}"
            assert [b"HELLO", b"3", b"AUTH", b"user", b"hunter2-@"] in server.received
    assert "WRONGPASS" in shown
    assert "hunter2" not in shown + caplog.text


async def test_one_line_in_the_log_per_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "terrace.l2")
    async with scripted_redis() as server, Kept(server) as kept:
        await kept.connected()
        await server.stop()
        await until(lambda: kept.gate.breaker.statistics().probes > 3)
        await server.start()
        await kept.connected()
    shapes = ["connected to", "reconnecting", "is down: cannot connect", "is back", "connected to"]
    messages = [record.message for record in caplog.records]
    assert len(messages) == len(shapes), messages
    assert all(shape in text for shape, text in zip(shapes, messages, strict=True)), messages


async def test_attempts_begun_before_the_server_was_back_do_not_hold_up_the_others() -> None:
    """Two connections: the handshake of one was swallowed, the probe of the other succeeds."""
    async with scripted_redis() as server, Kept(server, connect_timeout_s=60) as kept:
        server.answer = lambda args: None  # half open: it takes bytes and never answers
        await server.wait_received(b"PING")
        assert not kept.upstream.ready
        kept.gate.failed(TierUnavailable("L2", "refused"))
        server.answer = usual
        kept.gate.succeeded()
        await kept.connected()
        assert server.accepted == 2


async def test_the_reply_to_a_push_in_the_handshake_is_not_confused() -> None:
    """A push may already come between the replies of the handshake."""

    def pushy(args: list[bytes]) -> Answer:
        reply = usual(args)
        return b">2\r\n+invalidate\r\n*1\r\n+k\r\n" + reply if reply else None

    frames: list[bytes] = []

    def tap(frame: bytes) -> bool:
        frames.append(frame)
        return True

    async with scripted_redis() as server:
        server.answer = pushy
        async with Kept(server, tap=tap) as kept:
            await kept.connected()
            assert kept.upstream.server
    assert frames
    assert simple("PONG") not in frames
