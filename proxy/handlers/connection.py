"""PING ECHO SELECT HELLO AUTH QUIT RESET: the state of a client's own connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiers.proxy_door import ANY_DB, Via
from tiers.wire.resp import (
    OK,
    PONG,
    Request,
    array,
    bulk,
    error,
    integer,
    mapping,
    pack,
    parse_integer,
    simple,
)

from .. import errors
from ..client.answers import name_refusal
from ..client.slots import Slot
from ..commands.command import Command
from ..flow.routing import route, send

if TYPE_CHECKING:
    from ..client.session import Session

_OWN_WORDS = frozenset((b"proto", b"id", b"mode", b"modules"))  # of HELLO
_NO_PASSWORD_SET = error(
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_HELLO_NOAUTH = error(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    "RESP protocol version at the same time"
)


def ping(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    if len(args) > 2:
        session.reply(errors.wrong_arity("PING"))
    else:
        reply = bulk(args[1]) if len(args) == 2 else PONG
        if session.stack.l2.busy.is_now or _hears_of_others(session):
            _ask(session, command, request, reply)
        else:
            session.reply(reply)


def _hears_of_others(session: Session) -> bool:
    """Whether PONG must follow all earlier messages and invalidations of Redis."""
    private = session.private
    return private is not None and private.streams and not private.monitoring


class _PingSlot(Slot):
    """A PING that Redis answers, with messages before PONG; Terrace answers while it is down."""

    __slots__ = ("own",)

    def __init__(self, session: Session, own: bytes) -> None:
        super().__init__(session)
        self.own = own

    def on_lost(self, reason: str, sent: bool) -> None:
        self.finish(self.own)


def _ask(session: Session, command: Command, request: Request, own: bytes) -> None:
    via = route(session, command, request)
    if via is not None:
        slot = _PingSlot(session, own)
        session.add_slot(slot)
        send(session, via, request, slot)


def echo(session: Session, command: Command, request: Request) -> None:
    session.reply(bulk(request[0][1]))


class _SelectSlot(Slot):
    """SELECT: Redis decides whether the client may use the database.

    While Redis is down, an earlier accepted database is accepted: every connection sends its
    own SELECT before a command runs there.
    """

    __slots__ = ("db",)

    def __init__(self, session: Session, db: int) -> None:
        super().__init__(session)
        self.db = db

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        session, known_dbs = self.session, self.session.stack.l2.known_dbs
        if reply == OK:
            known_dbs.add(self.db)
            session.set_db(self.db)
            if session.private is not None:
                session.private.upstream.pipe.db = self.db
        elif not reply.startswith(b"-BUSY"):
            known_dbs.discard(self.db)
        self.finish(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.session.private is None and self.db in self.session.stack.l2.known_dbs:
            self.on_reply(OK, 0.0)
        else:
            super().on_lost(reason, sent)


def select(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    db = parse_integer(args[1])
    if db is None:
        session.reply(errors.NOT_INTEGER)
        return
    if session.in_flight:
        session.block_idle(request)
        return
    l2, slot = session.stack.l2, _SelectSlot(session, db)
    session.add_slot(slot)
    via: Via = session.private.upstream if session.private is not None else l2.databases.scout
    known = session.private is None and db in l2.known_dbs
    if not via.ready or (l2.stalled and known):
        slot.on_lost(via.reason, False)
        return
    via.send(pack(args), slot, ANY_DB)
    session.block_idle()


def auth(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    if len(args) > 3:
        session.reply(errors.SYNTAX)
        return
    acl = session.terrace.acl
    if len(args) == 2 and acl.default.nopass:
        acl.note_needless_password(session)
        session.reply(_NO_PASSWORD_SET)
        return
    name = args[1] if len(args) == 3 else b"default"
    user = acl.user_for(session, name, args[-1], args[0])
    if user is None:
        session.reply(acl.login_failed)
        return
    session.log_in(user)
    session.reply(OK)


def hello(session: Session, command: Command, request: Request) -> None:
    """HELLO [protover [AUTH user password] [SETNAME name]]: all parts or none."""
    args = request[0]
    proto = session.proto
    name: bytes | None = None
    login: list[bytes] = []
    if len(args) > 1:
        asked = parse_integer(args[1])
        if asked is None:
            session.reply(error("ERR Protocol version is not an integer or out of range"))
            return
        if asked not in (2, 3):
            session.reply(errors.NOPROTO)
            return
        proto = asked
    at = 2
    while at < len(args):
        option, left = args[at].upper(), len(args) - at - 1
        if option == b"AUTH" and left >= 2:
            login = args[at + 1 : at + 3]
            at += 3
        elif option == b"SETNAME" and left >= 1:
            name = args[at + 1]
            if (refusal := name_refusal(name)) is not None:
                session.reply(refusal)
                return
            at += 2
        else:
            session.reply(error(f"ERR Syntax error in HELLO option '{errors.shown(args[at])}'"))
            return
    acl = session.terrace.acl
    user = session.user if session.authenticated else None
    if login:
        user = acl.user_for(session, login[0], login[1], args[0])
    if user is None:
        if not login:
            acl.note_no_login(session, "hello")
        session.reply(acl.login_failed if login else _HELLO_NOAUTH)
        return
    session.log_in(user)
    if name is not None:
        session.name = name
    _switch(session, proto)
    session.reply(mapping(_hello_fields(session), proto))


def _hello_fields(session: Session) -> dict[bytes, bytes]:
    """The fields of HELLO: the server's own, except those of the client's connection."""
    said = session.stack.l2.server
    own = {
        b"server": bulk("redis"),
        b"version": bulk(session.stack.l2.server_version),
        b"proto": integer(session.proto),
        b"id": integer(session.ident),
        b"mode": bulk("standalone"),
        b"role": bulk("master"),
    }
    others = {name: _encoded(value) for name, value in said.items() if name not in _OWN_WORDS}
    modules = array(_module(m, session.proto) for m in said.get(b"modules") or ())
    return own | others | {b"modules": modules}


def _module(module: Mapping[bytes, Any], proto: int) -> bytes:
    """One element of `modules`, as in Redis' reply."""
    return mapping({name: _encoded(value) for name, value in module.items()}, proto)


def _encoded(value: Any) -> bytes:
    if isinstance(value, list):
        return array(map(_encoded, value))
    return integer(value) if isinstance(value, int) else bulk(value)


def _switch(session: Session, proto: int) -> None:
    if session.private is not None:
        session.private.switch(proto)
    session.proto = proto


def quit_(session: Session, command: Command, request: Request) -> None:
    session.reply(OK)
    session.close_after_output()


def reset(session: Session, command: Command, request: Request) -> None:
    if session.in_flight:
        session.block_idle(request)
        return
    if session.private is not None:
        session.private.abandon()
    session.reset()
    session.reply(simple("RESET"))
