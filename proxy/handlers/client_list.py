"""CLIENT LIST, INFO and KILL: Terrace's clients, described and closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from tiers.resp import OK, Request, bulk, error, integer, parse_integer

from .. import errors

if TYPE_CHECKING:
    from ..server import Terrace
    from ..session import Session

Filter: TypeAlias = "Callable[[Session], bool]"

_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")
_MAXAGE_SINCE = (7, 4)  # the version of Redis


def describe(session: Session) -> str:
    """One line of CLIENT LIST, with the fields that tools read."""
    now = session.clock()
    pin = session.pin
    multi, redirect = -1, -1
    user = session.user.name.decode("utf-8", "replace")
    flags = ""
    subscriptions = {"channels": 0, "patterns": 0, "shards": 0}
    if pin is not None:
        flags += "x" if pin.in_multi else ""
        flags += "P" if pin.subscribed else ""
        flags += "O" if pin.monitoring else ""
        flags += "t" if pin.tracking else ""
        flags += "b" if pin.blocking_id is not None else ""
        subscriptions = {kind: len(names) for kind, names in pin.subscriptions.items()}
        multi = pin.transaction.queued if pin.in_multi else -1
        redirect = pin.redirect_to if pin.tracking else -1
    return (
        f"id={session.ident} addr={session.address} laddr={session.local_address} fd=-1 "
        f"name={session.name.decode()} age={int(now - session.created_at)} "
        f"idle={int(now - session.active_at)} flags={flags or 'N'} db={session.db} "
        f"sub={subscriptions['channels']} psub={subscriptions['patterns']} "
        f"ssub={subscriptions['shards']} multi={multi} "
        f"qbuf={session.scanner.buffered_bytes} qbuf-free=0 argv-mem=0 multi-mem=0 "
        f"obl=0 oll={session.pending_commands} omem=0 tot-mem=0 events=r "
        f"cmd={session.last_command.lower() or 'NULL'} user={user} redir={redirect} "
        f"resp={session.proto} "
        f"lib-name={session.lib_name.decode()} lib-ver={session.lib_version.decode()}"
    )


def text_of(session: Session, lines: Iterable[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines).encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if session.proto == 3 else bulk(text)


def info(session: Session, request: Request) -> bytes:
    return text_of(session, [describe(session)])


def list_(session: Session, request: Request) -> bytes:
    found = chosen(session.terrace, request[0][2:])
    return found if isinstance(found, bytes) else text_of(session, map(describe, found))


def chosen(terrace: Terrace, args: list[bytes]) -> list[Session] | bytes:
    """Whom the arguments behind CLIENT LIST mean, or the error they deserve."""
    sessions = terrace.sessions
    if not args:
        return list(sessions.values())
    if args[0].upper() == b"ID" and len(args) > 1:
        idents = [parse_integer(arg) for arg in args[1:]]
        if None in idents:
            return error("ERR Invalid client ID")
        return [s for i in idents if i is not None and (s := sessions.get(i)) is not None]
    if args[0].upper() == b"TYPE" and len(args) == 2:
        wanted = args[1].lower()
        if wanted not in _TYPES:
            return _unknown("client type", args[1])
        return [s for s in sessions.values() if _type(s) == wanted]
    return errors.SYNTAX


def _unknown(what: str, given: bytes, prefix: str = "Unknown") -> bytes:
    return error(f"ERR {prefix} {what} '{errors.shown(given)}'")


def _type(session: Session) -> bytes:
    return b"pubsub" if session.pin is not None and session.pin.subscribed else b"normal"


def kill(session: Session, request: Request) -> bytes:
    args = request[0][2:]
    found = victims(session.terrace, args, session)
    if isinstance(found, bytes):
        return found
    close(found, session)
    if len(args) == 1:
        return OK if found else error("ERR No such client")
    return integer(len(found))


def victims(terrace: Terrace, args: list[bytes], me: Session | None) -> list[Session] | bytes:
    """Whom the arguments behind CLIENT KILL of the client `me` mean, or the error they deserve."""
    everybody = list(terrace.sessions.values())
    if len(args) == 1:
        address = errors.shown(args[0])
        return [s for s in everybody if s.address == address]
    if len(args) % 2:
        return errors.SYNTAX
    skip_me = True
    filters: dict[bytes, Filter] = {}  # of one kind the last counts
    for option, value in zip(args[::2], args[1::2], strict=True):
        name = option.upper()
        if name == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            skip_me = value.upper() == b"YES"
            continue
        found = _filter(terrace, name, value)
        if isinstance(found, bytes):
            return found
        filters[name] = found
    return [
        s
        for s in everybody
        if not (skip_me and s is me) and all(passes(s) for passes in filters.values())
    ]


def _filter(terrace: Terrace, name: bytes, value: bytes) -> Filter | bytes:
    """Which clients one option of CLIENT KILL means, or the error it deserves."""
    text = errors.shown(value)
    match name:
        case b"ID":
            ident = parse_integer(value) or 0
            if ident < 1:
                return error("ERR client-id should be greater than 0")
            return lambda s: s.ident == ident
        case b"ADDR":
            return lambda s: s.address == text
        case b"LADDR":
            return lambda s: s.local_address == text
        case b"TYPE":
            if value.lower() not in _TYPES:
                return _unknown("client type", value)
            return lambda s: _type(s) == value.lower()
        case b"USER":
            if value not in terrace.acl.users:
                return _unknown("user", value, "No such")
            return lambda s: s.user.name == value
        case b"MAXAGE" if _version(terrace) >= _MAXAGE_SINCE:
            age_s = parse_integer(value) or 0
            if age_s < 1:
                return error("ERR maxage should be greater than 0")
            now = terrace.clock()
            return lambda s: now - s.created_at >= age_s
        case _:
            return errors.SYNTAX


def _version(terrace: Terrace) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", terrace.stack.l2.server_version)))


def close(found: list[Session], me: Session | None = None) -> None:
    """Close these clients; `me`, who asked for it, once the reply is sent."""
    for victim in found:
        if victim is me:
            victim.close_after_output()
        else:
            victim.on_close_request("CLIENT KILL")
