"""Loads the rows of mapped keys into L2 before a command that needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import L2, L3
from tiers.wire.resp import Request

from .. import errors
from ..commands.command import Command
from . import store_writes

if TYPE_CHECKING:
    from tiers import Outcome

    from ..client.session import Session


def load_first(
    session: Session, command: Command, request: Request, *, views: bool = False
) -> bool:
    """Whether the command was postponed until its mapped keys are in L2.

    This loads keys of the store; keys of views only with `views`, or together with keys of the
    store. A command with only keys of views runs with a check of their presence (`guarded`).
    """
    stack = session.stack
    if stack.l3 is None or session.db or session.loaded_request is request:
        return False
    keys = list(command.may_touch(request[0]))
    durable = stack.durable(keys)
    if command.overwrites_blindly(request[0]):
        in_multi = session.private is not None and session.private.in_multi
        if not command.deletes and not in_multi:
            return False
        # Only the store knows whether there is a key to delete; and a key that a
        # transaction finds absent must be absent, even if some of its commands fail.
        keys = durable
    elif not durable and not views:
        return False
    if not any(stack.mapping_of(key) is not None for key in keys):
        return False
    if session.in_flight:
        session.block_idle(request)
    else:
        session.terrace.run_task(session, _load_then_run(session, keys, request))
    return True


async def _load_then_run(session: Session, keys: list[bytes], request: Request) -> None:
    stack, may_be_nil = session.stack, session.config.l3.on_error == "nil"
    if stack.store is not None and (durable := stack.durable(keys, session.db)):
        may_be_nil = False  # the command would store a result of the absence
        failure = await store_writes.look(session, durable)
    else:
        failure = None
    if failure is None:
        there, failure = await stack.bring(keys, session.db)
        session.seen = stack.durable(there, session.db)
    if failure is None or (failure.tier == L3 and may_be_nil):
        session.loaded_request = request
        session.put_back(request)
        return
    # The keys are not watched: EXEC must not succeed as if they were.
    session.watch_failed = session.watch_failed or session.last_command == "WATCH"
    refuse_unloaded(session, failure)


def refuse_unloaded(session: Session, failure: Outcome) -> None:
    """Reply with the error for a command whose rows could not be loaded."""
    if failure.tier == L2:
        refuse(session, session.lost_write(failure.reason, False))
    else:
        refuse(session, errors.load_failed(failure.reason))


def refuse(session: Session, reply: bytes) -> None:
    """Reply with the error for a command that does not run, also within a transaction."""
    private = session.private
    if private is None or not private.in_multi:
        session.reply(reply)
    else:
        private.refuse(reply)
