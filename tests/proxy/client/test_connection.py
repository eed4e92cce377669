"""The adapter of one client: its trouble stays its own, its output leaves in portions."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from proxy.client.connection import WRITE_HIGH_WATER_BYTES, Connection
from proxy.client.pipe import SPILL_BYTES
from proxy.client.session import Session
from tests.proxy.session_play import Play, Wire, command
from tiers.proxy_door import TaskSet
from tiers.wire.resp import PONG, Request, bulk, integer

KiB, MiB = 1024, 1024**2
PING = command("PING")


class UnreadWire(Wire):
    """A transport whose peer reads nothing: bytes pile up, and asyncio says so."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection | None = None
        self.sizes: list[int] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        was_bytes = self.get_write_buffer_size()
        self.sizes.append(len(data))
        if was_bytes <= WRITE_HIGH_WATER_BYTES < self.get_write_buffer_size():
            assert self.connection is not None
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return sum(self.sizes)


class CountingWire(Wire):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))


class SocketWire(Wire):
    """Over a real socket whose peer reads when told to; holds what it is given until `drain`."""

    def __init__(self) -> None:
        super().__init__()
        self.socket, self.peer = socket.socketpair()
        for each in (self.socket, self.peer):
            each.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KiB)
        self.came = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def read(self) -> None:
        try:
            while data := self.peer.recv(64 * KiB):
                self.came += data
        except BlockingIOError:
            return

    def drain(self) -> None:
        """The peer reads all that was written."""
        self.read()
        while self.written:
            self.written = self.written[self.socket.send(self.written) :]
            self.read()

    def end(self) -> None:
        self.socket.close()
        self.peer.close()


def attach(play: Play, wire: Wire) -> Connection:
    play.terrace._loop = cast(Any, play.loop)
    connection = Connection(play.terrace)
    connection.connection_made(wire)
    return connection


def sent(wire: Wire) -> bytes:
    written, wire.written = wire.written, b""
    return written


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# A failure that nobody foresaw


def fail(session: Session, request: Request, now: float) -> None:
    raise RuntimeError("a bug")


