"""Dispatches a request: classifies and checks it, and runs it now, upstream, or later.

All code here is synchronous; handlers that await start a task with `Terrace.run_task`,
which blocks the session meanwhile. There is one function per kind of command
(`commands.Kind`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tiers.proxy_door import OWN_KEYS, TOO_LARGE, Fill, Via, read_variant, with_pttl
from tiers.wire.resp import Request, array

from . import errors
from .client.slots import Slot, WriteSlot
from .commands.command import HTTP_WORDS, UNKNOWN, Command, Kind
from .commands.facts import NAME_MAX_BYTES
from .flow import store_writes, tracked_reads
from .flow.guarded import Guarded, looked_at, viewed
from .flow.load_first import load_first, refuse
from .flow.mget import MGET_FILL_MAX, MgetSlot
from .flow.reads import ReadSlot
from .flow.routing import barrier, route, rule_for, send, send_tombstones
from .handlers import HANDLERS
from .private.blocking import run_alone
from .private.dispatch import state_command, taken_over
from .private.large import isolate

if TYPE_CHECKING:
    from .client.session import Session

MGET_LOOK_MAX = 10_000  # keys of one MGET that are looked up in L1, in one turn of the loop


# twin: _pipe._try
def dispatch(session: Session, request: Request, now: float) -> None:
    """Run one command of a session, or block the session on it."""
    args = request[0]
    command = session.commands.find(args[0])
    name = command.name
    session.stats.commands[name] += 1
    session.last_command = name
    if command is UNKNOWN and len(args[0]) <= NAME_MAX_BYTES and args[0].upper() in HTTP_WORDS:
        # An HTTP request from a browser: Redis also closes such connections.
        session.terrace.log_protocol_error(session, "possible cross protocol scripting")
        session.forget_slots()
        session.close_after_output()
        return
    if not session.authenticated and not command.no_auth:
        session.reply(session.terrace.acl.refusal_before_login(session, command, args))
        return
    if not session.user.unrestricted:
        refusal = session.terrace.acl.refusal(session, command, args)
        if refusal is not None:
            refuse(session, refusal)
            return
    pause = session.terrace.pause
    if pause.mode and pause.holds(session, command, args):
        session.block_pause(request)
        return
    if command.may_write and _is_reserved(command, request):
        refuse(session, errors.RESERVED)
        return
    if not command.answered_here and isolate(session, request):
        return
    if session.private is not None and session.private.takes_over(command):
        taken_over(session, command, request, now)
        return
    _RUN[command.kind](session, command, request, now)


# twin: _pipe._is_reserved
def _is_reserved(command: Command, request: Request) -> bool:
    """Whether it may write Terrace's own keys in Redis: epochs, leases, marks."""
    args, buffer, start, end = request
    if buffer.find(OWN_KEYS, start, end) < 0:
        return False  # without a check of its keys
    return any(key.startswith(OWN_KEYS) for key in command.may_touch(args))


# Cached reads


# twin: _pipe._cached
def cached_read(session: Session, command: Command, request: Request, now: float) -> None:
    args, buffer, start, end = request
    count = len(args)
    if not command.accepts(count) or (command.max_args and count > command.max_args):
        plain_read(session, command, request, now)
        return
    if command.name == "MGET":
        mget(session, command, request, now)
        return
    key = args[1]
    if command.name == "GET":
        variant = session.get_variant
    else:
        variant = read_variant(session.proto, session.db, buffer[start:end])
    stack = session.stack
    l1 = stack.l1
    cached = False
    if l1 is not None:
        reply = l1.read(key, variant, now, session.proto, may_serve=session.is_plain)
        if reply is not None:
            session.stats.l1.hits += 1
            session.reply(reply)
            return
        cached = l1.namespaces.caches(key)
        session.stats.l1.misses += cached
    mapping = stack.mapping_of(key, session.db)
    if mapping is not None and session.private is not None and session.private.tracking:
        plain_read(session, command, request, now)
        return
    via = route(session, command, request, tracked=cached)
    if via is None:
        return
    rule = rule_for(session, command, via)
    fills = cached and via is stack.l2.tracked
    if fills or mapping is not None:
        slot = ReadSlot(session, rule, command, request, variant, mapping, now)
        session.add_slot(slot)
        if not via.ready:
            slot.degrade(via.reason)
            return
        if stack.l2.stalled and slot.serve_suspect():
            return
        slot.fill = Fill(l1 if fills else None, key, variant)
        via.read(with_pttl(key, buffer[start:end]), slot, session.db, 2)
        return
    plain = ReadSlot(session, rule, command, request, variant, None, now)
    session.add_slot(plain)
    if not via.ready:
        plain.degrade(via.reason)
    else:
        via.read(buffer[start:end], plain, session.db)


