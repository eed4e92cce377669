"""Restart without downtime: a new process takes the listening sockets of the old one.

The old process offers them on the unix socket `listen.handover`. A new process connects
there, gets duplicates of the listening sockets (SCM_RIGHTS), and confirms when it serves
on them; only then does the old one stop accepting and drain. The kernel keeps one socket
all the time, so no connection in its backlog is lost; two sockets with SO_REUSEPORT could
not promise that. If the new process dies earlier, the old one just continues.

With several workers their parent does this, on both sides.

    new                                 old
    connect                      →
                                 ←      "terrace 1\\n" + JSON of identities, and the sockets
    … connects to the tiers, accepts clients …
    "serving\\n"                  →
                                        stops accepting, drains, exits
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..socket_file import SocketFile, unix_path_problem
from .inherited import Inherited, roles

if TYPE_CHECKING:
    from ..config.model import Config

log = logging.getLogger("terrace")

GREETING = b"terrace 1\n"
SERVING = b"serving\n"
MESSAGE_MAX_BYTES = 64 * 1024
SOCKETS_MAX = 64
NOT_TAKEN = "the new process ended before it served; this one continues"
PATIENCE_S = 5.0  # with an old process that does not answer
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class HandoverError(OSError):
    """The old process runs, but its sockets cannot be taken over."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(None, f"listen.handover = {path}: {text}")


class Takeover:
    """The sockets of a new process; `confirm` once it serves, or `close` if another one will."""

    def __init__(self, connection: socket.socket, inherited: Inherited) -> None:
        self._connection = connection
        self.inherited = inherited

    def confirm(self) -> None:
        """Let the old process drain."""
        with contextlib.suppress(OSError), self._connection:
            self._connection.sendall(SERVING)

    def close(self) -> None:
        self._connection.close()


def take(config: Config) -> Takeover | None:
    """Ask the process on `listen.handover`, if there is one. Raises HandoverError."""
    path = config.listen.handover
    if problem := unix_path_problem(path):
        raise HandoverError(path, problem)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise HandoverError(path, f"{error.strerror or error}; choose another path") from None
    if not _is_ours(connection):
        connection.close()
        raise HandoverError(path, "another user listens there; remove it, or choose another path")
    try:
        message, fds = _receive(connection)
    except OSError as error:
        connection.close()
        text = f"the process there does not hand over ({error}); end it, or choose another path"
        raise HandoverError(path, text) from None
    wanted = {identity: role for role, identity in roles(config)}
    found = []
    for identity, fd in zip(json.loads(message), fds, strict=True):
        sock = socket.socket(fileno=fd)
        if identity in wanted:
            found.append((wanted[identity], sock))
        else:
            sock.close()
    return Takeover(connection, Inherited(found))


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    data, fds, _, _ = socket.recv_fds(connection, MESSAGE_MAX_BYTES, SOCKETS_MAX)
    while data and not data.endswith(b"]\n"):
        more = connection.recv(MESSAGE_MAX_BYTES)
        if not more:
            break
        data += more
    if not data.startswith(GREETING) or not data.endswith(b"]\n"):
        for fd in fds:
            os.close(fd)
        raise OSError("it sent another greeting")
    return data[len(GREETING) :], fds


class Offer:
    """The old process' side of a handover: it has the sockets. `Offering` waits with it.

    `sockets` are the open sockets by role.
    """

    def __init__(
        self, config: Config, sockets: Callable[[], Mapping[str, list[socket.socket]]]
    ) -> None:
        self._path = config.listen.handover
        self._identities = dict(roles(config))
        self._sockets = sockets
        self._file = SocketFile(self._path)
        self.listening: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<Offer on {self._path}>"

    def open(self) -> socket.socket:
        """Replace the predecessor's socket, without a gap. Raises HandoverError."""
        try:
            self.listening = self._file.replace()
        except OSError as error:
            text = f"{error.strerror or error}; choose another path"
            raise HandoverError(self._path, text) from None
        return self.listening

    def close(self, *, remove: bool = True) -> None:
        """`remove`: also the path; false in a child of the process that opened it."""
        listening, self.listening = self.listening, None
        if listening is not None:
            listening.close()
            if remove:
                self._file.remove()

    def admit(self, connection: socket.socket) -> bool:
        """Send the sockets to a successor of the same user. Raises OSError if it is gone."""
        connection.setblocking(False)
        if not _is_ours(connection):
            log.warning("%s: refused the sockets to a process of another user", self._path)
            return False
        log.info("a new process asked for the listening sockets")
        identities, fds = [], []
        for role, sockets in self._sockets().items():
            for sock in sockets:
                identities.append(self._identities[role])
                fds.append(sock.fileno())
        message = GREETING + json.dumps(identities).encode() + b"\n"
        socket.send_fds(connection, [message], fds)
        return True


class Offering:
    """An offer that waits for its successor; calls `on_taken` once, when one serves.

    It has no event loop of its own: `watch` registers a function that is called while a socket
    has something to read, until `unwatch`. So it also serves a process with a selector.
    """

    def __init__(
        self,
        offer: Offer,
        on_taken: Callable[[], None],
        *,
        watch: Callable[[socket.socket, Callable[[], None]], object],
        unwatch: Callable[[socket.socket], object],
    ) -> None:
        self._offer = offer
        self._on_taken = on_taken
        self._watch, self._unwatch = watch, unwatch
        self._watched: socket.socket | None = None
        self._successor: socket.socket | None = None  # one at a time
        self._said = b""

    def __repr__(self) -> str:
        return f"<Offering of {self._offer!r}>"

    def open(self) -> None:
        """Raises HandoverError."""
        self._wait_for(self._offer.open())

    def close(self, *, remove: bool = True) -> None:
        """`remove`: also the path; false in a child of the process that opened it, which watches
        nothing."""
        if remove:
            self._wait_for(None)
        if self._successor is not None:
            self._successor.close()
            self._successor = None
        self._offer.close(remove=remove)

    def _wait_for(self, sock: socket.socket | None) -> None:
        """Watch this socket, and no other."""
        if self._watched is not None:
            self._unwatch(self._watched)
        self._watched = sock
        if sock is not None:
            self._watch(sock, self._look)

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._successor is not None:
                self._listen_to(self._successor)
            elif self._offer.listening is not None:
                self._admit(self._offer.listening)

    def _admit(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        try:
            admitted = self._offer.admit(connection)
        except OSError:  # it ended before it had read everything
            log.warning(NOT_TAKEN)
            admitted = False
        if not admitted:
            connection.close()
            return
        self._successor, self._said = connection, b""
        self._wait_for(connection)

    def _listen_to(self, successor: socket.socket) -> None:
        try:
            data = successor.recv(len(SERVING))
        except BlockingIOError:
            raise
        except OSError:
            data = b""
        self._said += data
        if data and not self._said.endswith(b"\n"):
            return
        self._wait_for(None)
        successor.close()
        self._successor = None
        if self._said == SERVING:
            self._on_taken()
            return
        log.warning(NOT_TAKEN)
        self._wait_for(self._offer.listening)


def _is_ours(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the permissions of the socket must suffice
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(raw)[1]
    return uid in (os.getuid(), 0)
