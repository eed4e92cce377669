"""The sockets of one worker, without Redis: what is set on them, whom they turn away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from proxy.config.load import load
from proxy.server import Terrace
from proxy.socket_file import SocketFile, unix_socket_problem
from proxy.workers.listeners import Listeners
from tests.certificates import Authority
from tests.ports import free_port


class Greeter(asyncio.Protocol):
    """Says hello and keeps the connection, so that tests can look at it."""

    seen: list[asyncio.Transport] = []  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        Greeter.seen.append(transport)
        transport.write(b"hello")


@pytest.fixture
def _no_transports() -> None:
    Greeter.seen = []


Opener: TypeAlias = Callable[..., Awaitable[Listeners]]


@pytest.fixture
async def opened(_no_transports: None) -> AsyncIterator[Opener]:
    made: list[Listeners] = []

    async def open_(*flags: str) -> Listeners:
        config = load(None, {}, ["listen.port=0", *flags])
        listeners = Listeners(config, Greeter, lambda reason, address: None)
        made.append(listeners)
        await listeners.open()
        return listeners

    yield open_
    for listeners in made:
        listeners.close()
    for transport in Greeter.seen:
        transport.abort()


@contextlib.asynccontextmanager
async def client(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_any_free_port_when_nothing_else_is_wanted(opened: Opener) -> None:
    listeners = await opened()
    assert listeners.port
    assert str(listeners) == f"127.0.0.1:{listeners.port}"
    assert listeners.is_open
    listeners.close()
    assert not listeners.is_open


async def test_clients_are_never_refused_during_a_reload(opened: Opener, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    port = free_port()
    listeners = await opened(f"tls.port={port}", f"tls.cert_file={cert}", f"tls.key_file={key}")
    context = authority.client_context()
    serials: set[str] = set()

    async def connect() -> None:
        async with client(port, context) as (reader, writer):
            assert await reader.readexactly(5) == b"hello"
            serials.add(writer.get_extra_info("peercert")["serialNumber"])

    for _ in range(5):
        authority.issue("server")
        begun = asyncio.gather(*(connect() for _ in range(5)))
        await asyncio.sleep(0)
        listeners.reload_certificates()
        await asyncio.gather(begun, connect())
    assert len(serials) > 1


async def test_a_reload_before_the_start_counts(tmp_path: Path) -> None:
    """Of a worker that starts later: it reads the configuration again, then listens."""
    authority, former = Authority(tmp_path), Authority(tmp_path, "former")
    cert, key = former.issue("server")
    port = free_port()
    flags = ["listen.port=0", f"tls.port={port}"]
    old = load(None, {}, [*flags, f"tls.cert_file={cert}", f"tls.key_file={key}"])
    new = load(
        None, {}, [*flags, *(f"tls.{name}={file}" for name, file in zip(
            ("cert_file", "key_file"), authority.issue("another"), strict=True,
        ))],
    )  # fmt: skip
    listeners = Listeners(old, Greeter, lambda reason, address: None)
    listeners.reload_certificates(new.tls)
    await listeners.open()
    try:
        async with client(port, authority.client_context()) as (reader, _):
            assert await reader.readexactly(5) == b"hello"
    finally:
        listeners.close()


async def test_after_reloads_and_a_close_nothing_is_open(opened: Opener, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    port = free_port()
    listeners = await opened(f"tls.port={port}", f"tls.cert_file={cert}", f"tls.key_file={key}")
    listeners.reload_certificates()
    listeners.close()
    listeners.reload_certificates()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_reload_takes_over_the_authorities_of_clients(
    opened: Opener, tmp_path: Path
) -> None:
    """Not only the certificate: who was trusted before may be so no more."""
    authority, former = Authority(tmp_path), Authority(tmp_path, "former")
    cert, key = authority.issue("server")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(former.file, trusted)
    port = free_port()
    listeners = await opened(
        f"tls.port={port}", f"tls.cert_file={cert}", f"tls.key_file={key}",
        "tls.client_auth=required", f"tls.client_ca_file={trusted}", "tls.min_version=1.3",
    )  # fmt: skip
    context = authority.client_context(former.issue("client", "client"))
    async with client(port, context) as (reader, _):
        assert await reader.readexactly(5) == b"hello"
    shutil.copy(authority.file, trusted)
    listeners.reload_certificates()
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        async with client(port, context) as (reader, _):
            await reader.readexactly(5)
    context = authority.client_context(authority.issue("client", "client"))
    async with client(port, context) as (reader, _):
        assert await reader.readexactly(5) == b"hello"


async def test_a_socket_that_another_process_put_there_is_not_removed(
    opened: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "t.sock"
    listeners = await opened(f"listen.unix_socket={path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listeners.close()
        assert path.exists()


def test_a_path_that_no_file_can_have() -> None:
    assert unix_socket_problem("a\0b")


def test_what_cannot_be_bound_names_the_option() -> None:
    with pytest.raises(OSError, match=r"listen\.unix_socket = /proc/x: .*; choose another path"):
        SocketFile("/proc/x").listen("listen.unix_socket", backlog=1)


# What a client connection is given


def terrace(*flags: str) -> Terrace:
    return Terrace(load(None, {}, ["listen.port=0", "l2.url=unix:///no/such.sock", *flags]))


@pytest.mark.parametrize(
    ("flag", "idle_s"),
    [("60s", 60), ("1ms", 1), ("36500d", 32767)],
    ids=["as asked", "at least a second", "at most what the system takes"],
)
async def test_keepalive_is_set_as_asked(flag: str, idle_s: int) -> None:
    async with accepted_socket(terrace(f"listen.tcp_keepalive={flag}")) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle_s
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_keepalive_may_be_off() -> None:
    async with accepted_socket(terrace("listen.tcp_keepalive=0")) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@contextlib.asynccontextmanager
async def accepted_socket(server: Terrace) -> AsyncIterator[socket.socket]:
    """The server's end of a client that has just had an answer."""
    await server.start()
    try:
        async with client(server.port) as (reader, writer):
            writer.write(b"PING\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            (connection,) = server.connections
            assert connection._transport is not None
            yield connection._transport.get_extra_info("socket")
    finally:
        await server.drain(0)


@pytest.mark.parametrize("address", ["10.1.2.3:4", "[2001:db8::1]:4", "[::ffff:10.1.2.3]:4"])
def test_protected_mode_asks_where_a_client_comes_from_not_how(address: str) -> None:
    tls = ("tls.port=1", "tls.cert_file=/no/such.pem")
    assert terrace(*tls).refusal_for(address) == "protected_mode"
    assert terrace(*tls, "listen.password=x").refusal_for(address) is None
    assert terrace(*tls, "listen.protected_mode=no").refusal_for(address) is None
    for near in ("127.0.0.1:4", "[::1]:4", "[::ffff:127.0.0.1]:4", "unix:0"):
        assert terrace(*tls).refusal_for(near) is None
