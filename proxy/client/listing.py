"""CLIENT LIST, INFO and KILL: describes and closes Terrace's clients.

LIST and KILL accept the filters of Valkey 9, which include those of every Redis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from tiers.wire.resp import OK, Request, bulk, error, integer, parse_integer

from .. import errors

if TYPE_CHECKING:
    from .host import Host
    from .session import Session

Filter: TypeAlias = "Callable[[Session], bool]"

_TYPES = (b"normal", b"master", b"primary", b"replica", b"slave", b"pubsub")
_FLAGS = frozenset("bcdeirtuxABEIMNOPRSTU")  # possible flags of a client in Valkey 9
_CAPABILITIES = frozenset("r")
_NEVER_NEGATED = (b"MAXAGE", b"IDLE")
_BAD_ID = error("ERR Invalid client ID")
_BAD_VICTIM_ID = error("ERR client-id should be greater than 0")


def describe(session: Session) -> str:
    """One line of CLIENT LIST, with the fields that tools read."""
    now = session.clock()
    private = session.private
    multi, redirect = -1, -1
    user = session.user.name.decode("utf-8", "replace")
    subscriptions = {"channels": 0, "patterns": 0, "shards": 0}
    if private is not None:
        subscriptions = {kind: len(names) for kind, names in private.subscriptions.items()}
        multi = private.queued
        redirect = private.redirect_to if private.tracking else -1
    return (
        f"id={session.ident} addr={session.address} laddr={session.local_address} fd=-1 "
        f"name={session.name.decode()} age={int(now - session.created_at)} "
        f"idle={int(now - session.active_at)} flags={flags_of(session)} db={session.db} "
        f"sub={subscriptions['channels']} psub={subscriptions['patterns']} "
        f"ssub={subscriptions['shards']} multi={multi} "
        f"qbuf={session.scanner.buffered_bytes} qbuf-free=0 argv-mem=0 multi-mem=0 "
        f"obl=0 oll={session.pending_commands} omem=0 tot-mem=0 events=r "
        f"cmd={session.last_command.lower() or 'NULL'} user={user} redir={redirect} "
        f"resp={session.proto} "
        f"lib-name={session.lib_name.decode()} lib-ver={session.lib_version.decode()}"
    )


def flags_of(session: Session) -> str:
    """The flags of a client in CLIENT LIST."""
    private = session.private
    if private is None:
        return "N"
    flags = "x" if private.in_multi else ""
    flags += "P" if private.subscribed else ""
    flags += "O" if private.monitoring else ""
    flags += "t" if private.tracking else ""
    flags += "b" if private.blocking_id is not None else ""
    return flags or "N"


def text_of(session: Session, lines: Iterable[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines).encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if session.proto == 3 else bulk(text)


def info(session: Session, request: Request) -> bytes:
    return text_of(session, [describe(session)])


def list_(session: Session, request: Request) -> bytes:
    found = chosen(session.terrace, request[0][2:], session)
    return found if isinstance(found, bytes) else text_of(session, map(describe, found))


def kill(session: Session, request: Request) -> bytes:
    args = request[0][2:]
    found = victims(session.terrace, args, session)
    if isinstance(found, bytes):
        return found
    close(found, session)
    if len(args) == 1:
        return OK if found else error("ERR No such client")
    return integer(len(found))


def chosen(terrace: Host, args: list[bytes], me: Session | None) -> list[Session] | bytes:
    """The clients for the arguments of CLIENT LIST by the client `me`, or the error."""
    found = _selected(terrace, args, me, kills=False)
    if isinstance(found, bytes) or not (idents := listed_ids(args)):
        return found
    return [s for ident in idents if (s := terrace.sessions.get(ident)) is not None]


def listed_ids(args: list[bytes]) -> list[int]:
    """The ids of a plain CLIENT LIST ID ..., in the order of the reply."""
    if not args or args[0].upper() != b"ID":
        return []
    idents = [parse_integer(arg) for arg in args[1:]]
    return [ident for ident in idents if ident is not None] if None not in idents else []


def victims(terrace: Host, args: list[bytes], me: Session | None) -> list[Session] | bytes:
    """The clients for the arguments of CLIENT KILL by the client `me`, or the error."""
    if len(args) == 1:
        address = errors.shown(args[0])
        return [s for s in terrace.sessions.values() if s.address == address]
    return _selected(terrace, args, me, kills=True)


def _selected(
    terrace: Host, args: list[bytes], me: Session | None, *, kills: bool
) -> list[Session] | bytes:
    """The clients that pass every filter; the last of each kind counts, and all IDs."""
    skip_me = kills
    filters: dict[bytes, Filter] = {}
    idents: dict[bytes, set[int]] = {}
    words = deque(args)
    while words:
        name = words.popleft().upper()
        if not words:
            return errors.SYNTAX
        if name in (b"ID", b"NOT-ID"):
            numbers = _numbers(words)
            if not numbers or (kills and min(numbers) < 1):
                return _BAD_VICTIM_ID if kills else _BAD_ID
            idents.setdefault(name, set()).update(numbers)
            continue
        value = words.popleft()
        if name == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            skip_me = value.upper() == b"YES"
            continue
        found = _filter(terrace, name, value)
        if isinstance(found, bytes):
            return found
        filters[name] = found
    everybody = terrace.sessions
    wanted = idents.get(b"ID", everybody.keys()) - idents.get(b"NOT-ID", set())
    return [
        s
        for ident, s in everybody.items()
        if ident in wanted
        and not (skip_me and s is me)
        and all(passes(s) for passes in filters.values())
    ]


def _numbers(words: deque[bytes]) -> list[int]:
    """Remove the leading integers and return them."""
    found = []
    while words and (number := parse_integer(words[0])) is not None:
        found.append(number)
        words.popleft()
    return found


def _filter(terrace: Host, name: bytes, value: bytes) -> Filter | bytes:
    """The filter of one option of CLIENT LIST and KILL, or the error."""
    kind = name.removeprefix(b"NOT-")
    found = _plain_filter(terrace, kind, value)
    if kind == name or isinstance(found, bytes):
        return found
    return errors.SYNTAX if kind in _NEVER_NEGATED else lambda s: not found(s)


def _plain_filter(terrace: Host, kind: bytes, value: bytes) -> Filter | bytes:
    text = errors.shown(value)
    match kind:
        case b"ADDR":
            return lambda s: s.address == text
        case b"LADDR":
            return lambda s: s.local_address == text
        case b"IP":
            return lambda s: s.address.rpartition(":")[0].strip("[]") == text
        case b"TYPE":
            if value.lower() not in _TYPES:
                return _unknown("client type", value)
            return lambda s: _type(s) == value.lower()
        case b"USER":
            if value not in terrace.acl.users:
                return _unknown("user", value, "No such")
            return lambda s: s.user.name == value
        case b"NAME":
            return lambda s: value == s.name != b""
        case b"LIB-NAME":
            return lambda s: value == s.lib_name != b""
        case b"LIB-VER":
            return lambda s: value == s.lib_version != b""
        case b"FLAGS":
            if set(text) - _FLAGS:
                return error(f"ERR Unknown flags found in the provided filter: {text}")
            return lambda s: set(text) <= set(flags_of(s))
        case b"CAPA":
            if set(text) - _CAPABILITIES:
                return error(f"ERR Unknown capa found in the provided filter: {text}")
            return lambda s: not text  # Terrace stores no capabilities
        case b"DB":
            db = parse_integer(value)
            return _no_integer("DB") if db is None else lambda s: s.db == db
        case b"MAXAGE":
            return _at_least("maxage", value, lambda s: terrace.clock() - s.created_at)
        case b"IDLE":
            return _at_least("idle", value, lambda s: terrace.clock() - s.active_at)
        case _:
            return errors.SYNTAX


def _at_least(name: str, value: bytes, seconds_of: Callable[[Session], float]) -> Filter | bytes:
    least_s = parse_integer(value)
    if least_s is None:
        return _no_integer(name)
    if least_s < 1:
        return error(f"ERR {name} should be greater than 0")
    return lambda s: seconds_of(s) >= least_s


def _no_integer(name: str) -> bytes:
    return error(f"ERR {name} is not an integer or out of range")


def _unknown(what: str, given: bytes, prefix: str = "Unknown") -> bytes:
    return error(f"ERR {prefix} {what} '{errors.shown(given)}'")


def _type(session: Session) -> bytes:
    return b"pubsub" if session.private is not None and session.private.subscribed else b"normal"


def close(found: list[Session], me: Session | None = None) -> None:
    """Close these clients; `me`, the caller, after the reply is sent."""
    for victim in found:
        if victim is me:
            victim.close_after_output()
        else:
            victim.on_close_request("CLIENT KILL")
