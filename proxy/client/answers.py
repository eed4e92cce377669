"""CLIENT subcommands that Terrace answers at once, from its own state.

It also answers them within a transaction (see `private.queueing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from tiers.wire.resp import OK, Request, bulk, error, integer, null, parse_integer

from .. import errors
from . import listing

if TYPE_CHECKING:
    from .session import Session

Answer: TypeAlias = "Callable[[Session, Request], bytes]"

NAME_MAX_BYTES = 1024  # CLIENT LIST shows the names of all clients
_PRINTED = bytes(range(0x21, 0x7F))
NAME_TOO_LONG = error(f"ERR terrace: a name has at most {NAME_MAX_BYTES} bytes")
INVALID_NAME = error("ERR Client names cannot contain spaces, newlines or special characters.")


def name_refusal(name: bytes, invalid: bytes = INVALID_NAME) -> bytes | None:
    """The error for an invalid name of a client; None if it is valid."""
    if len(name) > NAME_MAX_BYTES:
        return NAME_TOO_LONG
    return invalid if name.translate(None, _PRINTED) else None


def _id(session: Session, request: Request) -> bytes:
    return integer(session.ident)


def _getname(session: Session, request: Request) -> bytes:
    return bulk(session.name) if session.name else null(session.proto)


def _setname(session: Session, request: Request) -> bytes:
    name = request[0][2]
    if (refusal := name_refusal(name)) is not None:
        return refusal
    session.name = name
    return OK


def _setinfo(session: Session, request: Request) -> bytes:
    option, value = request[0][2].upper(), request[0][3]
    if option not in (b"LIB-NAME", b"LIB-VER"):
        return error(f"ERR Unrecognized option '{errors.shown(request[0][2])}'")
    invalid = error(
        f"ERR {errors.shown(request[0][2])} cannot contain spaces, newlines or special characters."
    )
    if (refusal := name_refusal(value, invalid)) is not None:
        return refusal
    if option == b"LIB-NAME":
        session.lib_name = value
    else:
        session.lib_version = value
    return OK


def _accept_flag(session: Session, request: Request) -> bytes:
    return OK if request[0][2].upper() in (b"ON", b"OFF") else errors.SYNTAX


def _pause(session: Session, request: Request) -> bytes:
    args = request[0]
    mode = args[3].lower() if len(args) == 4 else b"all"
    if mode not in (b"write", b"all"):
        return error("ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = parse_integer(args[2])
    if timeout_ms is None:
        return error("ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        return error("ERR timeout is negative")
    session.terrace.pause_clients(session.clock() + timeout_ms / 1000, mode.decode())
    return OK


def _unpause(session: Session, request: Request) -> bytes:
    session.terrace.pause.end()
    return OK


ANSWERS: Mapping[bytes, Answer] = {
    b"ID": _id,
    b"GETNAME": _getname,
    b"SETNAME": _setname,
    b"SETINFO": _setinfo,
    b"INFO": listing.info,
    b"LIST": listing.list_,
    b"KILL": listing.kill,
    b"NO-EVICT": _accept_flag,
    b"NO-TOUCH": _accept_flag,
    b"PAUSE": _pause,
    b"UNPAUSE": _unpause,
}
