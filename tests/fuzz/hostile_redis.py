"""A proxy before Redis that answers garbage when told to, on connections that are already open.

One thread, no queue: what Redis says is passed on as it is, or replaced by the bytes of
`garbage`, after which the connection stays open as if more would come.
"""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 16


class HostileRedis:
    """Use as `with HostileRedis(port) as hostile:`; clients connect to `hostile.port`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.garbage: bytes | None = None
        self.replaced = 0
        self._peers: dict[socket.socket, socket.socket] = {}
        self._from_redis: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="hostile redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for sock in list(self._peers):
            self._close(sock)
        self._listener.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._listener:
                    self._accept()
                elif sock in self._peers:
                    self._pass_on(sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        for sock, peer in ((client, server), (server, client)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[sock] = peer
            self._selector.register(sock, selectors.EVENT_READ)
        self._from_redis.add(server)

    def _pass_on(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(CHUNK_BYTES)
            garbage = self.garbage
            if data and garbage is not None and sock in self._from_redis:
                self.replaced += 1
                data = garbage or b"\r\n"
            if data:
                self._peers[sock].sendall(data)
                return
        except OSError:
            pass  # either end has gone: so does the other
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        for end in (sock, self._peers[sock]):
            self._peers.pop(end, None)
            self._from_redis.discard(end)
            self._selector.unregister(end)
            end.close()
