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
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .tls import server_context

if TYPE_CHECKING:
    from .config import Config

HANDSHAKE_TIMEOUT_S = 10.0  # of TLS: until then a connection is not counted as a client


class Listeners:
    """`open`, perhaps `reload_certificates`, `close`; each client gets a protocol of `factory`."""

    def __init__(self, config: Config, factory: Callable[[], asyncio.Protocol]) -> None:
        self._listen = config.listen
        self._tls = config.tls
        self._factory = factory
        self._tcp_server: asyncio.Server | None = None
        self._tls_servers: list[asyncio.Server] = []
        self._unix_server: asyncio.Server | None = None
        self._unix_inode = 0

    def __repr__(self) -> str:
        return f"<Listeners {self}>"

    def __str__(self) -> str:
        return ", ".join(self._texts()) or "nothing"

    def _texts(self) -> Iterator[str]:
        if self.port:
            yield f"{self._listen.host}:{self.port}"
        if self._tls_servers:
            yield f"{self._listen.host}:{self._tls.port} (TLS)"
        if self._unix_server is not None:
            yield f"unix:{self._listen.unix_socket}"

    @property
    def is_open(self) -> bool:
        return bool(self._tcp_server or self._tls_servers or self._unix_server)

    @property
    def port(self) -> int:
        """The plain TCP port; 0 when there is none."""
        server = self._tcp_server
        return int(server.sockets[0].getsockname()[1]) if server and server.sockets else 0

    async def open(self) -> None:
        """Raises CertificateError, or OSError when an address cannot be bound."""
        loop = asyncio.get_running_loop()
        listen, tls = self._listen, self._tls
        # Certificates first: without them the process must not seem to be there.
        context = server_context(tls) if tls.port else None
        if listen.port or not (tls.port or listen.unix_socket):
            with naming_the_option("listen.port", listen.host, listen.port):
                self._tcp_server = await loop.create_server(
                    self._factory, listen.host, listen.port, backlog=listen.backlog
                )
        if context is not None:
            with naming_the_option("tls.port", listen.host, tls.port):
                server = await loop.create_server(
                    self._factory, listen.host, tls.port, backlog=listen.backlog,
                    ssl=context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                )  # fmt: skip
            self._tls_servers = [server]
        if listen.unix_socket:
            _remove_stale(listen.unix_socket)
            self._unix_server = await loop.create_unix_server(
                self._factory, listen.unix_socket, backlog=listen.backlog
            )
            self._unix_inode = os.stat(listen.unix_socket).st_ino

    async def reload_certificates(self) -> None:
        """New clients get what the files hold now. Raises CertificateError: then all stays."""
        context = server_context(self._tls)
        duplicates = [
            socket.socket(fileno=os.dup(listening.fileno()))
            for server in self._tls_servers
            for listening in server.sockets
        ]
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(
                self._factory, sock=duplicate, backlog=self._listen.backlog,
                ssl=context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
            for duplicate in duplicates
        ]  # fmt: skip
        # Closed meanwhile: then the new ones are what has to go.
        old, self._tls_servers = self._tls_servers, servers if self._tls_servers else []
        for server in old or servers:
            server.close()

    def close(self) -> None:
        """No new clients; those that are connected stay."""
        for server in (self._tcp_server, *self._tls_servers, self._unix_server):
            if server is not None:
                server.close()
        if self._unix_server is not None:
            # Unless another process has put its own there by now.
            with contextlib.suppress(OSError):
                if os.stat(self._listen.unix_socket).st_ino == self._unix_inode:
                    os.unlink(self._listen.unix_socket)
        self._tcp_server = self._unix_server = None
        self._tls_servers = []


@contextlib.contextmanager
def naming_the_option(option: str, host: str, port: int) -> Iterator[None]:
    """An address that cannot be bound: the OSError says which option asked for it."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0: of a look-up of a name
        reason = os.strerror(number) if number > 0 else error.strerror
        mend = f"set another one (TERRACE_{option.upper().replace('.', '__')})"
        text = f"{option} = {port} on {host}: {reason}; {mend}"
        raise OSError(error.errno, text) from error


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


def _remove_stale(path: str) -> None:
    if problem := unix_socket_problem(path):
        raise OSError(errno.EADDRINUSE, f"listen.unix_socket = {path}: {problem}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
