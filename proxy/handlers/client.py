"""CLIENT: Terrace's own clients, never its connections to Redis.

`client.answers` has the subcommands with an immediate answer; the others are here. The rows
of the table have the number of arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tiers.wire.resp import OK, Request, error, integer, parse_integer

from .. import errors
from ..client.answers import ANSWERS
from ..commands.command import Command
from . import acl, client_across, client_tracking

if TYPE_CHECKING:
    from ..client.session import Session

Handler: TypeAlias = "Callable[[Session, Request], None]"


def client(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    name = args[1].upper()
    facts, known = command.facts_of(args)
    assert facts is not None
    if not known and name in session.terrace.commands.client_subcommands:
        session.terrace.run_task(session, _ask(session, args))
    elif not known:
        session.reply(errors.unknown_subcommand("CLIENT", args[1]))
    elif not facts.is_handled(len(args)):
        session.reply(errors.wrong_arity(facts.name))
    elif client_across.run(session, name, request):
        pass
    elif name in ANSWERS:
        reply = ANSWERS[name](session, request)
        if name == b"PAUSE" and reply == OK and session.terrace.siblings:
            pause = session.terrace.pause
            session.terrace.run_task(session, client_across.pause(session, pause.until, pause.mode))
        else:
            session.reply(reply)
    else:
        HANDLERS[name](session, request)


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
    """A subcommand that only the server knows, which returns its own errors.

    It would act on a connection of the client, which has none. Only CAPA is harmless: it
    declares the client's abilities and changes nothing that Terrace sends.
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
    """Unblock a client: it gets a nil, or with ERROR an error, as after its timeout."""
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


HANDLERS: dict[bytes, Handler] = {
    b"REPLY": _reply,
    b"TRACKING": client_tracking.tracking,
    b"CACHING": client_tracking.ask,
    b"TRACKINGINFO": client_tracking.ask,
    b"GETREDIR": client_tracking.ask,
    b"UNBLOCK": _unblock,
    b"HELP": _help,
}
