"""Raw connections that are not plain TCP: TLS, and unix sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl

from tests.e2e.wire import TIMEOUT_S, Wire
from tiers.wire.resp import ReplyScanner


class _WireOver(Wire):
    """Over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._scanner = ReplyScanner()
        self._frames = []


class TlsWire(_WireOver):
    """The handshake is done on return; ssl.SSLError when it failed."""

    def __init__(self, port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        try:
            super().__init__(context.wrap_socket(plain, server_hostname=host))
        except BaseException:
            plain.close()
            raise

    @property
    def peer_serial(self) -> str:
        """Tells one certificate of the server from another."""
        certificate = self._socket.getpeercert()  # type: ignore[attr-defined]
        return str(certificate["serialNumber"])

    def say_goodbye(self) -> None:
        """close_notify, and wait for the one of the peer."""
        with contextlib.suppress(OSError):
            self._socket.unwrap()  # type: ignore[attr-defined]

    @property
    def version(self) -> str:
        return str(self._socket.version())  # type: ignore[attr-defined]


class UnixWire(_WireOver):
    def __init__(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT_S)
        sock.connect(path)
        super().__init__(sock)
