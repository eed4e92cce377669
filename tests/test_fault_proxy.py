"""The fault proxy does to a connection what its verbs say, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.fault_proxy import FaultProxy

SILENCE_S = 0.1  # long enough for bytes on loopback to arrive many times over


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echo(self, text: bytes) -> bytes:
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.readexactly(len(text)), 2)

    async def is_silent(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), SILENCE_S)
        except TimeoutError:
            return True
        return False


class EchoServer:
    """Sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.got = b""
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.got += data
                self.changed.set()
                writer.write(data)
        except OSError:
            pass  # reset: what some tests are about
        writer.close()


@pytest.fixture
async def echo() -> EchoServer:
    return EchoServer()


@pytest.fixture
async def proxy(echo: EchoServer) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Client(reader, writer)
    writer.close()


async def test_passes_bytes_both_ways(proxy: FaultProxy, client: Client) -> None:
    big = bytes(range(256)) * 4096
    assert await client.echo(big) == big
    assert proxy.bytes == {"up": len(big), "down": len(big)}
    assert (proxy.accepted, proxy.connections) == (1, 1)


async def test_drop_swallows_both_ways_until_healed(
    proxy: FaultProxy, client: Client, echo: EchoServer
) -> None:
    assert await client.echo(b"before") == b"before"
    proxy.drop()
    client.writer.write(b"lost")
    assert await client.is_silent()
    proxy.heal()
    assert await client.echo(b"after") == b"after"
    assert echo.got == b"beforeafter"


async def test_stall_down_lets_requests_through(
    proxy: FaultProxy, client: Client, echo: EchoServer
) -> None:
    proxy.stall_one_way("down")
    client.writer.write(b"request")
    await asyncio.wait_for(echo.changed.wait(), 2)
    assert await client.is_silent()
    assert echo.got == b"request"


async def test_stall_up_lets_nothing_reach_the_server(
    proxy: FaultProxy, client: Client, echo: EchoServer
) -> None:
    proxy.stall_one_way("up")
    client.writer.write(b"request")
    assert await client.is_silent()
    assert echo.got == b""


async def test_delay_holds_every_chunk(proxy: FaultProxy, client: Client) -> None:
    proxy.delay(0.05)
    began = time.monotonic()
    assert await client.echo(b"x") == b"x"
    assert 0.1 <= time.monotonic() - began < 5


async def test_trickle_sends_small_pieces(proxy: FaultProxy, client: Client) -> None:
    proxy.trickle(2, 0.001)
    client.writer.write(b"123456")
    pieces: list[bytes] = []
    while b"".join(pieces) != b"123456":
        pieces.append(await asyncio.wait_for(client.reader.read(100), 2))
    assert max(map(len, pieces)) < 6
    assert len(pieces) > 1


async def test_reset_ends_connections_and_serves_new_ones(
    proxy: FaultProxy, client: Client
) -> None:
    await client.echo(b"x")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await client.echo(b"y")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await Client(reader, writer).echo(b"z") == b"z"
    writer.close()


async def test_refuse_ends_connections_and_new_ones(proxy: FaultProxy, client: Client) -> None:
    await client.echo(b"x")
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await client.echo(b"y")
    with pytest.raises(ConnectionError):
        await _echo_once(proxy.port)
    proxy.heal()
    assert await _echo_once(proxy.port) == b"z"


async def test_a_target_that_is_down_resets_the_client() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(ConnectionError):
            await _echo_once(proxy.port)


async def _echo_once(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        text = await Client(reader, writer).echo(b"z")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("closed") from error
    finally:
        writer.close()
    return text


async def test_replies_are_cut_in_the_middle(echo: EchoServer, proxy: FaultProxy) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    proxy.cut_replies()
    client.writer.write(b"12345678")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(client.reader.readexactly(8), 2)
    assert echo.got == b"12345678"
    client.writer.close()


async def test_who_is_turned_away_hears_why(proxy: FaultProxy) -> None:
    before = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await before.echo(b"x") == b"x"
    proxy.turn_away(b"no")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(before.reader.readexactly(1), 2)
    after = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    after.writer.write(b"hello")
    assert await asyncio.wait_for(after.reader.read(), 2) == b"no"
    proxy.heal()
    again = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await again.echo(b"x") == b"x"
    for client in (before, after, again):
        client.writer.close()
