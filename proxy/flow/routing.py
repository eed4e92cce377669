"""Chooses the connection of a command, and adds barriers, tombstones and waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiers.proxy_door import DISCARD, TOMBSTONE, Via
from tiers.wire.resp import Request, pack

from ..client.slots import BarrierSlot, Slot
from ..commands.command import Command, Kind

if TYPE_CHECKING:
    from ..client.session import Session


# twin: _pipe._route
def route(
    session: Session, command: Command, request: Request, *, tracked: bool = False
) -> Via | None:
    """The connection for this command; None if the session was blocked until it is idle.

    `tracked` prefers the tracked connection (if L1 is live): its reply may have to be
    rewritten for RESP2 clients, which only `portable` commands allow.
    """
    if session.private is not None:
        return session.private.upstream
    portable = command.portable or command.kind is Kind.CACHED
    l2, via = session.stack.l2, session.via
    # Its database changes only between reads: a write must not depend on a SELECT.
    roams = tracked and command.kind is Kind.CACHED
    if via is None or not session.in_flight:
        via = fresh(session, command)
        if (
            tracked and portable and l2.tracked is not None and l2.tracked.ready
            and (roams or l2.tracked.fits(session.db))
        ):  # fmt: skip
            via = l2.tracked
        session.via = via
    elif (
        (via.proto != session.proto and (session.proto == 3 or not portable))
        or not (roams or via.fits(session.db))
        or (command.scripts and not via.for_scripts)
    ):
        session.block_idle(request)
        return None
    return via


def fresh(session: Session, command: Command) -> Via:
    """The connection for a command without predecessors; none that waits for a script."""
    l2 = session.stack.l2
    return (l2.scripts if command.scripts else l2).at(session.db, session.proto)


def rule_for(session: Session, command: Command, via: Via) -> str:
    return command.resp2 if via.proto != session.proto else ""


# twin: _pipe._send
def send(session: Session, via: Via, request: Request, slot: Slot) -> None:
    if via.ready:
        _, buffer, start, end = request
        via.send(buffer[start:end], slot, session.db)
    else:
        slot.on_lost(via.reason, False)


def barrier(
    session: Session,
    command: Command,
    args: Sequence[bytes],
    via: Via,
    keys: list[bytes],
    *,
    flushes: bool = False,
) -> BarrierSlot:
    """The slot of a command that may write any key; `keys` are those that are known."""
    slot = BarrierSlot(session, rule_for(session, command, via), keys, flushes=flushes)
    slot.strict_s = strict_s(session, command, args)
    return slot


def strict_s(session: Session, command: Command, args: Sequence[bytes]) -> float:
    """The largest bound of the strict keys that this command may write; 0: no strict keys."""
    namespaces = session.stack.namespaces
    if not namespaces.largest_strict_s or command.keyless:
        return 0.0
    keys = command.keys_of(args)
    return namespaces.strict_s(keys) if keys else namespaces.largest_strict_s


def send_tombstones(session: Session, command: Command, via: Via, keys: list[bytes]) -> None:
    """Send tombstones before a DEL, on the same connection: no process loads these keys again."""
    if not command.deletes or session.stack.l3 is None:
        return
    for key in keys:
        mapping = session.stack.mapping_of(key, session.db)
        if mapping is not None and mapping.tombstone_ttl_s is not None:
            ttl_ms = b"%d" % round(mapping.tombstone_ttl_s * 1000)
            via.send(pack([b"SET", TOMBSTONE + key, b"1", b"PX", ttl_ms]), DISCARD, session.db)