def mget(session: Session, command: Command, request: Request, now: float) -> None:
    args, buffer, start, end = request
    keys = args[1:]
    stack = session.stack
    if len(keys) > MGET_LOOK_MAX or tracked_reads.mapped_keys(session, command, request):
        plain_read(session, command, request, now)
        return
    l1 = stack.l1
    found: list[bytes | None] = [None] * len(keys)
    if l1 is not None:
        held = l1.read_all(
            keys, session.get_variant, now, session.proto,
            room_bytes=session.lane.output_max_bytes, may_serve=session.is_plain,
        )  # fmt: skip
        if held is None:
            session.reply(TOO_LARGE)
            return
        found = held
        elements = [reply for reply in found if reply is not None]
        if len(elements) == len(found):  # all of them or none
            session.stats.l1.hits += len(keys)
            session.reply(array(elements))
            return
        session.stats.l1.misses += len(found) - len(elements)
    via = route(session, command, request, tracked=True)
    if via is None:
        return
    slot = MgetSlot(session, rule_for(session, command, via), request)
    session.add_slot(slot)
    if not via.ready:
        slot.on_lost(via.reason, False)
        return
    fills = via is stack.l2.tracked and len(keys) <= MGET_FILL_MAX
    for position, key in enumerate(keys):
        fill = fills and found[position] is None and stack.namespaces.caches(key)
        if fill or stack.mapping_of(key, session.db) is not None:
            slot.asked.append((position, Fill(l1 if fill else None, key, slot.variant)))
            via.read(with_pttl(key), slot, session.db)
    via.read(buffer[start:end], slot, session.db)


# Commands that go to L2 unchanged


# twin: _pipe._read
def plain_read(session: Session, command: Command, request: Request, now: float) -> None:
    tracks = session.private is not None and session.private.tracking
    may_wait = command.is_blocking(request[0])
    if (tracks or may_wait) and load_first(session, command, request, views=True):
        return
    if may_wait:
        run_alone(session, command, request, now)
        return
    if not tracks and (keys := looked_at(session, command, request[0])):
        _run_guarded(session, command, request, keys, Slot)
        return
    via = route(session, command, request)
    if via is None:
        return
    rule = rule_for(session, command, via)
    tracked = tracked_reads.mapped_keys(session, command, request)
    if tracked:
        tracked_reads.send(session, command, request, rule, tracked, via)
        return
    slot = Slot(session, rule)
    session.add_slot(slot)
    send(session, via, request, slot)


# twin: _pipe._write
def write(session: Session, command: Command, request: Request, now: float) -> None:
    if _must_wait(session, request) or load_first(session, command, request):
        return
    keys = command.keys_of(request[0])
    if durable := session.stack.durable(keys, session.db):
        store_writes.write(session, command, request, keys, durable)
        return
    if session.db and store_writes.reaches_in(session, command, request[0]):
        session.reply(errors.STORE_FROM_AFAR)
        return
    if rows := viewed(session, command, request[0]):
        make = partial(WriteSlot, rule="", keys=keys)
        _run_guarded(session, command, request, rows, make)
        return
    via = route(session, command, request, tracked=True)
    if via is None:
        return
    slot = WriteSlot(session, rule_for(session, command, via), keys)
    session.add_slot(slot)
    if via.ready:
        send_tombstones(session, command, via, keys)
    send(session, via, request, slot)


