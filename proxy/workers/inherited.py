"""Listening sockets that this process inherited from systemd or its predecessor.

A socket has a role ("tcp", "tls", "unix", "admin") and an address in the configuration.
A socket whose address is no longer configured is closed; a missing one is opened as usual.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.model import Config

SYSTEMD_FIRST_FD = 3  # SD_LISTEN_FDS_START


class ActivationError(OSError):
    """systemd passed a socket that matches no option."""

    def __init__(self, text: str) -> None:
        super().__init__(None, text)


class Inherited:
    """Sockets by role; `take` gives them away. `shared` ones stay when this process ends."""

    def __init__(
        self, sockets: Iterable[tuple[str, socket.socket]] = (), *, shared: bool = False
    ) -> None:
        self._sockets = list(sockets)
        self.shared = shared

    def __repr__(self) -> str:
        return f"<Inherited {[role for role, _ in self._sockets]}>"

    def __bool__(self) -> bool:
        return bool(self._sockets)

    def take(self, role: str) -> list[socket.socket]:
        taken = [sock for known, sock in self._sockets if known == role]
        self._sockets = [pair for pair in self._sockets if pair[0] != role]
        return taken

    def add(self, role: str, sockets: Iterable[socket.socket]) -> None:
        self._sockets += [(role, sock) for sock in sockets]

    def has(self, role: str) -> bool:
        return any(known == role for known, _ in self._sockets)

    def close(self) -> None:
        """Close the sockets that were not taken."""
        for _, sock in self._sockets:
            sock.close()
        self._sockets = []


def roles(config: Config) -> Iterator[tuple[str, str]]:
    """The configured sockets: a role, and an identity to compare two configurations."""
    listen, tls, admin = config.listen, config.tls, config.admin
    if listen.port or not (tls.port or listen.unix_socket):
        yield "tcp", f"tcp {listen.host}:{listen.port}"
    if tls.port:
        yield "tls", f"tls {listen.host}:{tls.port}"
    if listen.unix_socket:
        yield "unix", f"unix {os.path.abspath(listen.unix_socket)}"
    if admin.enabled:
        yield "admin", f"admin {admin.host}:{admin.port}"


def from_systemd(config: Config, env: MutableMapping[str, str], pid: int) -> Inherited:
    """The sockets of socket activation (LISTEN_FDS), distinguished by their port.

    Removes the variables from `env`, so that no child uses them. Raises ActivationError for
    a socket that matches no option.
    """
    count, for_pid = env.pop("LISTEN_FDS", ""), env.pop("LISTEN_PID", "")
    env.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or for_pid != str(pid):
        return Inherited()
    ports = {
        config.listen.port: "tcp",
        config.admin.port if config.admin.enabled else 0: "admin",
        config.tls.port: "tls",
    }
    ports.pop(0, None)
    found: list[tuple[str, socket.socket]] = []
    for fd in range(SYSTEMD_FIRST_FD, SYSTEMD_FIRST_FD + int(count)):
        sock = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            if os.path.abspath(name) != os.path.abspath(config.listen.unix_socket or "-"):
                raise ActivationError(
                    f"systemd passed the socket {name}; set listen.unix_socket to it"
                )
            found.append(("unix", sock))
        elif name[1] in ports:
            found.append((ports[name[1]], sock))
        else:
            raise ActivationError(
                f"systemd passed a socket on port {name[1]}; set listen.port, tls.port or "
                "admin.port to it"
            )
    return Inherited(found, shared=True)
