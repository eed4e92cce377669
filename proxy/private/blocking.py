"""Commands that run alone on a private connection: those that may block, and unknown ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.wire.resp import Request

from ..commands.command import Command
from ..flow.routing import barrier
from . import waits
from .leasing import acquire
from .states import Event

if TYPE_CHECKING:
    from ..client.session import Session


def run_alone(
    session: Session, command: Command, request: Request, now: float, db: int | None = None
) -> None:
    """Run it; the session waits for the reply. The command runs in the client's database, or in
    `db` (ANY_DB: in any)."""
    is_wait = waits.is_wait(request)
    if is_wait and (refusal := waits.refusal(session)):
        session.reply(refusal)
        return
    private = acquire(session, request, db)
    if private is None:
        return
    private.upstream.patient = True
    # An unknown command may wait for other clients.
    private.move(Event.BLOCKS if command.blocks or is_wait else Event.RUNS_ALONE)
    if is_wait:
        waits.forward(private, request)
    else:
        slot = barrier(session, command, request[0], private.upstream, [])
        private.forward(request, slot, db=db)
    if private.upstream.ready:
        session.block_idle()
