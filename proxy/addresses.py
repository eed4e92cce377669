"""Addresses: sockets bound to those that options name, and those of clients as text."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator

Address = tuple[str | int, ...]


def bind(
    option: str, host: str, port: int, *, backlog: int | None = None
) -> Iterator[socket.socket]:
    """One for each address of the host, listening if there is a `backlog`. Raises OSError that
    names the option.

    `port` 0 takes one that is free, the same on all addresses.
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
    """Raises OSError."""
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
    """An address that cannot be bound: the OSError says which option asked for it."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0  # below 0: of a look-up of a name
        reason = os.strerror(number) if number > 0 else error.strerror
        mend = f"set another one (TERRACE_{option.upper().replace('.', '__')})"
        text = f"{option} = {port} on {host}: {reason}; {mend}"
        raise OSError(error.errno, text) from error


def address_text(name: object) -> str:
    """Of the end of a connection, as Redis writes it."""
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return "unix:0"


def is_loopback(address: str) -> bool:
    """Of a text made by `address_text`."""
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "unix":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
