"""CONFIG: Redis' parameters, and Terrace's own options as parameters `terrace.…`.

Terrace's are answered from its own memory, so they can be read while Redis is down. They
come from the configuration; everything else CONFIG can do is done by Redis.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from tiers import PATTERN_MAX_BYTES, glob_matcher, in_turns
from tiers.wire.resp import ReplyScanner, Request, bulk, error, mapping

from .. import errors
from ..acl.source import DEFAULT
from ..commands.command import Command
from ..config.model import Config
from ..config.option_table import Row, table, toml_text
from ..masking import mask, mask_option
from .introspection import extended

if TYPE_CHECKING:
    from ..client.session import Session

PREFIX = b"terrace."
# Redis does not say which of its parameters it takes for secrets: masterauth, primaryauth,
# requirepass, tls-key-file-pass, and whatever modules and later servers have of that kind.
_SECRET = re.compile(
    rb"(?i)(?:pass|auth|token|credentials?|private[-_.]?key|api[-_.]?key)\r\n\Z"
    rb"|passw(?:or)?d|passphrase|secret"
)


def config(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    sub = args[1].upper()
    if sub == b"SET" and (names := [name for name in args[2::2] if is_own(name)]):
        session.reply(_fixed(session.config, names[0]))
        return
    if locks_out(session, args):
        session.reply(LOCKS_OUT)
        return
    if sub == b"GET" and len(args) > 2 and all(map(is_own, args[2:])):
        session.terrace.run_task(session, _tell_own(session, args[2:]))
        return
    if session.in_flight:
        session.block_idle(request)
        return
    session.terrace.run_task(session, _ask(session, args))


async def _tell_own(session: Session, patterns: list[bytes]) -> None:
    session.reply(mapping(await _matching(session.config, patterns), session.proto))


async def _ask(session: Session, args: list[bytes]) -> None:
    """Redis answers; GET gets Terrace's options added where a pattern covers both."""
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


LOCKS_OUT = error(
    "ERR CONFIG SET failed (possibly related to argument 'requirepass') - it would lock terrace "
    "out, which logs in to Redis as its default user: change the password in Redis itself and in "
    "l2.url, or give terrace a user of its own there"
)


def locks_out(session: Session, args: list[bytes]) -> bool:
    """Whether this would change the password that Terrace itself logs in with."""
    if args[1].upper() != b"SET":
        return False
    endpoint = session.stack.l2.endpoint
    own = endpoint.password.encode()
    pairs = zip(args[2::2], args[3::2], strict=False)
    changed = any(name.lower() == b"requirepass" and value != own for name, value in pairs)
    return changed and endpoint.user == DEFAULT


def hide_secrets(reply: bytes) -> bytes:
    """CONFIG GET's reply, of either protocol, with Redis' own passwords left empty."""
    if reply[:1] not in (b"*", b"%"):
        return reply
    body = reply.index(b"\n") + 1
    words = ReplyScanner().feed(reply[body:])
    for at in range(0, len(words) - 1, 2):
        if _SECRET.search(words[at]):
            words[at + 1] = bulk(b"")
    return reply[:body] + b"".join(words)


def is_own(pattern: bytes) -> bool:
    """Whether it can match nothing but options of Terrace."""
    return pattern[: len(PREFIX)].lower() == PREFIX


async def _matching(config: Config, patterns: list[bytes]) -> dict[bytes, bytes]:
    """Name -> encoded value of every option that a pattern matches; case does not matter."""
    parameters = _parameters(config)
    found: set[bytes] = set()
    async for pattern in in_turns(patterns, look_every=1):
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
    """Every option as a parameter: named in lower case, without secrets."""
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
