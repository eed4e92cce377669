"""The sockets on which clients arrive: TCP, TLS and unix.

New certificates are taken over by a second server on a duplicate of each listening
socket, after which the first one closes its own: no connection is refused meanwhile,
and those that are open go on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from .addresses import naming_the_option
from .inherited import Inherited
from .tls import server_context

if TYPE_CHECKING:
    from .config import Config, TlsOptions

HANDSHAKE_TIMEOUT_S = 10.0  # of TLS: until then a connection is not counted as a client


class Listeners:
    """`open`, perhaps `reload_certificates`, `close`; each client gets a protocol of `factory`."""

    def __init__(self, config: Config, factory: Callable[[], asyncio.Protocol]) -> None:
        self._listen = config.listen
        self._tls = config.tls
        self._factory = factory
        self._servers: dict[str, list[asyncio.Server]] = {}  # by role
        self._unix_inode = 0  # of the path to remove at the end
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
        """The plain TCP port; 0 when there is none."""
        for sock in self.sockets().get("tcp", ()):
            return int(sock.getsockname()[1])
        return 0

    def sockets(self) -> dict[str, list[socket.socket]]:
        """Those that are listened on, by role."""
        return {
            role: [sock for server in servers for sock in server.sockets]
            for role, servers in self._servers.items()
        }

    async def open(self, inherited: Inherited | None = None) -> None:
        """Raises CertificateError, or OSError when an address cannot be bound."""
        inherited = Inherited() if inherited is None else inherited
        loop = asyncio.get_running_loop()
        listen, tls = self._listen, self._tls
        # Certificates first: without them the process must not seem to be there.
        context = server_context(tls) if tls.port else None
        if listen.port or not (tls.port or listen.unix_socket):
            self._servers["tcp"] = await self._adopt(inherited.take("tcp"), None)
            if not self._servers["tcp"]:
                with naming_the_option("listen.port", listen.host, listen.port):
                    server = await loop.create_server(
                        self._factory, listen.host, listen.port, backlog=listen.backlog
                    )
                self._servers["tcp"] = [server]
        if context is not None:
            self._servers["tls"] = await self._adopt(inherited.take("tls"), context)
            if not self._servers["tls"]:
                with naming_the_option("tls.port", listen.host, tls.port):
                    server = await loop.create_server(
                        self._factory, listen.host, tls.port, backlog=listen.backlog,
                        ssl=context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                    )  # fmt: skip
                self._servers["tls"] = [server]
        if listen.unix_socket:
            sockets = inherited.take("unix")
            if not sockets:
                remove_stale(listen.unix_socket)
            self._servers["unix"] = [
                await loop.create_unix_server(
                    self._factory,
                    sock=sockets[0] if sockets else None,
                    path=None if sockets else listen.unix_socket,
                    backlog=listen.backlog,
                )
            ]
            if not (sockets and inherited.lent):
                self._unix_inode = os.stat(listen.unix_socket).st_ino

    async def _adopt(
        self, sockets: Iterable[socket.socket], context: ssl.SSLContext | None
    ) -> list[asyncio.Server]:
        loop = asyncio.get_running_loop()
        timeout_s = None if context is None else HANDSHAKE_TIMEOUT_S
        return [
            await loop.create_server(
                self._factory, sock=sock, backlog=self._listen.backlog,
                ssl=context, ssl_handshake_timeout=timeout_s,
            )
            for sock in sockets
        ]  # fmt: skip

    async def reload_certificates(self, tls: TlsOptions | None = None) -> None:
        """New clients get what the files hold now. Raises CertificateError: then all stays."""
        tls = self._tls if tls is None else tls
        context = server_context(tls)
        if not self.is_open:
            self._tls = tls  # for when it is
            return
        duplicates = [
            socket.socket(fileno=os.dup(listening.fileno()))
            for listening in self.sockets().get("tls", ())
        ]
        servers = await self._adopt(duplicates, context)
        # Closed meanwhile: then the new ones are what has to go.
        old = self._servers.pop("tls", [])
        if old:
            self._servers["tls"] = servers
            self._tls = tls
        for server in old or servers:
            server.close()

    def hand_over(self) -> None:
        """A successor has the sockets: closing them here takes nothing away."""
        self.handed_over = True

    def close(self) -> None:
        """No new clients; those that are connected stay."""
        for server in chain.from_iterable(self._servers.values()):
            server.close()
        if self._unix_inode and not self.handed_over:
            # Unless another process has put its own there by now.
            with contextlib.suppress(OSError):
                if os.stat(self._listen.unix_socket).st_ino == self._unix_inode:
                    os.unlink(self._listen.unix_socket)
        self._servers = {}
        self._unix_inode = 0


def unix_socket_problem(path: str) -> str:
    """Why a unix socket cannot be made at `path`, or "". A stale socket is no reason."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path) or "."):
            return "its directory does not exist"
        return ""
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISSOCK(found.st_mode):
        return "a file that is not a socket is there"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return ""  # left behind by a process that is gone
        except OSError as error:
            return error.strerror or str(error)
    return "another process listens there"


def remove_stale(path: str) -> None:
    """Make room for a unix socket. Raises OSError when something else than a stale one is there."""
    if problem := unix_socket_problem(path):
        raise OSError(errno.EADDRINUSE, f"listen.unix_socket = {path}: {problem}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
