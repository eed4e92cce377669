"""ACL: shows Terrace's users, from any source, and changes them if the source is Redis."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

from tiers.wire.resp import OK, Request, array, bulk, error, integer, mapping, null, parse_integer

from .. import errors
from ..acl.log import LogEntry, unpacked
from ..acl.selector import Denial, Selector
from ..acl.source import UsersFileError
from ..commands.command import UNKNOWN, Command
from ..commands.facts import CATEGORIES, CATEGORY_NAMES
from ..commands.table import COMMANDS

if TYPE_CHECKING:
    from ..acl.rules import User
    from ..client.session import Session

_LOG_DEFAULT = 10  # entries shown by ACL LOG without a count
_PASSWORD_BITS = 256
_PASSWORD_BITS_MAX = 4096
_BAD_BITS = error(
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive "
    f"number up to {_PASSWORD_BITS_MAX}"
)

_OWN_USER = (
    "is the user of l2.url: a change here could lock terrace out of Redis, or break its service "
    "for all clients; change it in Redis itself, or give terrace its own user in Redis"
)


def acl(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    facts, known = command.facts_of(args)
    assert facts is not None
    if not known:
        session.reply(errors.unknown_subcommand("ACL", args[1]))
    elif not facts.accepts(len(args)):
        session.reply(errors.wrong_arity(facts.name))
    else:
        SUBCOMMANDS[facts.name](session, request)


def _whoami(session: Session, request: Request) -> None:
    session.reply(bulk(session.user.name))


def _users(session: Session, request: Request) -> None:
    session.reply(array(bulk(name) for name in sorted(session.terrace.acl.users)))


def _list(session: Session, request: Request) -> None:
    users = session.terrace.acl.users
    session.reply(array(bulk(users[name].describe()) for name in sorted(users)))


def _getuser(session: Session, request: Request) -> None:
    user = session.terrace.acl.users.get(request[0][2])
    proto = session.proto
    if user is None:
        session.reply(null(proto))
        return
    root, *more = user.selectors
    flags = array(bulk(flag) for flag in user.flags)
    facts = {
        b"flags": b"~" + flags[1:] if proto == 3 else flags,
        b"passwords": array(bulk(password) for password in user.passwords),
        **_rights(root),
        b"selectors": array(mapping(_rights(selector), proto) for selector in more),
    }
    session.reply(mapping(facts, proto))


def _rights(selector: Selector) -> dict[bytes, bytes]:
    return {
        b"commands": bulk(selector.commands_text),
        b"keys": bulk(selector.keys_text),
        b"channels": bulk(selector.channels_text),
    }


def _cat(session: Session, request: Request) -> None:
    args = request[0]
    if len(args) == 2:
        session.reply(array(bulk(name) for name in CATEGORIES))
        return
    category = errors.shown(args[2]).lower()
    if len(args) > 3:
        session.reply(errors.unknown_subcommand("ACL", args[1]))
    elif category not in CATEGORY_NAMES:
        session.reply(error(f"ERR Unknown category '{errors.shown(args[2])}'"))
    else:
        names = (
            member.name
            for facts in COMMANDS.values()
            for member in facts.family
            if category in member.categories
        )
        session.reply(array(bulk(name) for name in names))


def _dryrun(session: Session, request: Request) -> None:
    args = request[0]
    user = session.terrace.acl.users.get(args[2])
    line = args[3:]
    row = session.commands.find(line[0])
    facts, known = row.facts_of(line)
    if user is None:
        session.reply(error(f"ERR User '{errors.shown(args[2])}' not found"))
    elif facts is None and row is not UNKNOWN:
        _dryrun_of_newer(session, user, row, line)
    elif facts is None or not known:
        session.reply(error(f"ERR Command '{errors.shown(line[0])}' not found"))
    elif not facts.accepts(len(line)):
        session.reply(errors.wrong_arity(facts.name))
    else:
        denial = user.denial(facts, line)
        if denial is None:
            session.reply(OK)
        else:
            session.reply(bulk(denial.detail.encode("utf-8", "surrogateescape")))


def _dryrun_of_newer(session: Session, user: User, row: Command, line: list[bytes]) -> None:
    """DRYRUN of a command that the server has, but Redis 7.0 has not."""
    name = row.name.lower()
    if not row.accepts(len(line)):
        session.reply(errors.wrong_arity(name))
    elif user.allows_unknown(name):
        session.reply(OK)
    else:
        session.reply(bulk(Denial("command", name, line[0]).detail))


def _log(session: Session, request: Request) -> None:
    args = request[0]
    log = session.terrace.acl.log
    resets = len(args) > 2 and args[2].upper() == b"RESET"
    count = parse_integer(args[2]) if len(args) > 2 and not resets else _LOG_DEFAULT
    if count is None:
        session.reply(errors.NOT_INTEGER)
        return
    if resets:
        log.reset()
    if session.terrace.siblings:
        session.terrace.run_task(session, _log_of_all(session, 0 if resets else count, resets))
    else:
        session.reply(OK if resets else _log_text(session, log.newest(count)))


async def _log_of_all(session: Session, count: int, resets: bool) -> None:
    answers = await session.terrace.siblings.ask("acl log", resets=resets)
    others = chain.from_iterable(map(unpacked, answers))
    found = session.terrace.acl.log.newest(count, others)
    session.reply(OK if resets else _log_text(session, found))


def _log_text(session: Session, found: Iterable[tuple[LogEntry, float]]) -> bytes:
    return array(_entry(entry, age_s, session.proto) for entry, age_s in found)


def _entry(entry: LogEntry, age_s: float, proto: int) -> bytes:
    age = f"{age_s:.3f}"
    return mapping(
        {
            b"count": integer(entry.count),
            b"reason": bulk(entry.reason),
            b"context": bulk(entry.context),
            b"object": bulk(entry.about),
            b"username": bulk(entry.username),
            b"age-seconds": b",%b\r\n" % age.encode() if proto == 3 else bulk(age),
            b"client-info": bulk(entry.client_info),
        },
        proto,
    )


def _genpass(session: Session, request: Request) -> None:
    args = request[0]
    bits = parse_integer(args[2]) if len(args) > 2 else _PASSWORD_BITS
    if bits is None:
        session.reply(errors.NOT_INTEGER)
        return
    if not 0 < bits <= _PASSWORD_BITS_MAX:
        session.reply(_BAD_BITS)
        return
    digits = (bits + 3) // 4
    session.reply(bulk(secrets.token_hex((digits + 1) // 2)[:digits]))


def _help(session: Session, request: Request) -> None:
    session.terrace.run_task(session, ask(session, request[0]))


# Changing users


def _change(session: Session, request: Request) -> None:
    """SETUSER, DELUSER, SAVE: L2 executes them if the users are those of L2."""
    acl, args = session.terrace.acl, request[0]
    own = session.stack.l2.endpoint.user
    if acl.redis is not None and own in (args[2:3] if args[1].upper() == b"SETUSER" else args[2:]):
        session.reply(error(f"ERR terrace: {errors.shown(own)} {_OWN_USER}"))
    elif acl.redis is not None:
        session.terrace.run_task(session, _change_in_redis(session, args))
    elif acl.options.source == "file":
        session.reply(
            error(
                f"ERR terrace: acl.file ({acl.options.file}) defines the users; "
                "edit it, then send ACL LOAD"
            )
        )
    else:
        session.reply(
            error(
                "ERR terrace: there is only the default user; for others set acl.source and "
                "acl.file, for its password listen.password"
            )
        )


async def ask(session: Session, args: list[bytes]) -> None:
    """Reply with the server's answer to a command that changes nothing."""
    session.reply(await session.stack.l2.ask(args, proto=session.proto))


