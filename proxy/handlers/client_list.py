"""CLIENT LIST, INFO and KILL: Terrace's clients, described and closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from tiers.resp import OK, Request, bulk, error, integer, parse_integer

from .. import errors

if TYPE_CHECKING:
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


def _text(session: Session, sessions: Iterable[Session]) -> bytes:
    text = "".join(describe(s) + "\n" for s in sessions).encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if session.proto == 3 else bulk(text)


def info(session: Session, request: Request) -> bytes:
    return _text(session, [session])


def list_(session: Session, request: Request) -> bytes:
    args = request[0]
    sessions = session.terrace.sessions
    if len(args) == 2:
        return _text(session, sessions.values())
    if args[2].upper() == b"ID" and len(args) > 3:
        idents = [parse_integer(arg) for arg in args[3:]]
        if None in idents:
            return error("ERR Invalid client ID")
        return _text(
            session, [s for i in idents if i is not None and (s := sessions.get(i)) is not None]
        )
    if args[2].upper() == b"TYPE" and len(args) == 4:
        wanted = args[3].lower()
        if wanted not in _TYPES:
            return _unknown("client type", args[3])
        return _text(session, [s for s in sessions.values() if _type(s) == wanted])
    return errors.SYNTAX


def _unknown(what: str, given: bytes, prefix: str = "Unknown") -> bytes:
    return error(f"ERR {prefix} {what} '{errors.shown(given)}'")


def _type(session: Session) -> bytes:
    return b"pubsub" if session.pin is not None and session.pin.subscribed else b"normal"


def kill(session: Session, request: Request) -> bytes:
    args = request[0]
    everybody = list(session.terrace.sessions.values())
    if len(args) == 3:
        address = args[2].decode("utf-8", "replace")
        victims = [s for s in everybody if s.address == address]
        _close(session, victims)
        return OK if victims else error("ERR No such client")
    if len(args) % 2:
        return errors.SYNTAX
    skip_me = True
    filters: dict[bytes, Filter] = {}  # of one kind the last counts
    for option, value in zip(args[2::2], args[3::2], strict=True):
        name = option.upper()
        if name == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            skip_me = value.upper() == b"YES"
            continue
        found = _filter(session, name, value)
        if isinstance(found, bytes):
            return found
        filters[name] = found
    victims = [
        s
        for s in everybody
        if not (skip_me and s is session) and all(passes(s) for passes in filters.values())
    ]
    _close(session, victims)
    return integer(len(victims))


def _filter(session: Session, name: bytes, value: bytes) -> Filter | bytes:
    """Which clients one option of CLIENT KILL means, or the error it deserves."""
    text = value.decode("utf-8", "replace")
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
            if value not in session.terrace.acl.users:
                return _unknown("user", value, "No such")
            return lambda s: s.user.name == value
        case b"MAXAGE" if _version(session) >= _MAXAGE_SINCE:
            age_s = parse_integer(value) or 0
            if age_s < 1:
                return error("ERR maxage should be greater than 0")
            now = session.clock()
            return lambda s: now - s.created_at >= age_s
        case _:
            return errors.SYNTAX


def _version(session: Session) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", session.stack.l2.server_version)))


def _close(session: Session, victims: list[Session]) -> None:
    for victim in victims:
        if victim is session:
            victim.close_after_output()
        else:
            victim.on_close_request("CLIENT KILL")
