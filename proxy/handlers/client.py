"""CLIENT: about Terrace's own clients, never about its connections to Redis.

TRACKING and its likes run on a private connection to Redis, which then pushes the
invalidations for everything this client reads there. PAUSE and UNPAUSE are passed
on: they pause Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiers.resp import OK, Request, array, bulk, error, integer, null, pack, parse_integer, simple

from .. import errors, pinned
from ..commands import Command
from ..slots import Slot
from .connection import INVALID_NAME, is_valid_name

if TYPE_CHECKING:
    from ..session import Session

_HELP = (
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME / SETNAME <name>", "    Name of the current connection.",
    "ID", "    Id of the current connection.",
    "INFO / LIST [ID <id> ...]", "    Connections to Terrace.",
    "KILL <addr> | ID <id> | ADDR <addr> | LADDR <addr> | SKIPME (YES|NO)",
    "    Close connections.",
    "NO-EVICT / NO-TOUCH (ON|OFF)", "    Accepted; they concern a connection to Redis.",
    "PAUSE / UNPAUSE", "    Passed on to Redis.",
    "REPLY (ON|OFF|SKIP)", "    Whether replies are sent.",
    "SETINFO (LIB-NAME|LIB-VER) <text>", "    Client library.",
    "TRACKING / CACHING / TRACKINGINFO / GETREDIR", "    Server-assisted client-side caching.",
)  # fmt: skip


def client(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    name = args[1].upper()
    row = _SUBCOMMANDS.get(name)
    if row is None:
        session.reply(errors.unknown_subcommand("CLIENT", args[1]))
        return
    least, most, handler = row
    if not least <= len(args) <= most:
        session.reply(errors.wrong_arity(f"client|{name.decode().lower()}"))
        return
    handler(session, request)


def _id(session: Session, request: Request) -> None:
    session.reply(integer(session.ident))


def _getname(session: Session, request: Request) -> None:
    session.reply(bulk(session.name) if session.name else null(session.proto))


def _setname(session: Session, request: Request) -> None:
    name = request[0][2]
    if not is_valid_name(name):
        session.reply(INVALID_NAME)
        return
    session.name = name
    session.reply(OK)


def _setinfo(session: Session, request: Request) -> None:
    option, value = request[0][2].upper(), request[0][3]
    if option not in (b"LIB-NAME", b"LIB-VER"):
        shown = request[0][2][:128].decode("utf-8", "replace")
        session.reply(error(f"ERR Unrecognized option '{shown}'"))
    elif not is_valid_name(value):
        shown = option.decode().lower()
        text = f"ERR {shown} cannot contain spaces, newlines or special characters."
        session.reply(error(text))
    else:
        if option == b"LIB-NAME":
            session.lib_name = value
        else:
            session.lib_version = value
        session.reply(OK)


def describe(session: Session) -> str:
    """One line of CLIENT LIST, with the fields that tools read."""
    now = session.clock()
    pin = session.pin
    multi = session.slot_count if pin is not None and pin.in_multi else -1
    user = session.user.name.decode("utf-8", "replace")
    flags = "N"
    subscriptions = {"channels": 0, "patterns": 0, "shards": 0}
    if pin is not None:
        flags = ("x" if pin.in_multi else "") + ("P" if pin.subscribed else "")
        flags = (flags + ("O" if pin.monitoring else "") + ("t" if pin.tracking else "")) or "N"
        subscriptions = {kind: len(names) for kind, names in pin.subscriptions.items()}
    return (
        f"id={session.ident} addr={session.address} laddr={session.local_address} fd=-1 "
        f"name={session.name.decode()} age={int(now - session.created_at)} "
        f"idle={int(now - session.active_at)} flags={flags} db={session.db} "
        f"sub={subscriptions['channels']} psub={subscriptions['patterns']} "
        f"ssub={subscriptions['shards']} multi={multi} "
        f"qbuf={session.scanner.buffered_bytes} qbuf-free=0 argv-mem=0 multi-mem=0 "
        f"obl=0 oll={session.pending_commands} omem=0 tot-mem=0 events=r "
        f"cmd={session.last_command.lower() or 'NULL'} user={user} redir=-1 resp={session.proto} "
        f"lib-name={session.lib_name.decode()} lib-ver={session.lib_version.decode()}"
    )


def _text(session: Session, sessions: Iterable[Session]) -> None:
    text = "".join(describe(s) + "\n" for s in sessions).encode()
    if session.proto == 3:
        session.reply(b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text))
    else:
        session.reply(bulk(text))


def _info(session: Session, request: Request) -> None:
    _text(session, [session])


def _list(session: Session, request: Request) -> None:
    args = request[0]
    sessions = session.terrace.sessions
    if len(args) == 2:
        _text(session, sessions.values())
    elif args[2].upper() == b"ID" and len(args) > 3:
        idents = [parse_integer(arg) for arg in args[3:]]
        if None in idents:
            session.reply(error("ERR Invalid client ID"))
            return
        _text(session, [s for i in idents if i is not None and (s := sessions.get(i)) is not None])
    elif args[2].upper() == b"TYPE" and len(args) == 4:
        wanted = args[3].lower()
        if wanted not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
            shown = args[3][:128].decode("utf-8", "replace")
            session.reply(error(f"ERR Unknown client type '{shown}'"))
            return
        _text(session, [s for s in sessions.values() if _type(s) == wanted])
    else:
        session.reply(errors.SYNTAX)


def _type(session: Session) -> bytes:
    return b"pubsub" if session.pin is not None and session.pin.subscribed else b"normal"


def _kill(session: Session, request: Request) -> None:
    args = request[0]
    everybody = list(session.terrace.sessions.values())
    if len(args) == 3:
        address = args[2].decode("utf-8", "replace")
        victims = [s for s in everybody if s.address == address]
        session.reply(OK if victims else error("ERR No such client"))
        _close(session, victims)
        return
    victims, skip_me = everybody, True
    if len(args) % 2:
        session.reply(errors.SYNTAX)
        return
    for option, raw in zip(args[2::2], args[3::2], strict=True):
        value = raw.decode("utf-8", "replace")
        match option.upper():
            case b"ID":
                ident = parse_integer(raw) or 0
                if ident < 1:
                    session.reply(error("ERR client-id should be greater than 0"))
                    return
                victims = [s for s in victims if s.ident == ident]
            case b"ADDR":
                victims = [s for s in victims if s.address == value]
            case b"LADDR":
                victims = [s for s in victims if s.local_address == value]
            case b"TYPE":
                victims = [s for s in victims if _type(s) == raw.lower()]
            case b"USER":
                victims = [s for s in victims if s.user.name == raw]
            case b"SKIPME" if raw.upper() in (b"YES", b"NO"):
                skip_me = raw.upper() == b"YES"
            case _:
                session.reply(errors.SYNTAX)
                return
    if skip_me:
        victims = [s for s in victims if s is not session]
    session.reply(integer(len(victims)))
    _close(session, victims)


def _close(session: Session, victims: list[Session]) -> None:
    for victim in victims:
        if victim is session:
            victim.close_after_output()
        else:
            victim.on_close_request("CLIENT KILL")


def _accept_flag(session: Session, request: Request) -> None:
    on = request[0][2].upper() in (b"ON", b"OFF")
    session.reply(OK if on else errors.SYNTAX)


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


def _help(session: Session, request: Request) -> None:
    session.reply(array(simple(line) for line in _HELP))


class _TrackingSlot(Slot):
    """CLIENT TRACKING: the connection is kept for as long as it is on."""

    __slots__ = ("on",)

    def __init__(self, session: Session, on: bool) -> None:
        super().__init__(session)
        self.on = on

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        if reply == OK and self.session.pin is not None:
            self.session.pin.tracking = self.on
        self.finish(reply)


def _tracking(session: Session, request: Request) -> None:
    redirected = _redirected(session, request)
    if redirected is None:
        session.reply(error("ERR The client ID you want redirect to does not exist"))
        return
    pin = pinned.acquire(session, redirected)
    if pin is not None:
        request = redirected
        pin.forward(request, _TrackingSlot(session, request[0][2].upper() == b"ON"))
        session.block_idle()


def _redirected(session: Session, request: Request) -> Request | None:
    """The request with Terrace's id of the REDIRECT client replaced by Redis'.

    None when that client has no private connection (it has to be subscribed first).
    """
    args = list(request[0])
    for at in range(3, len(args) - 1):
        if args[at].upper() == b"REDIRECT" and request is not session.redirected:
            target = session.terrace.sessions.get(parse_integer(args[at + 1]) or 0)
            if target is None or target.pin is None or not target.pin.upstream.client_id:
                return None
            target.pin.redirect_target = True
            args[at + 1] = b"%d" % target.pin.upstream.client_id
            packed = pack(args)
            session.redirected = (args, packed, 0, len(packed))
            return session.redirected
    return request


def _pass_on(session: Session, request: Request) -> None:
    """On the client's private connection (leased for it when it has none)."""
    pin = pinned.acquire(session, request)
    if pin is not None:
        pin.forward(request, Slot(session))
        session.block_idle()


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
    if target is None or target.pin is None or target.pin.blocking_id is None:
        session.reply(integer(0))
        return
    upstream_id = b"%d" % target.pin.blocking_id
    session.terrace.run_task(session, _unblock_upstream(session, upstream_id, mode))