async def _change_in_redis(session: Session, args: list[bytes]) -> None:
    redis = session.terrace.acl.redis
    assert redis is not None
    reply = await session.stack.l2.ask(args, proto=session.proto)
    await redis.refresh(current=session)
    await session.terrace.siblings.ask("load users")
    session.reply(reply)


def _load(session: Session, request: Request) -> None:
    if session.terrace.acl.options.source == "file":
        session.terrace.run_task(session, _load_file(session))
    else:
        _change(session, request)


async def _load_file(session: Session) -> None:
    acl = session.terrace.acl
    try:
        users = await acl.read_file()
    except UsersFileError as failure:
        session.reply(error(f"ERR terrace: {failure}; the users are unchanged"))
        return
    await session.terrace.siblings.ask("load users")
    session.reply(OK)
    acl.adopt(users, current=session)


SUBCOMMANDS: dict[str, Callable[[Session, Request], None]] = {
    "acl|whoami": _whoami,
    "acl|users": _users,
    "acl|list": _list,
    "acl|getuser": _getuser,
    "acl|cat": _cat,
    "acl|dryrun": _dryrun,
    "acl|log": _log,
    "acl|genpass": _genpass,
    "acl|help": _help,
    "acl|setuser": _change,
    "acl|deluser": _change,
    "acl|save": _change,
    "acl|load": _load,
}
