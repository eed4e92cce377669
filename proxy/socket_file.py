"""The file of a unix socket: its creation, its replacement, and its removal by its owner.

The inode identifies a file. A process removes the file only if it is still its own: another
process may have replaced it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat


class SocketFile:
    """The file at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0  # 0: not ours

    def __repr__(self) -> str:
        return f"<SocketFile {self._path}{' (own)' if self._inode else ''}>"

    def listen(self, option: str, *, backlog: int) -> socket.socket:
        """A listening socket there, in place of a stale one. Raises OSError with the option."""
        path = self._path
        if problem := unix_socket_problem(path):
            raise OSError(errno.EADDRINUSE, f"{option} = {path}: {problem}")
        sock = socket.socket(socket.AF_UNIX)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock.bind(path)
            sock.listen(backlog)
            sock.setblocking(False)
            self.own()
        except OSError as error:
            sock.close()
            text = f"{option} = {path}: {error.strerror or error}; choose another path"
            raise OSError(error.errno, text) from None
        return sock

    def replace(self) -> socket.socket:
        """A listening socket at the path for this user alone. It replaces another one without a
        gap. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX)
        beside = f"{self._path}.{os.getpid()}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            mask = os.umask(0o177)
            try:
                sock.bind(beside)
            finally:
                os.umask(mask)
            sock.listen()
            sock.setblocking(False)
            inode = os.stat(beside).st_ino
            os.rename(beside, self._path)
            self._inode = inode
        except OSError:
            sock.close()
            raise
        return sock

    def own(self) -> None:
        """The present file belongs to this process. Raises OSError if there is none."""
        self._inode = os.stat(self._path).st_ino

    def disown(self) -> None:
        """The file belongs to another process now, which removes it."""
        self._inode = 0

    def remove(self) -> None:
        """Remove the file if it is still this process's own."""
        inode, self._inode = self._inode, 0
        if inode:
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_ino == inode:
                    os.unlink(self._path)


def unix_socket_problem(path: str) -> str:
    """The problem of a new unix socket at `path`, and the remedy; "" also for a stale socket."""
    if problem := unix_path_problem(path):
        return problem
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return ""  # or a process that has ended left it there
        except OSError as error:
            return f"{error.strerror or error}; choose another path"
    return "another process listens there; end it, or choose another path"


def unix_path_problem(path: str) -> str:
    """As `unix_socket_problem`, but an existing socket of any process is no problem."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        directory = os.path.dirname(path) or "."
        if not os.path.isdir(directory):
            return "its directory does not exist; create it, or choose another path"
        if not os.access(directory, os.W_OK | os.X_OK):
            return "this user may not write to its directory; choose another path"
        return ""
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'strerror', None) or error}; choose another path"
    if not stat.S_ISSOCK(found.st_mode):
        return "there is a file that is not a socket; choose another path"
    return ""
