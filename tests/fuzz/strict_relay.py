"""A relay in front of a server that reads what goes to it as strictly as any server may.

Terrace's connections are shared: one byte that a server does not take ends it for all.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

CHUNK_BYTES = 1 << 16
_HEADER = re.compile(rb"([*$])(0|[1-9]\d*)\r\n")
_HEADER_MAX_BYTES = 24


class StrictReader:
    """`feed` raises ValueError at the first byte that canonical RESP does not have there."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._left = 0  # arguments that the command lacks
        self.commands = 0

    def feed(self, data: bytes) -> None:
        self._rest += data
        while self._rest:
            header = _HEADER.match(self._rest)
            if header is None:
                if b"\r\n" in self._rest or len(self._rest) > _HEADER_MAX_BYTES:
                    raise ValueError(f"no header: {bytes(self._rest[:80])!r}")
                return
            expected, number, end = b"$" if self._left else b"*", int(header[2]), header.end()
            if header[1] != expected or (not number and not self._left):
                raise ValueError(f"not the header of {expected!r}: {bytes(self._rest[:80])!r}")
            if self._left:
                if len(self._rest) < end + number + 2:
                    return
                if self._rest[end + number : end + number + 2] != b"\r\n":
                    raise ValueError(f"no CR LF behind an argument: {bytes(self._rest[:80])!r}")
                end += number + 2
                self._left -= 1
                self.commands += not self._left
            else:
                self._left = number
            del self._rest[:end]


class StrictRelay:
    """Passes everything on; `faults` is what a strict server would not have taken."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.faults: list[str] = []
        self.commands = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for source, sink, reader in ((near, far, StrictReader()), (far, near, None)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, reader), daemon=True
                    ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, reader: StrictReader | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if reader is not None:
                    before = reader.commands
                    try:
                        reader.feed(data)
                    except ValueError as error:
                        self.faults.append(str(error))
                        reader = None
                    else:
                        self.commands += reader.commands - before
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def strict_relay(port: int) -> Iterator[StrictRelay]:
    relay = StrictRelay(port)
    try:
        yield relay
        assert relay.faults == []
        assert relay.commands > 0
    finally:
        relay.close()
