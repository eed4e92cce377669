"""INFO and COMMAND: Redis' own answer plus Terrace's part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers import ServerError, TierUnavailable
from tiers.wire.resp import Request, array, bulk, integer, mapping, simple

from ..commands.command import Command, Kind
from ..figures.report import info_section

if TYPE_CHECKING:
    from ..client.session import Session

# Terrace searches this many arguments of COMMAND for its own commands; with more, only Redis
# answers.
NAMES_LOOK_MAX = 1000
_SECTIONS_WITH_TIERS = frozenset((b"tiers", b"default", b"all", b"everything"))


def info(session: Session, command: Command, request: Request) -> None:
    if session.in_flight:
        session.block_idle(request)
        return
    session.terrace.run_task(session, _info(session, request[0]))


async def _info(session: Session, args: list[bytes]) -> None:
    wanted = [arg.lower() for arg in args[1:]]
    text = ""
    rest = [arg for arg in wanted if arg != b"tiers"]
    if rest or not wanted:
        try:
            text = _text(await session.stack.l2.call(b"INFO", *rest))
        except TierUnavailable:
            text = ""  # Terrace's own part is still useful
        except ServerError as failure:
            session.reply(b"-%b\r\n" % str(failure).encode())
            return
    if not wanted or not _SECTIONS_WITH_TIERS.isdisjoint(wanted):
        text += ("\r\n" if text else "") + await info_section(session.terrace)
    raw = text.encode("utf-8", "surrogateescape")
    verbatim = b"=%d\r\ntxt:%b\r\n" % (len(raw) + 4, raw)
    session.reply(verbatim if session.proto == 3 else bulk(raw))


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def command(session: Session, command: Command, request: Request) -> None:
    if session.in_flight:
        session.block_idle(request)
        return
    many = len(request[0]) > NAMES_LOOK_MAX
    work = _as_it_came(session, request) if many else _command(session, request[0])
    session.terrace.run_task(session, work)


async def _as_it_came(session: Session, request: Request) -> None:
    _, buffer, start, end = request
    session.reply(await session.stack.l2.ask_raw(buffer[start:end], proto=session.proto))


async def _command(session: Session, args: list[bytes]) -> None:
    own = _own_rows(session)
    proto = session.proto
    sub = args[1].upper() if len(args) > 1 else b""
    named = [arg.upper() for arg in args[2:]]

    async def ask(*command: bytes) -> bytes:
        return await session.stack.l2.ask(command, proto=proto)

    if sub in (b"", b"INFO") and not named:
        rows = [_row(session, row) for row in own.values()]
        session.reply(extended(await ask(*args), rows))
    elif sub == b"COUNT" and not named:
        reply = await ask(*args)
        session.reply(integer(int(reply[1:-2]) + len(own)) if reply[:1] == b":" else reply)
    elif sub == b"LIST" and not named:
        names = [bulk(name.lower()) for name in own]
        session.reply(extended(await ask(*args), names))
    elif sub == b"INFO":
        session.reply(await _info_of(session, args[2:], own, ask))
    elif sub == b"DOCS":
        chosen = [row for name, row in own.items() if not named or name in named]
        others = [arg for arg in args[2:] if arg.upper() not in own]
        reply = mapping({}, proto)
        if others or not named:
            reply = await ask(b"COMMAND", b"DOCS", *others)
        docs = [bulk(row.name.lower()) + _docs(row, proto) for row in chosen]
        session.reply(extended(reply, docs, width=1 if proto == 3 else 2))
    elif sub == b"GETKEYS" and named and named[0] in own:
        keys = own[named[0]].keys_of(args[2:])
        session.reply(array(bulk(key) for key in keys))
    else:
        session.reply(await ask(*args))


async def _info_of(session, names, own, ask) -> bytes:  # type: ignore[no-untyped-def]
    """COMMAND INFO name ...: one element per name, in order."""
    if not any(name.upper() in own for name in names):
        return bytes(await ask(b"COMMAND", b"INFO", *names))
    elements = []
    for name in names:
        row = own.get(name.upper())
        if row is not None:
            elements.append(_row(session, row))
        else:
            reply = await ask(b"COMMAND", b"INFO", name)
            elements.append(reply[reply.index(b"\n") + 1 :])  # without its "*1"
    return array(elements)


def _own_rows(session: Session) -> dict[bytes, Command]:
    return {name: row for name, row in session.commands.rows.items() if row.kind is Kind.OWN}


def extended(reply: bytes, items: list[bytes], width: int = 1) -> bytes:
    """An aggregate reply with more items at its end; an error reply is unchanged."""
    if reply[:1] not in b"*%":
        return reply
    eol = reply.index(b"\r\n")
    count = int(reply[1:eol]) + width * len(items)
    return b"%b%d%b%b" % (reply[:1], count, reply[eol:], b"".join(items))


def _row(session: Session, row: Command) -> bytes:
    """The description of a command in COMMAND INFO; Redis 6 has seven columns, Redis 7 ten."""
    proto = session.proto
    first, last, step = row.keys or (0, 0, 0)
    categories = sorted(row.facts.categories if row.facts is not None else ())
    flags = [simple("readonly" if "read" in categories else "admin")]
    columns = [
        bulk(row.name.lower()),
        integer(row.arity),
        _set(flags, proto),
        integer(first),
        integer(last),
        integer(step),
        _set([simple(f"@{name}") for name in categories], proto),
    ]
    if not session.stack.l2.server_version.startswith("6."):
        columns += [_set([], proto), _set([], proto), _set([], proto)]
    return array(columns)


def _set(items: list[bytes], proto: int) -> bytes:
    encoded = array(items)
    return b"~" + encoded[1:] if proto == 3 else encoded


def _docs(row: Command, proto: int) -> bytes:
    return mapping(
        {
            b"summary": bulk(row.summary),
            b"since": bulk("0.1.0"),
            b"group": bulk("terrace"),
        },
        proto,
    )
