"""Every way in which a TLS handshake fails is seen, on the loop of asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import cast

import pytest
import uvloop

from proxy.refusals import HANDSHAKES
from proxy.workers import tls_listener
from proxy.workers.tls_listener import TlsListener, failure_reason
from tests.certificates import Authority

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
DEADLINE_S = 10.0
POLL_S = 0.005


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"hello")


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(DEADLINE_S / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)
    raise TimeoutError


class Door:
    """A listener that asks for certificates, and what it was told."""

    def __init__(self, authority: Authority) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("server"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
        self.failures: list[tuple[str, object]] = []
        sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = sock.getsockname()[1]
        self.listener = TlsListener(
            sock, context, Greeter, lambda reason, peer: self.failures.append((reason, peer))
        )

    async def failed(self, count: int) -> list[str]:
        """The reasons of the first `count` failures."""
        await until(lambda: len(self.failures) >= count)
        assert all(peer[0] == "127.0.0.1" for _, peer in self.failures)  # type: ignore[index]
        return [reason for reason, _ in self.failures]

    async def __aenter__(self) -> Door:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        await self.listener.end()
        assert repr(self.listener) == "<TlsListener 0 handshakes>"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[None, None, None]], None]:
    def run(scenario: Coroutine[None, None, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(scenario)

    return run


Run = Callable[[Coroutine[None, None, None]], None]


def ends(port: int, data: bytes, *, leave: bool = False) -> None:
    """A client that does not speak TLS."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        sock.sendall(data)
        while not leave and sock.recv(1000):
            pass


def hello(port: int, context: ssl.SSLContext) -> bytes:
    """What a TLS client reads behind its first command; b"" if it is turned away."""
    try:
        raw = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        with context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(100)
    except OSError:
        return b""


def test_each_failure_has_its_reason(run: Run, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    known = authority.client_context(authority.issue("client", "client"))
    unsigned = authority.client_context(stranger.issue("evil", "client"))
    old = authority.client_context(authority.issue("client", "client"))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    distrusting = ssl.create_default_context()

    async def scenario() -> None:
        async with Door(authority) as door:
            assert await asyncio.to_thread(hello, door.port, known) == b"hello"
            for count, (expected, attempt) in enumerate(
                (
                    ("not_tls", lambda: ends(door.port, b"PING\r\n")),
                    ("not_tls", lambda: ends(door.port, b"*1\r\n$4\r\nPING\r\n")),
                    ("not_tls", lambda: ends(door.port, b"GET / HTTP/1.0\r\n\r\n")),
                    ("closed", lambda: ends(door.port, b"", leave=True)),
                    ("closed", lambda: ends(door.port, b"\x16\x03\x01", leave=True)),
                    ("no_certificate", lambda: hello(door.port, authority.client_context())),
                    ("bad_certificate", lambda: hello(door.port, unsigned)),
                    ("no_agreement", lambda: hello(door.port, old)),
                    ("alert", lambda: hello(door.port, distrusting)),
                ),
                start=1,
            ):
                await asyncio.to_thread(attempt)
                assert (await door.failed(count))[-1] == expected
            assert await asyncio.to_thread(hello, door.port, known) == b"hello"
            assert len(door.failures) == count

    run(scenario())


def test_one_that_says_nothing_takes_too_long(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_TIMEOUT_S", 0.1)

    async def scenario() -> None:
        async with Door(Authority(tmp_path)) as door:
            await asyncio.to_thread(ends, door.port, b"")
            assert await door.failed(1) == ["timeout"]

    run(scenario())


def test_a_full_house_waits_in_the_backlog(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKES_MAX", 2)
    authority = Authority(tmp_path)
    known = authority.client_context(authority.issue("client", "client"))

    async def scenario() -> None:
        async with Door(authority) as door:
            idle = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(3)]
            client = asyncio.gather(asyncio.to_thread(hello, door.port, known))
            await until(lambda: "2 handshakes" in repr(door.listener))
            assert door.failures == []
            for sock in idle:
                sock.close()
            assert await client == [b"hello"]
            assert await door.failed(3) == ["closed"] * 3

    run(scenario())


def test_no_room_for_a_connection_is_told_and_tried_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls_listener, "ACCEPT_PAUSE_S", 0.05)
    authority = Authority(tmp_path)
    known = authority.client_context(authority.issue("client", "client"))

    class Full:
        """The listening socket of a process that has as many files as it may."""

        def __init__(self, sock: socket.socket) -> None:
            self.fileno, self.close, self.sock, self.tries = sock.fileno, sock.close, sock, 0

        def accept(self) -> object:
            self.tries += 1
            if self.tries == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

    async def scenario() -> None:
        async with Door(authority) as door:
            door.listener._sock = Full(door.listener._sock)  # type: ignore[assignment]
            assert await asyncio.to_thread(hello, door.port, known) == b"hello"
            assert door.failures == []

    run(scenario())
    assert caplog.text.count("cannot be accepted for now: Too many open files") == 1


def test_what_is_under_way_ends_with_the_listener(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Door(Authority(tmp_path)) as door:
            idle = socket.create_connection(("127.0.0.1", door.port))
            await until(lambda: "1 handshakes" in repr(door.listener))
        idle.settimeout(DEADLINE_S)
        began = time.monotonic()
        assert idle.recv(1) == b""
        assert time.monotonic() - began < DEADLINE_S / 2
        idle.close()
        assert door.failures == []

    run(scenario())


def test_reasons_are_those_of_the_metric() -> None:
    errors: list[OSError] = [ConnectionAbortedError(), ConnectionResetError(), OSError(113, "x")]
    assert {failure_reason(error) for error in errors} == {"timeout", "closed"}
    assert failure_reason(ssl.SSLError(1, "odd")) == "other"
    assert set(tls_listener._REASONS.values()) <= HANDSHAKES.reasons.keys()
