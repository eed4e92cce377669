"""CONFIG: Redis' parameters, and Terrace's own options as parameters `terrace.…`.

Terrace answers its own options from memory, so a client can read them while Redis is down.
They come from the configuration; Redis executes all other forms of CONFIG.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from tiers.proxy_door import PATTERN_MAX_BYTES, glob_matcher, in_turns
from tiers.wire.resp import Request, bulk, error, mapping

from .. import errors
from ..acl.redis_secrets import LOCKS_OUT, hide_secrets, locks_out
from ..commands.command import Command
from ..config.model import Config
from ..config.option_table import Row, table, toml_text
from ..masking import mask, mask_option
from .introspection import extended

if TYPE_CHECKING:
    from ..client.session import Session

PREFIX = b"terrace."


def config(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    sub = args[1].upper()
    if sub == b"SET" and (names := [name for name in args[2::2] if is_own(name)]):
        session.reply(_fixed(session.config, names[0]))
        return
    if locks_out(session.stack.l2, args):
        session.reply(LOCKS_OUT)
        return
    if sub == b"GET" and len(args) > 2 and all(map(is_own, args[2:])):
        session.terrace.run_task(session, _reply_own(session, args[2:]))
        return
    if session.in_flight:
        session.block_idle(request)
        return
    session.terrace.run_task(session, _ask(session, args))


async def _reply_own(session: Session, patterns: list[bytes]) -> None:
    session.reply(mapping(await _matching(session.config, patterns), session.proto))


async def _ask(session: Session, args: list[bytes]) -> None:
    """Ask Redis; add Terrace's options to GET if a pattern covers both."""
    proto = session.proto
    if args[1].upper() != b"GET" or len(args) == 2:
        reply = await session.stack.l2.ask(args, proto=proto)
        if args[1].upper() == b"SET":
            await session.stack.l2.learn_limits()
        session.reply(reply)
        return
    patterns = args[2:]
    others = [pattern for pattern in patterns if not is_own(pattern)]
    reply = await session.stack.l2.ask([b"CONFIG", b"GET", *others], proto=proto)
    reply = hide_secrets(reply)
    own = await _matching(session.config, patterns)
    pairs = [bulk(name) + value for name, value in own.items()]
    session.reply(extended(reply, pairs, width=1 if proto == 3 else 2))


def is_own(pattern: bytes) -> bool:
    """Whether it can match only options of Terrace."""
    return pattern[: len(PREFIX)].lower() == PREFIX


async def _matching(config: Config, patterns: list[bytes]) -> dict[bytes, bytes]:
    """Name -> encoded value of every option that a pattern matches, case-insensitive."""
    parameters = _parameters(config)
    found: set[bytes] = set()
    async for pattern in in_turns(patterns, check_every=1):
        if len(pattern) <= PATTERN_MAX_BYTES:
            found.update(filter(glob_matcher(pattern.lower()), parameters))
    return {name: bulk(value) for name, value in parameters.items() if name in found}


def _fixed(config: Config, name: bytes) -> bytes:
    shown = errors.shown(name)
    if name.lower() not in _parameters(config):
        return error(f"ERR Unknown option or number of arguments for CONFIG SET - '{shown}'")
    return error(
        f"ERR CONFIG SET failed (possibly related to argument '{shown}') - terrace takes its "
        "options from its configuration: change it there, then TIER.RELOAD or a restart"
    )


@lru_cache(maxsize=1)
def _rows() -> dict[str, Row]:
    return table(Config)


def _parameters(config: Config) -> dict[bytes, str]:
    """Every option as a parameter, with its name in lower case, without secrets."""
    values = config.model_dump(by_alias=True)
    parameters = {}
    for path, row in _rows().items():
        value = values
        for part in path.split("."):
            value = value[part]
        parameters[PREFIX + path.encode()] = _text(row, value)
    return parameters


def _text(row: Row, value: object) -> str:
    if row.secret:
        return ""
    if row.kind in ("rows", "map"):
        return mask(json.dumps(value))
    if isinstance(value, str):
        return mask_option(value)
    return toml_text(value, row.kind).strip('"')
