"""CLIENT LIST, KILL, PAUSE, UNPAUSE and UNBLOCK across several workers.

A worker executes each for its own clients, and asks the other workers to do the same. In a
transaction it covers only its own clients: EXEC's reply does not wait for other workers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from tiers.wire.resp import OK, Request, error, integer

from ..client import listing
from .sibling_answers import as_text

if TYPE_CHECKING:
    from ..client.session import Session

Across: TypeAlias = "Callable[[Session, list[bytes]], Coroutine[Any, Any, None]]"


def run(session: Session, name: bytes, request: Request) -> bool:
    """Ask the other workers if the command needs them; return whether it does."""
    across = _ACROSS.get(name)
    if across is None or not session.terrace.siblings:
        return False
    if session.in_flight:
        session.block_idle(request)
    else:
        session.terrace.run_task(session, across(session, request[0]))
    return True


async def _list(session: Session, args: list[bytes]) -> None:
    terrace = session.terrace
    chosen = listing.chosen(terrace, args[2:], session)
    if isinstance(chosen, bytes):
        session.reply(chosen)
        return
    lines = {s.ident: listing.describe(s) for s in chosen}
    for answer in await terrace.siblings.ask("clients", args=as_text(args[2:])):
        lines |= {int(ident): str(line) for ident, line in answer}
    order = [i for i in listing.listed_ids(args[2:]) if i in lines] or sorted(lines)
    session.reply(listing.text_of(session, (lines[ident] for ident in order)))


async def _kill(session: Session, args: list[bytes]) -> None:
    terrace = session.terrace
    own = listing.victims(terrace, args[2:], session)
    if isinstance(own, bytes):
        session.reply(own)
        return
    killed = len(own) + sum(await terrace.siblings.ask("kill", args=as_text(args[2:])))
    listing.close(own, session)
    if len(args) == 3:
        session.reply(OK if killed else error("ERR No such client"))
    else:
        session.reply(integer(killed))


async def pause(session: Session, until: float, mode: str) -> None:
    """Ask the other workers; this worker's clients are already held."""
    await session.terrace.siblings.ask("pause", until=until, mode=mode)
    session.reply(OK)


async def _unpause(session: Session, args: list[bytes]) -> None:
    session.terrace.pause.end()
    await session.terrace.siblings.ask("unpause")
    session.reply(OK)


async def unblock(session: Session, ident: int, mode: bytes) -> None:
    answers = await session.terrace.siblings.ask("unblock", ident=ident, mode=mode.decode())
    session.reply(integer(sum(answers)))


_ACROSS: dict[bytes, Across] = {b"LIST": _list, b"KILL": _kill, b"UNPAUSE": _unpause}
