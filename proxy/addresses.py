"""Addresses: binds sockets to the configured ones, and formats those of clients."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator

Address = tuple[str | int, ...]


def bind(
    option: str, host: str, port: int, *, backlog: int | None = None
) -> Iterator[socket.socket]:
    """Bind one socket per address of the host; listen if there is a `backlog`.

    `port` 0: a free port, the same on all addresses. Raises OSError, which names the option.
    """
    with naming_the_option(option, host, port):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((info[0], info[4]) for info in found):
            sock = bound(family, (address[0], port, *address[2:]))
            port = sock.getsockname()[1]
            if backlog is not None:
                sock.listen(backlog)
            yield sock


def bound(family: int, address: Address, *, reuse_port: bool = False) -> socket.socket:
    """A bound socket. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def naming_the_option(option: str, host: str, port: int) -> Iterator[None]:
    """Make the OSError of an address that cannot be bound name the option."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0  # below 0: from the resolution of a name
        reason: str | None = "not a host name"
        if isinstance(error, OSError):
            reason = os.strerror(number) if number > 0 else error.strerror
        wrong = option
        if number not in (errno.EADDRINUSE, errno.EACCES):
            wrong = "admin.host" if option.startswith("admin.") else "listen.host"
        remedy = f"set another {wrong} (TERRACE_{wrong.upper().replace('.', '__')})"
        if number == errno.EADDRINUSE:
            remedy = f"free it, or {remedy}"
        raise OSError(number, f"{option} = {port} on {host}: {reason}; {remedy}") from error


def bind_unix(option: str, path: str, *, backlog: int) -> socket.socket:
    """A listening socket at `path`, in place of a stale one. Raises OSError with the option."""
    if problem := unix_socket_problem(path):
        raise OSError(errno.EADDRINUSE, f"{option} = {path}: {problem}")
    sock = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        text = f"{option} = {path}: {error.strerror or error}; choose another path"
        raise OSError(error.errno, text) from None
    return sock


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


def address_text(name: object) -> str:
    """The address of a peer, in the format of Redis."""
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return "unix:0"


def is_loopback(address: str) -> bool:
    """Whether an `address_text` is on the loopback interface."""
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "unix":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
