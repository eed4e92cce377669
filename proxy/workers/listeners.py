"""The listening sockets for clients: TCP, TLS and unix.

New certificates apply to later handshakes; open connections keep theirs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from ..addresses import address_text, bind, naming_the_option
from ..socket_file import SocketFile
from .inherited import Inherited
from .tls import server_context
from .tls_listener import TlsListener

if TYPE_CHECKING:
    from ..config.model import Config, TlsOptions

Server: TypeAlias = "asyncio.Server | TlsListener"


class Listeners:
    """All listening sockets of a process; each client gets a protocol of `factory`.

    `on_failed_handshake` gets the reason (`refusals.HANDSHAKES`) and the address.
    """

    def __init__(
        self,
        config: Config,
        factory: Callable[[], asyncio.Protocol],
        on_failed_handshake: Callable[[str, str], None],
    ) -> None:
        self._listen = config.listen
        self._tls = config.tls
        self._factory = factory
        self._on_failed_handshake = on_failed_handshake
        self._servers: dict[str, list[Server]] = {}  # by role
        self._secure: list[TlsListener] = []  # those for TLS, closed ones included
        self._unix = SocketFile(config.listen.unix_socket)
        self.handed_over = False

    def __repr__(self) -> str:
        return f"<Listeners {self}>"

    def __str__(self) -> str:
        return ", ".join(self._texts()) or "nothing"

    def _texts(self) -> Iterator[str]:
        if self.port:
            yield f"{self._listen.host}:{self.port}"
        if "tls" in self._servers:
            yield f"{self._listen.host}:{self._tls.port} (TLS)"
        if "unix" in self._servers:
            yield f"unix:{self._listen.unix_socket}"

    @property
    def is_open(self) -> bool:
        return bool(self._servers)

    @property
    def port(self) -> int:
        """The plain TCP port; 0 if there is none."""
        for sock in self.sockets().get("tcp", ()):
            return int(sock.getsockname()[1])
        return 0

    def sockets(self) -> dict[str, list[socket.socket]]:
        """The listening sockets by role."""
        return {
            role: [sock for server in servers for sock in server.sockets]
            for role, servers in self._servers.items()
        }

    async def open(self, inherited: Inherited | None = None) -> None:
        """Open all. Raises CertificateError, or OSError if an address cannot be bound."""
        inherited = Inherited() if inherited is None else inherited
        loop = asyncio.get_running_loop()
        listen, tls = self._listen, self._tls
        # Certificates first: without them the process must not accept connections.
        context = server_context(tls) if tls.port else None
        if listen.port or not (tls.port or listen.unix_socket):
            self._servers["tcp"] = [
                await loop.create_server(self._factory, sock=sock, backlog=listen.backlog)
                for sock in inherited.take("tcp")
            ]
            if not self._servers["tcp"]:
                with naming_the_option("listen.port", listen.host, listen.port):
                    server = await loop.create_server(
                        self._factory, listen.host, listen.port, backlog=listen.backlog
                    )
                self._servers["tcp"] = [server]
        if context is not None:
            sockets = inherited.take("tls") or list(bind("tls.port", listen.host, tls.port))
            self._secure = list(self._speak_tls(sockets, context))
            self._servers["tls"] = list(self._secure)
        if listen.unix_socket:
            given = inherited.take("unix")
            backlog = listen.backlog
            if not given:
                sock = self._unix.listen("listen.unix_socket", backlog=backlog)
            else:
                sock = given[0]
                if not inherited.shared:
                    self._unix.own()
            server = await loop.create_unix_server(self._factory, sock=sock, backlog=backlog)
            self._servers["unix"] = [server]

    def _speak_tls(
        self, sockets: Iterable[socket.socket], context: ssl.SSLContext
    ) -> Iterator[TlsListener]:
        def on_failure(reason: str, peer: object) -> None:
            self._on_failed_handshake(reason, address_text(peer))

        for sock in sockets:
            sock.listen(self._listen.backlog)
            yield TlsListener(sock, context, self._factory, on_failure)

    def reload_certificates(self, tls: TlsOptions | None = None) -> None:
        """Use the current files for new clients. Raises CertificateError and changes nothing."""
        tls = self._tls if tls is None else tls
        context = server_context(tls)
        self._tls = tls  # for when it opens, unless it is open
        for listener in self._secure:
            listener.context = context

    def hand_over(self) -> None:
        """A successor has the sockets: `close` must not remove the path."""
        self.handed_over = True
        self._unix.disown()

    def close(self) -> None:
        """Accept no new clients; connected clients stay."""
        for server in chain.from_iterable(self._servers.values()):
            server.close()
        self._unix.remove()
        self._servers = {}

    async def end_handshakes(self) -> None:
        """End pending handshakes, after `close`."""
        for listener in self._secure:
            await listener.end()