def test_an_exception_on_input_closes_only_its_own_client(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    bad_wire, good_wire = Wire(), Wire()
    bad, good = attach(play, bad_wire), attach(play, good_wire)
    assert bad.session is not None
    bad.session._dispatch = fail
    with caplog.at_level(logging.ERROR, "terrace"):
        bad.data_received(PING)
    good.data_received(PING)
    assert (bad_wire.closed, good_wire.closed) == (True, False)
    assert sent(good_wire) == PONG
    assert "a command failed unexpectedly" in caplog.text
    bad.connection_lost(None)
    assert bad.session is None


def test_an_exception_among_replies_does_not_hold_up_those_of_others(play: Play) -> None:
    """All that became ready in one tick is sent by one callback."""
    wires = [Wire() for _ in range(3)]
    connections = [attach(play, wire) for wire in wires]
    for connection in connections:
        connection.data_received(command("TTL", "k"))
    play.plain2 << command("TTL", "k") * 3
    assert connections[0].session is not None
    connections[0].session.backlog.append(([b"PING"], PING, 0, len(PING)))
    connections[0].session._dispatch = fail
    play.plain2 >> integer(1) * 3
    assert [wire.closed for wire in wires] == [True, False, False]
    assert [sent(wire) for wire in wires[1:]] == [integer(1)] * 2


# Output


def test_many_hits_of_one_request_batch_leave_in_portions() -> None:
    """Not joined first: a few kilobytes of requests may ask for gigabytes of replies."""
    value = bulk(b"x" * 64 * KiB)
    with Play(limits={"output_buffer_bytes": 4 * MiB, "bulk_bytes": MiB}) as play:
        play.cache("big", value)
        wire = UnreadWire()
        wire.connection = attach(play, wire)
        wire.connection.data_received(command("GET", "big") * 1500)
        assert max(wire.sizes) <= SPILL_BYTES + len(value)
        assert not wire.closed
        assert wire.get_write_buffer_size() <= 4 * MiB + SPILL_BYTES + len(value)


def test_hits_in_portions_arrive_whole_and_in_order(play: Play) -> None:
    value = bulk(b"x" * 64 * KiB)
    play.cache("big", value)
    wire = Wire()
    connection = attach(play, wire)
    ordered = command("GET", "big") * 20 + command("ECHO", "half") + command("GET", "big") * 20
    connection.data_received(ordered)
    assert sent(wire) == value * 20 + bulk("half") + value * 20


def test_replies_of_one_tick_leave_in_one_write(play: Play) -> None:
    """Hits, forwarded replies and local ones together (rule 11)."""
    wire = CountingWire()
    connection = attach(play, wire)
    play.cache("k", bulk("v"))
    connection.data_received(command("GET", "k") * 3 + PING)
    connection.data_received(command("TTL", "a") + command("TTL", "b") + PING)
    assert wire.writes == [bulk("v") * 3 + PONG]
    play.plain2 << command("TTL", "a") + command("TTL", "b")
    play.plain2 >> integer(1) + integer(2)
    assert wire.writes[1:] == [integer(1) + integer(2) + PONG]


@pytest.fixture
def socket_wire() -> Iterator[SocketWire]:
    wire = SocketWire()
    yield wire
    wire.end()


def test_what_a_socket_does_not_take_leaves_behind_what_it_took(
    play: Play, socket_wire: SocketWire
) -> None:
    """The compiled twin writes into the socket while the transport holds nothing."""
    wire = socket_wire
    values = [bulk(f"{number} " * 1000) for number in range(30)]
    for number, value in enumerate(values):
        play.cache(str(number), value)
    connection = attach(play, wire)
    for number in range(20):
        connection.data_received(command("GET", number))
    assert wire.written, "the socket was to take a part only"
    wire.drain()
    for number in range(20, 25):  # the transport holds nothing any more
        connection.data_received(command("GET", number))
        connection.data_received(command("ECHO", number))
    wire.drain()
    connection.data_received(b"".join(command("GET", number) for number in range(25, 30)))
    wire.drain()
    echoed = [value + bulk(str(number)) for number, value in enumerate(values[20:25], 20)]
    assert wire.came == b"".join([*values[:20], *echoed, *values[25:]])


def test_nothing_is_written_for_a_client_that_is_gone(play: Play, socket_wire: SocketWire) -> None:
    """Its descriptor may be another client's by then."""
    wire = socket_wire
    play.cache("k", bulk("v"))
    connection = attach(play, wire)
    session = connection.session
    assert session is not None
    connection.data_received(command("TTL", "k") + command("GET", "k"))
    play.plain2 << command("TTL", "k")
    connection.connection_lost(None)
    play.plain2 >> integer(1)
    session.receive(command("GET", "k"))
    wire.read()
    assert wire.came + wire.written == b""
    assert session.fd == -1


def test_nothing_is_written_for_a_client_that_is_being_dropped(
    play: Play, socket_wire: SocketWire
) -> None:
    play.cache("k", bulk("v"))
    connection = attach(play, socket_wire)
    connection.abort("a test drops it")
    connection.data_received(command("GET", "k"))
    socket_wire.read()
    assert socket_wire.came + socket_wire.written == b""


# The end


async def test_a_client_that_was_accepted_at_the_last_moment_is_served(play: Play) -> None:
    """The listening socket is closed, but the loop has yet to tell of this connection."""
    draining = TaskSet("test").start("drain", play.terrace.drain(5.0))
    await asyncio.sleep(0)
    wire = Wire()
    connection = attach(play, wire)
    connection.data_received(PING)
    while not draining.done():
        play.now += 0.05
        await asyncio.sleep(0.01)
    assert sent(wire) == PONG
    assert wire.closed


async def test_who_comes_after_the_end_is_turned_away(play: Play) -> None:
    """A TLS handshake may last longer than the draining."""
    await play.terrace.drain(0)
    wire = Wire()
    connection = attach(play, wire)
    assert wire.closed
    assert connection.session is None
