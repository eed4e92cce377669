"""The listening sockets of several workers, on the same addresses.

If the kernel balances between sockets with the same address (SO_REUSEPORT), each worker
gets its own: when it dies, only its own queue is lost. Otherwise, and for unix sockets,
those of systemd and those that a successor will get, all accept from the same one.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..addresses import bind, bound, naming_the_option
from ..socket_file import SocketFile
from .inherited import Inherited, roles

if TYPE_CHECKING:
    from ..config.model import Config

BALANCES = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


class WorkerSockets:
    """The sockets of all workers; the caller of `for_worker` owns its result."""

    def __init__(self, config: Config, given: Inherited) -> None:
        """Raises OSError if an address is in use."""
        self._config = config
        self._bound: dict[str, list[socket.socket]] = {}  # not listening: they reserve the ports
        self._shared: dict[str, list[socket.socket]] = {}
        self._unix = SocketFile(config.listen.unix_socket)
        self._balances = BALANCES and not config.listen.handover
        try:
            for role, _ in roles(config):
                if sockets := given.take(role):
                    self._shared[role] = sockets
                    if role == "unix" and not given.shared:
                        self._unix.own()
                elif role == "unix":
                    backlog = config.listen.backlog
                    self._shared[role] = [self._unix.listen("listen.unix_socket", backlog=backlog)]
                elif self._balances:
                    self._bound[role] = list(self._bind(role))
                else:
                    self._shared[role] = self._listen(self._bind(role))
        except BaseException:
            self.close()
            raise
        finally:
            given.close()

    def __repr__(self) -> str:
        return f"<WorkerSockets {sorted(self._bound | self._shared)}>"

    def shared(self) -> dict[str, list[socket.socket]]:
        """The sockets from which all workers accept, by role."""
        return self._shared

    def hand_over(self) -> None:
        """A successor has the sockets: `close` must not remove the path."""
        self._unix.disown()

    def for_worker(self) -> Inherited:
        """Raises OSError."""
        found = [
            (role, bound(sock.family, sock.getsockname(), reuse_port=True))
            for role, sockets in self._bound.items()
            for sock in sockets
        ]
        found += [(role, sock.dup()) for role, sockets in self._shared.items() for sock in sockets]
        return Inherited(found, shared=True)

    def close(self, *, remove: bool = True) -> None:
        """`remove`: also the path of the unix socket; false in a worker."""
        for sockets in (*self._bound.values(), *self._shared.values()):
            for sock in sockets:
                sock.close()
        if remove:
            self._unix.remove()

    def _bind(self, role: str) -> Iterator[socket.socket]:
        listen, admin, tls = self._config.listen, self._config.admin, self._config.tls
        option, host, port = {
            "tcp": ("listen.port", listen.host, listen.port),
            "tls": ("tls.port", listen.host, tls.port),
            "admin": ("admin.port", admin.host, admin.port),
        }[role]
        for sock in bind(option, host, port):
            if not self._balances:
                yield sock
                continue
            # Without SO_REUSEPORT first: it would hide that another process has the address.
            address = sock.getsockname()
            sock.close()
            with naming_the_option(option, host, address[1]):
                yield bound(sock.family, address, reuse_port=True)

    def _listen(self, sockets: Iterator[socket.socket]) -> list[socket.socket]:
        listening = list(sockets)
        for sock in listening:
            sock.listen(self._config.listen.backlog)
        return listening