def opaque(session: Session, command: Command, request: Request, now: float) -> None:
    if command.is_blocking(request[0]):
        private(session, command, request, now)
        return
    if _must_wait(session, request) or load_first(session, command, request):
        return
    keys = command.keys_of(request[0])
    if durable := session.stack.durable(command.may_touch(request[0]), session.db):
        store_writes.write(session, command, request, keys, durable)
        return
    if rows := viewed(session, command, request[0]):
        plain = session.stack.l2.plain[session.proto]
        make = partial(barrier, command=command, args=request[0], via=plain, keys=keys)
        _run_guarded(session, command, request, rows, make)
        return
    via = route(session, command, request)
    if via is not None:
        slot = barrier(session, command, request[0], via, keys)
        session.add_slot(slot)
        send(session, via, request, slot)


def _run_guarded(
    session: Session,
    command: Command,
    request: Request,
    rows: list[bytes],
    make_slot: Callable[[Session], Slot],
) -> None:
    """Run it with a check of the presence of these mapped keys, alone for this client.

    Not on a private connection, unless the client only has it for a large command: the
    transaction around the command would end a WATCH.
    """
    if session.in_flight:
        session.block_idle(request)
        return
    _, buffer, start, end = request
    slot = make_slot(session)
    session.add_slot(slot)
    session.block_idle()
    via: Via = session.stack.l2.plain[session.proto]
    if session.private is not None and session.private.is_for_size:
        via = session.private.upstream
    Guarded(
        session,
        via,
        [bytes(buffer[start:end])],
        rows,
        slot,
        removes=not command.reads,
        is_script=command.is_script,
    )


def flush(session: Session, command: Command, request: Request, now: float) -> None:
    if _must_wait(session, request):
        return
    via = route(session, command, request)
    if via is not None:
        slot = barrier(session, command, request[0], via, [], flushes=True)
        session.add_slot(slot)
        send(session, via, request, slot)


def _must_wait(session: Session, request: Request) -> bool:
    """Whether a write must wait for an earlier read of this client that loads from L3."""
    if session.mapped_in_flight:
        session.block_idle(request)
        return True
    return False


# Commands that Terrace handles itself


def local(session: Session, command: Command, request: Request, now: float) -> None:
    if not command.accepts(len(request[0])):
        session.reply(errors.wrong_arity(command.name))
        return
    if HANDLERS[command.name](session, command, request):
        opaque(session, command, request, now)


def own(session: Session, command: Command, request: Request, now: float) -> None:
    if not command.accepts(len(request[0])):
        session.reply(errors.wrong_arity(command.name))
        return
    if session.in_flight:
        session.block_idle(request)
        return
    HANDLERS[command.name](session, command, request)


def private(session: Session, command: Command, request: Request, now: float) -> None:
    args = request[0]
    if not command.reads_only and session.stack.durable(command.may_touch(args), session.db):
        session.reply(errors.not_storable(args))
        return
    if load_first(session, command, request, views=True):
        return
    run_alone(session, command, request, now)


def refused(session: Session, command: Command, request: Request, now: float) -> None:
    session.reply(errors.REPLICATION_REFUSED)


_RUN: dict[Kind, Callable[[Session, Command, Request, float], None]] = {
    Kind.CACHED: cached_read,
    Kind.READ: plain_read,
    Kind.WRITE: write,
    Kind.OPAQUE: opaque,
    Kind.FLUSH: flush,
    Kind.PRIVATE: private,
    Kind.STATE: state_command,
    Kind.LOCAL: local,
    Kind.OWN: own,
    Kind.REFUSED: refused,
}
