"""Addresses: binds sockets to the configured ones, and formats those of clients."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
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
