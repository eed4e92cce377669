"""A Redis on a unix socket that says exactly what a test tells it to, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from tiers.wire.resp import OK, PONG, RequestScanner, integer, mapping, simple

Answer: TypeAlias = "bytes | None"
"""Bytes to send for one request; None: stay silent."""

WAIT_S = 5.0


def usual(args: list[bytes]) -> Answer:
    """What a healthy Redis says to handshakes and to the commands of the tests."""
    match args[0]:
        case b"HELLO":
            return mapping({b"server": simple("redis"), b"version": simple("7.0.15")}, 3)
        case b"PING":
            return PONG
        case b"RESET":
            return simple("RESET")
        case b"CLIENT" if args[1] == b"ID":
            return integer(42)
        case b"GET":
            return b"$%d\r\n%b\r\n" % (len(args[1]), args[1])  # every key holds its name
    return OK


class ScriptedRedis:
    """`answer` decides per request; the connections can be cut, and are counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Callable[[list[bytes]], Answer] = usual
        self.received: list[list[bytes]] = []
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As a killed Redis: nobody listens, every connection is gone."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self.wait_for(lambda: not self.open)
            await self._server.wait_closed()
            self._server = None
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        for writer in self.open:
            writer.transport.abort()

    def say(self, data: bytes) -> None:
        """To everybody, out of turn."""
        for writer in self.open:
            writer.write(data)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something that this server does or sees has made it true."""
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(condition)

    async def wait_received(self, *args: bytes) -> None:
        await self.wait_for(lambda: list(args) in self.received)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        scanner = RequestScanner()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for args, *_ in scanner.feed(data):
                    self.received.append(args)
                    reply = self.answer(args)
                    if reply is not None:
                        writer.write(reply)
                await self._tell()
        self.open.discard(writer)
        writer.close()
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def scripted_redis(*, listening: bool = True) -> AsyncIterator[ScriptedRedis]:
    with TemporaryDirectory(prefix="terrace-", dir="/tmp") as directory:
        server = ScriptedRedis(Path(directory) / "redis.sock")
        if listening:
            await server.start()
        try:
            yield server
        finally:
            await server.stop()
