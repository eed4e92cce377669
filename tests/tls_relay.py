"""A TLS server in front of a plain port: for a Redis that was built without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator

from tiers.tasks import TaskSet


class TlsRelay:
    """Passes bytes on, in a thread of its own, and remembers the host names it was asked for."""

    def __init__(self, target_port: int, context: ssl.SSLContext) -> None:
        self.host_names: list[str | None] = []
        self.port = 0
        self._target_port = target_port
        self._context = context
        context.sni_callback = lambda _, name, __: self.host_names.append(name)
        self._loop = asyncio.new_event_loop()
        self._tasks = TaskSet("relay")
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._loop.set_exception_handler(lambda loop, context: None)  # refused handshakes
        server = await asyncio.start_server(
            lambda *streams: self._tasks.start("client", self._relay(*streams)),
            "127.0.0.1", 0, ssl=self._context,
        )  # fmt: skip
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        await self._tasks.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            await asyncio.gather(_copy(reader, inner[1]), _copy(inner[0], writer))
        finally:
            inner[1].close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def running_relay(target_port: int, context: ssl.SSLContext) -> Iterator[TlsRelay]:
    relay = TlsRelay(target_port, context)
    relay.start()
    try:
        yield relay
    finally:
        relay.close()
