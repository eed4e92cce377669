"""The adapter of one client: its trouble stays its own, its output leaves in portions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from proxy.client_pipe import SPILL_BYTES
from proxy.connection import WRITE_HIGH_WATER_BYTES, Connection
from proxy.session import Session
from tests.proxy.session_play import Play, Wire, command
from tiers.resp import PONG, Request, bulk, integer

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
        assert wire.closed, "limits.output_buffer_bytes was passed"
        assert wire.get_write_buffer_size() <= 4 * MiB + SPILL_BYTES + len(value)
        assert play.terrace.stats.output_limit_closed == 1


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
