"""Connections to Redis: URLs, handshakes that fail, servers that fall silent."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.tiers.scripted_redis import ScriptedRedis, scripted_redis
from tests.tiers.upstream_play import PING, SECRET, Waits
from tests.tiers.wire.test_pipe import Recorder
from tiers.errors import TierUnavailable
from tiers.l2.upstream import Endpoint, Upstream
from tiers.wire.resp import pack

# URLs


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("redis://127.0.0.1", Endpoint()),
        ("redis://h:1/0", Endpoint(host="h", port=1)),
        ("redis://[::1]:7", Endpoint(host="::1", port=7)),
        ("redis://:p%40ss@h", Endpoint(host="h", password="p@ss")),
        ("redis://u:p@h", Endpoint(host="h", username="u", password="p")),
        ("unix:///run/r.sock", Endpoint(path="/run/r.sock")),
        ("unix://u:p@/run/r%20s.sock", Endpoint(path="/run/r s.sock", username="u", password="p")),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.from_url(url) == endpoint
    assert Endpoint.from_url("rediss://h").tls is not None


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://h/3", "redis://h?db=3", "unix://", "redis://", "redis://h:x", "h:6379"],
)
def test_bad_urls_are_refused_without_their_password(url: str) -> None:
    secret = url.replace("://", f"://u:{SECRET}@")
    with pytest.raises(ValueError) as caught:
        Endpoint.from_url(secret)
    assert SECRET not in str(caught.value)


def test_an_endpoint_never_shows_its_password() -> None:
    endpoint = Endpoint.from_url(f"redis://user:{SECRET}@h:1")
    assert "hunter2" not in f"{endpoint} {endpoint!r}"


@pytest.mark.parametrize(
    ("url", "proto", "commands"),
    [
        ("redis://h", 2, []),
        ("redis://h", 3, [[b"HELLO", b"3"]]),
        ("redis://:p@h", 2, [[b"AUTH", b"p"]]),
        ("redis://u:p@h", 2, [[b"AUTH", b"u", b"p"]]),
        ("redis://:p@h", 3, [[b"HELLO", b"3", b"AUTH", b"default", b"p"]]),
    ],
)
def test_logging_in(url: str, proto: int, commands: list[list[bytes]]) -> None:
    assert Endpoint.from_url(url).login_commands(proto) == commands


# One connection


@contextlib.asynccontextmanager
async def connected(server: ScriptedRedis, **more: Any) -> AsyncIterator[Upstream]:
    upstream = Upstream(time.monotonic, **more)
    await upstream.open(Endpoint.from_url(server.url), [[b"PING"]], 2.0)
    upstream.ready = True
    try:
        yield upstream
    finally:
        upstream.abort("test over")


async def test_what_is_queued_in_one_tick_leaves_in_one_write() -> None:
    async with scripted_redis() as server, connected(server) as upstream:
        waiters = [Waits() for _ in range(100)]
        for number, waiter in enumerate(waiters):
            upstream.send(pack([b"GET", b"%d" % number]), waiter)
        await waiters[-1].wait()
        values = [waiter.replies[0][0] for waiter in waiters]
        assert values == [b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(100)]
        assert len({waiter.replies[0][1] for waiter in waiters}) == 1, "sent more than once"


async def test_nobody_listens() -> None:
    async with scripted_redis(listening=False) as server:
        upstream = Upstream(time.monotonic)
        with pytest.raises(TierUnavailable, match=r"cannot connect to unix:.*No such file"):
            await upstream.open(Endpoint.from_url(server.url), [[b"PING"]], 2.0)
        waiter = Recorder()
        upstream.send(PING, waiter)
        assert waiter.losses == [(upstream.reason, False)]


async def test_a_refused_port_and_an_unknown_host() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TierUnavailable, match=rf"cannot connect to 127.0.0.1:{port}: "):
            await Upstream(time.monotonic).open(Endpoint(port=port), [], 2.0)
    with pytest.raises(TierUnavailable, match=r"cannot connect to nowhere.invalid:6379: |within"):
        await Upstream(time.monotonic).open(Endpoint(host="nowhere.invalid"), [], 2.0)


async def test_a_server_that_accepts_and_says_nothing() -> None:
    async with scripted_redis() as server:
        server.answer = lambda args: None
        with pytest.raises(TierUnavailable, match=r"no answer from unix:.* within 0.05 s"):
            await Upstream(time.monotonic).open(Endpoint.from_url(server.url), [[b"PING"]], 0.05)
        await server.wait_for(lambda: not server.open)


async def test_a_reply_cut_in_the_middle_tells_every_waiter_once() -> None:
    closed: list[str] = []
    async with scripted_redis() as server, connected(server, on_closed=closed.append) as upstream:
        whole, half, rest = Waits(), Waits(), Waits()
        server.answer = lambda args: b"+whole\r\n$100\r\nhalf" if args[1] == b"1" else None
        for number, waiter in enumerate((whole, half, rest), 1):
            upstream.send(pack([b"GET", b"%d" % number]), waiter)
        await whole.wait()
        server.cut()
        await rest.wait()
        assert whole.replies[0][0] == b"+whole\r\n"
        assert [len(half.losses), len(rest.losses), len(whole.losses)] == [1, 1, 0]
        assert half.losses[0][1], "it was sent"
        assert len(closed) == 1
        assert not upstream.ready
        late = Recorder()
        upstream.send(PING, late)
        assert [sent for _, sent in late.losses] == [False]


async def test_bytes_that_are_not_resp_end_the_connection() -> None:
    async with scripted_redis() as server, connected(server) as upstream:
        server.answer = lambda args: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        waiter = Waits()
        upstream.send(PING, waiter)
        await waiter.wait()
        assert "unknown reply type" in waiter.losses[0][0]
        await server.wait_for(lambda: not server.open)


async def test_too_many_in_flight_fail_fast() -> None:
    async with scripted_redis() as server, connected(server, max_in_flight=3) as upstream:
        server.answer = lambda args: None
        waiters = [Recorder() for _ in range(5)]
        for waiter in waiters:
            upstream.send(PING, waiter)
        assert [waiter.losses for waiter in waiters[:3]] == [[], [], []]
        assert [sent for _, sent in waiters[4].losses] == [False]
        assert "too many requests wait" in waiters[4].losses[0][0]


async def test_an_aborted_connection_says_why_and_only_once() -> None:
    closed: list[str] = []
    async with scripted_redis() as server, connected(server, on_closed=closed.append) as upstream:
        unsent = Recorder()
        upstream.send(PING, unsent)
        upstream.abort("first")
        upstream.abort("second")
        assert unsent.losses == [("first", False)]
        assert (closed, upstream.reason) == (["first"], "first")
