"""TIER.*: Terrace's own commands: inspect, invalidate, warm and refresh the tiers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from tiers import MappingProblem
from tiers.proxy_door import OWN_KEYS, PATTERN_MAX_BYTES, Audit, ViewMapping, literal_prefix
from tiers.wire.resp import Request, array, bulk, error, integer, mapping, parse_integer

from .. import errors
from ..commands.command import Command
from ..config.live import NotReloaded
from ..figures.report import tier_figures
from ..workers.bus import QUESTION_MAX_BYTES
from .sibling_answers import as_text

if TYPE_CHECKING:
    from ..client.session import Session

AUDIT_DEFAULT, AUDIT_MAX = 100, 1000  # keys
EXPLAINED_MAX_BYTES = 64 * 1024  # of a key: a request to each tier, on shared connections
KEYS_AT_ONCE = 1000  # of TIER.INVALIDATE in one turn of the loop
_LONG_PATTERN = error(f"ERR terrace: a pattern has at most {PATTERN_MAX_BYTES} bytes")
_LONG_KEY = error(f"ERR terrace: TIER.EXPLAIN takes keys of at most {EXPLAINED_MAX_BYTES} bytes")


def explain(session: Session, command: Command, request: Request) -> None:
    key = request[0][1]
    if len(key) > EXPLAINED_MAX_BYTES:
        session.reply(_LONG_KEY)
        return
    session.terrace.run_task(session, _explain(session, key))


async def _explain(session: Session, key: bytes) -> None:
    facts = await session.stack.explain(key, session.db)
    _reply_facts(session, {name: str(text) for name, text in facts.items()})


def _reply_facts(session: Session, facts: dict[str, str]) -> None:
    encoded = {name.encode(): bulk(text) for name, text in facts.items()}
    session.reply(mapping(encoded, session.proto))


def invalidate(session: Session, command: Command, request: Request) -> None:
    args, buffer, start, end = request
    if args[1].upper() == b"KEYS":
        if len(args) < 3:
            session.reply(errors.wrong_arity("TIER.INVALIDATE"))
            return
        if buffer.find(OWN_KEYS, start, end) >= 0 and any(k.startswith(OWN_KEYS) for k in args[2:]):
            session.reply(errors.RESERVED)
            return
        session.terrace.run_task(session, _invalidate_keys(session, args[2:]))
    elif len(args) == 2:
        session.terrace.run_task(session, _invalidate_pattern(session, args[1]))
    else:
        session.reply(errors.SYNTAX)


async def _invalidate_keys(session: Session, keys: list[bytes]) -> None:
    for some in _portions(keys):
        if session.stack.l3 is not None:  # first, or their absence would return to L1
            await session.terrace.siblings.ask("forget", keys=as_text(some))
        await session.stack.invalidate(some)
    session.reply(integer(len(keys)))


def _portions(keys: list[bytes]) -> Iterator[list[bytes]]:
    """Parts that fit into one turn, and into one message to another worker."""
    portion: list[bytes] = []
    size = 0
    for key in keys:
        if portion and (size + len(key) > QUESTION_MAX_BYTES or len(portion) >= KEYS_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += len(key)
    yield portion


async def _invalidate_pattern(session: Session, pattern: bytes) -> None:
    if len(pattern) > PATTERN_MAX_BYTES:
        session.reply(_LONG_PATTERN)
        return
    if session.stack.l3 is not None:
        await session.terrace.siblings.ask("forget", pattern=pattern.decode("latin-1"))
    session.reply(integer(await session.stack.invalidate_matching(pattern)))


def warm(session: Session, command: Command, request: Request) -> None:
    l3 = session.stack.l3
    if l3 is None:
        session.reply(errors.NO_L3)
        return
    if len(request[0]) > 2:
        session.reply(errors.SYNTAX)
        return
    if len(request[0]) == 1:
        session.terrace.run_task(session, _warm(session, list(l3.mappings), None))
        return
    text = request[0][1]
    view = l3.mappings.by_view(errors.shown(text))
    if view is not None:
        session.terrace.run_task(session, _warm(session, [view], None))
        return
    prefix = literal_prefix(text)
    chosen = [m for m in l3.mappings if m.prefix.startswith(prefix) or prefix.startswith(m.prefix)]
    if not chosen:
        session.reply(
            error(f"ERR terrace: '{errors.shown(text)}' is not a view and matches no mapped keys")
        )
        return
    session.terrace.run_task(session, _warm(session, chosen, text))


async def _warm(session: Session, views: list[ViewMapping], pattern: bytes | None) -> None:
    loaded = 0
    for view in views:
        loaded += await session.stack.warm(view, pattern)
    session.reply(integer(loaded))


def refresh(session: Session, command: Command, request: Request) -> None:
    if session.stack.l3 is None:
        session.reply(errors.NO_L3)
        return
    session.terrace.run_task(session, _refresh(session, errors.shown(request[0][1])))


async def _refresh(session: Session, view: str) -> None:
    assert session.stack.l3 is not None
    try:
        result = await session.stack.l3.refresh(view)
    except MappingProblem as problem:
        session.reply(error(f"ERR terrace: {problem}"))
        return
    changed = "all" if result.changed is None else str(len(result.changed))
    _reply_facts(
        session,
        {
            "view": view,
            "epoch": str(result.epoch),
            "changed": changed,
            "seconds": f"{result.duration_s:.3f}",
        },
    )


def reload(session: Session, command: Command, request: Request) -> None:
    session.terrace.run_task(session, _reload(session))


async def _reload(session: Session) -> None:
    try:
        result = await session.terrace.reloader.reload()
    except NotReloaded as problem:
        session.reply(error(f"ERR terrace: not reloaded, nothing changed: {problem}"))
        return
    problems = [problem for problem in await session.terrace.siblings.ask("reload") if problem]
    if problems:
        session.reply(error(f"ERR terrace: not every worker has reloaded: {problems[0]}"))
        return
    session.terrace.siblings.report_reloaded()
    facts = {
        b"changed": array(map(bulk, result.changed)),
        b"needs_restart": array(map(bulk, result.needs_restart)),
    }
    session.reply(mapping(facts, session.proto))


def stats(session: Session, command: Command, request: Request) -> None:
    session.terrace.run_task(session, _stats(session))


async def _stats(session: Session) -> None:
    _reply_facts(session, await tier_figures(session.terrace))


def audit(session: Session, command: Command, request: Request) -> None:
    args = request[0]
    count = AUDIT_DEFAULT if len(args) < 2 else parse_integer(args[1])
    audit = session.stack.audit
    if count is None or not 1 <= count <= AUDIT_MAX:
        session.reply(error(f"ERR the number of keys must be 1 to {AUDIT_MAX}"))
    elif len(args) > 2:
        session.reply(errors.SYNTAX)
    elif audit is None:
        session.reply(error("ERR terrace: L1 is off (l1.enabled=false)"))
    else:
        session.terrace.run_task(session, _audit(session, audit, count))


async def _audit(session: Session, audit: Audit, count: int) -> None:
    found = asdict(await audit.run(count))
    totals = {f"total_{name}": value for name, value in asdict(audit.statistics()).items()}
    _reply_facts(session, {name: str(value) for name, value in (found | totals).items()})