async def _unblock_upstream(session: Session, upstream_id: bytes, mode: bytes) -> None:
    unblocked = await session.stack.l2.call(b"CLIENT", b"UNBLOCK", upstream_id, mode)
    session.reply(integer(int(unblocked)))


_MANY = 1 << 20
_SUBCOMMANDS: dict[bytes, tuple[int, int, Callable[[Session, Request], None]]] = {
    # name: least and most arguments (CLIENT and the name included), handler
    b"ID": (2, 2, _id),
    b"GETNAME": (2, 2, _getname),
    b"SETNAME": (3, 3, _setname),
    b"SETINFO": (4, 4, _setinfo),
    b"INFO": (2, 2, _info),
    b"LIST": (2, _MANY, _list),
    b"KILL": (3, _MANY, _kill),
    b"NO-EVICT": (3, 3, _accept_flag),
    b"NO-TOUCH": (3, 3, _accept_flag),
    b"REPLY": (3, 3, _reply),
    b"HELP": (2, 2, _help),
    b"TRACKING": (3, _MANY, _tracking),
    b"CACHING": (3, 3, _pass_on),
    b"TRACKINGINFO": (2, 2, _pass_on),
    b"GETREDIR": (2, 2, _pass_on),
    b"PAUSE": (3, 4, _pass_on),
    b"UNPAUSE": (2, 2, _pass_on),
    b"UNBLOCK": (3, 4, _unblock),
}
