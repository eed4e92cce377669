"""Accepts TLS clients and records how each handshake ends.

An asyncio server does not report a failed handshake, neither to a protocol nor to an
exception handler. So connections are accepted here, and each handshake is awaited.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from tiers.proxy_door import TaskSet

log = logging.getLogger("terrace")

HANDSHAKE_TIMEOUT_S = 10.0  # only then does a connection count as a client
HANDSHAKES_MAX = 4096  # at once; more wait in the backlog of the socket
ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE_S = 1.0  # after a lack of files, memory and the like

# By the reason of OpenSSL.
_REASONS = {
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "UNKNOWN_PROTOCOL": "not_tls",
    "BAD_RECORD_TYPE": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",  # of OpenSSL 3.2 and later
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "CERTIFICATE_VERIFY_FAILED": "bad_certificate",
    "UNSUPPORTED_PROTOCOL": "no_agreement",
    "VERSION_TOO_LOW": "no_agreement",
    "NO_SHARED_CIPHER": "no_agreement",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no_agreement",
    "NO_SUITABLE_KEY_SHARE": "no_agreement",
    "INAPPROPRIATE_FALLBACK": "no_agreement",
}


def failure_reason(failure: OSError) -> str:
    """One of the reasons in `refusals.HANDSHAKES`."""
    if isinstance(failure, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "closed"
    if isinstance(failure, ssl.SSLError):
        reason = getattr(failure, "reason", "") or ""
        return "alert" if "_ALERT_" in reason else _REASONS.get(reason, "other")
    # asyncio raises it for its own deadline; a close by the peer is another OSError.
    return "timeout" if isinstance(failure, ConnectionAbortedError) else "closed"


class TlsListener:
    """Owns one listening socket; each client gets a protocol of `factory`.

    `context` may be replaced: later handshakes use it. `on_failure` gets the reason and the
    peer.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
        on_failure: Callable[[str, object], None],
    ) -> None:
        sock.setblocking(False)
        self.context = context
        self.sockets: tuple[socket.socket, ...] = (sock,)
        self._sock = sock
        self._factory = factory
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._handshakes = TaskSet("TLS")
        self._accepting = False
        self._accept_more()

    def __repr__(self) -> str:
        return f"<TlsListener {len(self._handshakes)} handshakes>"

    def close(self) -> None:
        """Accept no new clients; pending handshakes continue."""
        self._pause()
        self.sockets = ()
        self._sock.close()

    async def end(self) -> None:
        """End pending handshakes, after `close`."""
        await self._handshakes.close()

    def _accept_more(self) -> None:
        if self.sockets and not self._accepting and len(self._handshakes) < HANDSHAKES_MAX:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if len(self._handshakes) >= HANDSHAKES_MAX:
                self._pause()  # until a handshake ends
                return
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as failure:
                log.error("a TLS client cannot be accepted for now: %s", failure.strerror)
                self._pause()
                self._loop.call_later(ACCEPT_PAUSE_S, self._accept_more)
                return
            sock.setblocking(False)
            task = self._handshakes.start("handshake", self._shake_hands(sock, peer))
            task.add_done_callback(lambda _: self._accept_more())

    async def _shake_hands(self, sock: socket.socket, peer: object) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory, sock, ssl=self.context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
            )
        except OSError as failure:
            self._on_failure(failure_reason(failure), peer)
