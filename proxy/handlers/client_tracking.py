"""CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR: client-side caching for clients.

They run on a private connection to Redis, which then pushes the invalidations for all
keys that this client reads there. Clients use Terrace's ids: Terrace replaces them by
Redis' ids in requests, and back in replies. `redirection` has the rest of a redirection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.wire.resp import OK, Request, error, pack, parse_integer

from ..client.redirection import attach, attach_nowait, with_own_id
from ..client.slots import Slot
from ..private.leasing import acquire

if TYPE_CHECKING:
    from ..client.session import Session

_NO_TARGET = error("ERR The client ID you want redirect to does not exist")


class _TrackingSlot(Slot):
    """CLIENT TRACKING: the client keeps the connection while it is on."""

    __slots__ = ("on", "redirect_to")

    def __init__(self, session: Session, on: bool, redirect_to: int) -> None:
        super().__init__(session)
        self.on = on
        self.redirect_to = redirect_to

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        private = self.session.private
        if reply == OK and private is not None:
            private.track(self.on, self.redirect_to)
        self.finish(reply)


def tracking(session: Session, request: Request) -> None:
    args = request[0]
    at = next((at for at in range(3, len(args) - 1) if args[at].upper() == b"REDIRECT"), 0)
    ident = (parse_integer(args[at + 1]) or 0) if at else 0
    target = session.terrace.sessions.get(ident)
    elsewhere = 0  # the id in Redis of the feed of a client of another worker
    if ident and target is None:
        if session.redirect_found[0] != ident and session.terrace.siblings:
            session.terrace.run_task(session, _find(session, ident, request))
            return
        elsewhere = session.redirect_found[1] if session.redirect_found[0] == ident else 0
        if not elsewhere:
            session.redirect_found = (0, 0)
            session.reply(_NO_TARGET)
            return
    if target is not None and target.invalidations is None and not attach_nowait(target):
        session.terrace.run_task(session, _attach(session, target, request))
        return
    private = acquire(session, request)
    if private is None:
        return
    if target is not None and target.invalidations is not None:
        elsewhere = target.invalidations.redis_id
    if elsewhere:
        session.redirect_found = (0, 0)
        packed = pack([*args[: at + 1], b"%d" % elsewhere, *args[at + 2 :]])
        request = (args, packed, 0, len(packed))
    private.forward(request, _TrackingSlot(session, args[2].upper() == b"ON", ident))
    session.block_idle()


async def _find(session: Session, ident: int, request: Request) -> None:
    """Find a client of another worker."""
    found = await session.terrace.siblings.ask("redirect", ident=ident)
    session.redirect_found = (ident, max(found, default=0))
    session.put_back(request)


async def _attach(session: Session, target: Session, request: Request) -> None:
    if await attach(target):
        session.put_back(request)
    else:
        session.reply(_NO_TARGET)


class _OwnIdSlot(Slot):
    """TRACKINGINFO or GETREDIR: replaces the id in the reply by Terrace's id."""

    __slots__ = ()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.finish(with_own_id(self.session, reply))


def ask(session: Session, request: Request) -> None:
    """Send it on the client's private connection, which is leased if necessary."""
    private = acquire(session, request)
    if private is not None:
        private.forward(request, _OwnIdSlot(session))
        session.block_idle()
