"""SCRIPT and FUNCTION: forwards all but those that block, or need a separate connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import ANY_DB
from tiers.wire.resp import Request, error

from ..commands.command import Command
from ..private.blocking import run_alone

if TYPE_CHECKING:
    from ..client.session import Session

_DEBUG_REFUSED = error(
    "ERR terrace: the script debugger needs its own connection; connect to Redis directly"
)


def script(session: Session, command: Command, request: Request) -> bool:
    """Whether to forward it to Redis, as an opaque write."""
    subcommand = request[0][1].upper()
    if command.name == "SCRIPT" and subcommand == b"DEBUG" and len(request[0]) == 3:
        session.reply(_DEBUG_REFUSED)
    elif subcommand == b"KILL":
        # After the script on a shared connection it would wait for the script that it should
        # end. And a busy server may refuse to select a database.
        run_alone(session, command, request, session.clock(), ANY_DB)
    else:
        return True
    return False
