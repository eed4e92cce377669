"""The RESP codec: it chooses the twin of the scanners, and has constant replies and encoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import hiredis

from ..core import CORE
from ._replies_py import to_resp2
from ._requests_py import Request, pack, parse_integer, split_inline

if TYPE_CHECKING or CORE == "py":
    from ._replies_py import ReplyScanner
    from ._requests_py import RequestScanner
else:
    from ._replies import ReplyScanner
    from ._requests import RequestScanner
from ..errors import ProtocolError

__all__ = [
    "CORE", "NIL", "NULL2", "NULL3", "OK", "PONG", "QUEUED", "ReplyScanner", "Request",
    "RequestScanner", "array", "bulk", "decode", "error", "integer", "mapping", "null", "pack",
    "parse_integer", "push", "simple", "split_inline", "to_resp2",
]  # fmt: skip

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
QUEUED = b"+QUEUED\r\n"
NULL2 = b"$-1\r\n"
NULL3 = b"_\r\n"
NIL = {2: NULL2, 3: NULL3}


def null(proto: int) -> bytes:
    return NIL[proto]


def simple(text: str) -> bytes:
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error reply; `text` starts with its code (ERR, WRONGTYPE, ...). Always one line."""
    line = text.replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % line.encode("utf-8", "surrogateescape")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def array(items: Iterable[bytes]) -> bytes:
    """An array of already encoded items."""
    encoded = list(items)
    return b"*%d\r\n%b" % (len(encoded), b"".join(encoded))


def push(items: Iterable[bytes], proto: int) -> bytes:
    """An out-of-band message of already encoded items; an array in RESP2, which has no pushes."""
    encoded = list(items)
    head = b">" if proto == 3 else b"*"
    return b"%b%d\r\n%b" % (head, len(encoded), b"".join(encoded))


def mapping(items: Mapping[bytes, bytes], proto: int) -> bytes:
    """A map of raw key -> already encoded value; a flat array under RESP2."""
    head = b"%%%d\r\n" % len(items) if proto == 3 else b"*%d\r\n" % (2 * len(items))
    return head + b"".join(bulk(k) + v for k, v in items.items())


def decode(reply: bytes) -> Any:
    """One complete reply as Python objects (bytes, int, list, dict, None, ReplyError instances).

    Only for replies to Terrace's own commands; replies to clients are never decoded. Raises
    ProtocolError for a reply that hiredis does not read (nested too deep).
    """
    reader = hiredis.Reader()
    reader.feed(reply)
    try:
        return reader.gets()
    except hiredis.ProtocolError as error:
        raise ProtocolError(f"a reply from Redis that cannot be read: {error}") from None
