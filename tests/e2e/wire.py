"""A raw connection to a Redis port: exact bytes out, exact reply frames in."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from tiers.wire.resp import ReplyScanner, pack

TIMEOUT_S = 5.0

Argument = str | bytes | int | float


def encode(*args: Argument) -> bytes:
    return pack([a if isinstance(a, bytes) else str(a).encode() for a in args])


class Wire:
    """Synchronous, and every wait has an end: TimeoutError after `timeout_s`."""

    def __init__(self, port: int, proto: int = 2, *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._scanner = ReplyScanner()
        self._frames: list[bytes] = []
        if proto == 3:
            try:
                reply = self.ask("HELLO", 3)
            except BaseException:
                self.close()
                raise
            assert reply.startswith(b"%"), reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def local_address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def send(self, *args: Argument) -> None:
        self.send_raw(encode(*args))

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        for at in range(len(data)):
            self._socket.sendall(data[at : at + 1])

    def linger_none(self) -> None:
        """`close` then resets the connection, as the end of a killed process may."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def receive_little(self) -> None:
        """The kernel takes as little as it can of what is not read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def read(self, count: int = 1) -> list[bytes]:
        """The next `count` frames, pushes included. ConnectionError when the peer closes first."""
        while len(self._frames) < count:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError(f"closed after {self._frames!r}")
            self._frames += self._scanner.feed(data)
        frames, self._frames = self._frames[:count], self._frames[count:]
        return frames

    def ask(self, *args: Argument) -> bytes:
        self.send(*args)
        return self.read()[0]

    def ask_all(self, *commands: tuple[Argument, ...]) -> list[bytes]:
        """In one write."""
        self.send_raw(b"".join(encode(*command) for command in commands))
        return self.read(len(commands))

    def read_bytes(self, count: int) -> bytes:
        """So many bytes as they come, for more frames than one wants to cut."""
        chunks: list[bytes] = []
        while count > 0:
            data = self._socket.recv(min(count, 1 << 20))
            if not data:
                raise ConnectionError(f"closed {count} bytes too early")
            chunks.append(data)
            count -= len(data)
        return b"".join(chunks)

    def read_to_end(self) -> bytes:
        """Every byte until the peer closes."""
        out = b"".join(self._frames)
        self._frames = []
        try:
            while data := self._socket.recv(1 << 20):
                out += data
        except ConnectionResetError:
            pass  # it closed while bytes of ours were still unread: the end as well
        return out
