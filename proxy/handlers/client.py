"""CLIENT: about Terrace's own clients, never about its connections to Redis.

`_ANSWERS` are the subcommands that are answered here and now, also as part of a
transaction; the others wait for somebody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tiers.wire.resp import OK, Request, bulk, error, integer, null, parse_integer

from .. import errors
from ..commands.command import Command
from . import acl, client_across, client_list, client_tracking
from .connection import name_refusal

if TYPE_CHECKING:
    from ..client.session import Session

Answer: TypeAlias = "Callable[[Session, Request], bytes]"
Handler: TypeAlias = "Callable[[Session, Request], None]"


def client(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    name = args[1].upper()
    row = _ANSWERS.get(name) or _HANDLERS.get(name)
    if row is None and name in session.terrace.commands.client_subcommands:
        session.terrace.run_task(session, _ask(session, args))
    elif row is None:
        session.reply(errors.unknown_subcommand("CLIENT", args[1]))
    elif not row[0] <= len(args) <= row[1]:
        session.reply(errors.wrong_arity(f"client|{name.decode().lower()}"))
    elif client_across.run(session, name, request):
        pass
    elif name in _ANSWERS:
        reply = _ANSWERS[name][2](session, request)
        if name == b"PAUSE" and reply == OK and session.terrace.siblings:
            pause = session.terrace.pause
            session.terrace.run_task(session, client_across.pause(session, pause.until, pause.mode))
        else:
            session.reply(reply)
    else:
        _HANDLERS[name][2](session, request)


def stand_in(request: Request) -> Answer | None:
    """What answers this request as part of a transaction; None when nothing here does."""
    args = request[0]
    row = _ANSWERS.get(args[1].upper()) if len(args) > 1 else None
    return row[2] if row is not None and row[0] <= len(args) <= row[1] else None


def is_passed_on(request: Request) -> bool:
    """Whether Redis itself is asked in a transaction: also for the errors of malformed requests."""
    args = request[0]
    row = _HANDLERS.get(args[1].upper()) if len(args) > 1 else None
    if row is None or not row[0] <= len(args) <= row[1]:
        return True
    return row[2] in (_help, client_tracking.ask)


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


def _reply(session: Session, request: Request) -> None:
    mode = request[0][2].upper()
    if mode == b"ON":
        session.reply_mode = "on"
        session.reply(OK)
    elif mode == b"OFF":
        session.reply_mode = "off"
    elif mode == b"SKIP":
        if session.reply_mode != "off":
            session.reply_mode = "skip"
    else:
        session.reply(errors.SYNTAX)


async def _ask(session: Session, args: list[bytes]) -> None:
    """A subcommand that only the server knows: errors are its own.

    What it would do concerns a connection of the client, which it has not. CAPA alone
    only says what a client understands, and changes nothing that Terrace sends.
    """
    name = args[1].upper()
    reply = await session.stack.l2.ask_alone(args, proto=session.proto)
    is_harmless = name == b"CAPA" or (name, args[-1].upper()) == (b"IMPORT-SOURCE", b"OFF")
    if reply.startswith(b"-") or is_harmless:
        session.reply(reply)
    else:
        session.reply(errors.needs_own_connection(f"CLIENT {errors.shown(name)}"))


def _help(session: Session, request: Request) -> None:
    session.terrace.run_task(session, acl.ask(session, request[0]))


def _unblock(session: Session, request: Request) -> None:
    """A blocked client gets a nil, or with ERROR an error, as if its wait had ended."""
    args = request[0]
    mode = args[3].upper() if len(args) == 4 else b"TIMEOUT"
    if mode not in (b"TIMEOUT", b"ERROR"):
        session.reply(error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"))
        return
    ident = parse_integer(args[2])
    if ident is None:
        session.reply(errors.NOT_INTEGER)
        return
    target = session.terrace.sessions.get(ident)
    if target is None and session.terrace.siblings:
        session.terrace.run_task(session, client_across.unblock(session, ident, mode))
        return
    if target is None or target.private is None or target.private.blocking_id is None:
        session.reply(integer(0))
        return
    upstream_id = b"%d" % target.private.blocking_id
    session.terrace.run_task(session, _unblock_upstream(session, upstream_id, mode))


async def _unblock_upstream(session: Session, upstream_id: bytes, mode: bytes) -> None:
    unblocked = await session.stack.l2.call(b"CLIENT", b"UNBLOCK", upstream_id, mode)
    session.reply(integer(int(unblocked)))


_MANY = 10_000  # each is looked at in one turn of the loop
# name: least and most arguments (CLIENT and the name included), what answers
_ANSWERS: dict[bytes, tuple[int, int, Answer]] = {
    b"ID": (2, 2, _id),
    b"GETNAME": (2, 2, _getname),
    b"SETNAME": (3, 3, _setname),
    b"SETINFO": (4, 4, _setinfo),
    b"INFO": (2, 2, client_list.info),
    b"LIST": (2, _MANY, client_list.list_),
    b"KILL": (3, _MANY, client_list.kill),
    b"NO-EVICT": (3, 3, _accept_flag),
    b"NO-TOUCH": (3, 3, _accept_flag),
    b"PAUSE": (3, 4, _pause),
    b"UNPAUSE": (2, 2, _unpause),
}
_HANDLERS: dict[bytes, tuple[int, int, Handler]] = {
    b"REPLY": (3, 3, _reply),
    b"TRACKING": (3, _MANY, client_tracking.tracking),
    b"CACHING": (3, 3, client_tracking.ask),
    b"TRACKINGINFO": (2, 2, client_tracking.ask),
    b"GETREDIR": (2, 2, client_tracking.ask),
    b"UNBLOCK": (3, 4, _unblock),
    b"HELP": (2, 2, _help),
}
