"""Runs commands whose size may make the server close the connection on a private one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import LARGE_COMMAND_BYTES
from tiers.wire.resp import Request

from .leasing import acquire
from .states import Event

if TYPE_CHECKING:
    from ..client.session import Session


def isolate(session: Session, request: Request) -> bool:
    """Whether a command must wait for a private connection because of its size.

    Without a free one, it may take a shared one if the server is known to accept it.
    """
    size = request[3] - request[2]
    if size <= LARGE_COMMAND_BYTES:
        return False
    l2 = session.stack.l2
    if session.private is None and l2.private.is_exhausted and l2.limits.surely_takes(size):
        return False
    private = acquire(session, request)
    if private is None:
        return True
    private.move(Event.GREW)
    return False
