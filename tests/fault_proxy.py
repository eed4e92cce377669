"""A TCP proxy between Terrace and a server that misbehaves on command.

drop()                 swallow both directions, connections stay open (a dead network)
stall_one_way(way)     swallow one direction: "up" (to the server) or "down"
delay(s)               every chunk arrives `s` later
trickle(bytes, pause)  pieces of so many bytes, `pause` seconds between them
cut_replies()          half of the next piece from the server, then RST; so for every connection
reset()                RST all connections; new ones are served again
refuse()               RST all connections, and every new one at once
turn_away(answer)      RST all connections; every new one gets `answer` to its first bytes
lead_to(host, port)    new connections reach another server; those that are open stay
heal()                 as at the beginning; what was swallowed stays lost
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Literal

from tiers.tasks import TaskSet

Way = Literal["up", "down"]
CHUNK_BYTES = 1 << 16
_LINGER_RST = struct.pack("ii", 1, 0)


class FaultProxy:
    """Use as `async with FaultProxy(host, port) as proxy:`; clients connect to `proxy.port`.

    A `host` that is a path is a unix socket.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks = TaskSet("fault proxy")
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallowed: frozenset[Way] = frozenset()
        self._delay_s = 0.0
        self._piece_bytes = 0
        self._refusing = False
        self._cutting = False
        self._answer = b""
        self.accepted = 0
        self.bytes: dict[Way, int] = {"up": 0, "down": 0}

    def __repr__(self) -> str:
        return f"<FaultProxy :{self.port} swallows={set(self._swallowed)} refuses={self._refusing}>"

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await self._tasks.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._writers) // 2

    # Verbs

    def drop(self) -> None:
        self._swallowed = frozenset(("up", "down"))

    def stall_one_way(self, way: Way) -> None:
        self._swallowed = frozenset((way,))

    def delay(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def trickle(self, piece_bytes: int, pause_s: float) -> None:
        self._piece_bytes, self._delay_s = piece_bytes, pause_s

    def reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)

    def refuse(self) -> None:
        self._refusing = True
        self.reset()

    def cut_replies(self) -> None:
        self._cutting = True

    def turn_away(self, answer: bytes) -> None:
        self._answer = answer
        self.reset()

    def lead_to(self, host: str, port: int) -> None:
        self._target = (host, port)

    def heal(self) -> None:
        self._swallowed = frozenset()
        self._delay_s = 0.0
        self._piece_bytes = 0
        self._refusing = self._cutting = False
        self._answer = b""

    # Pumps

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            _abort(writer)
            return
        if self._answer:
            with contextlib.suppress(OSError):
                await reader.read(CHUNK_BYTES)
                writer.write(self._answer)
                await writer.drain()
            writer.close()
            return
        try:
            far_reader, far_writer = await self._open()
        except OSError:
            _abort(writer)
            return
        self._writers |= {writer, far_writer}
        self._tasks.start("up", self._pump("up", reader, far_writer, writer))
        self._tasks.start("down", self._pump("down", far_reader, writer, far_writer))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._target
        if host.startswith("/"):
            return await asyncio.open_unix_connection(host)
        return await asyncio.open_connection(host, port)

    async def _pump(
        self,
        way: Way,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        source_writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                async for piece in self._paced(data):
                    if way not in self._swallowed:
                        self.bytes[way] += len(piece)
                        if self._cutting and way == "down":
                            sink.write(piece[: len(piece) // 2])
                            await sink.drain()
                            _abort(sink)
                            raise ConnectionResetError
                        sink.write(piece)
                        await sink.drain()
        for writer in (sink, source_writer):
            self._writers.discard(writer)
            writer.close()

    async def _paced(self, data: bytes) -> AsyncIterator[bytes]:
        for piece in _pieces(data, self._piece_bytes or len(data)):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            yield piece


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST, which is what a crashed host or a firewall sends."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
    writer.transport.abort()
