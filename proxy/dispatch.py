"""From a request to its way: classify, check, and run it now, upstream, or later.

Everything here is synchronous; what has to await is started by the handlers through
`Terrace.run_task`, with the session blocked meanwhile. One function per kind of
command (`commands.Kind`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tiers import DISCARD, TOMBSTONE, KeptUpstream, Upstream, read_variant
from tiers.resp import NULL2, NULL3, Request, array, pack

from . import errors, pinning, store_writes, tracked_reads
from .commands import UNKNOWN, Command, Kind
from .handlers import LOCAL_HANDLERS, OWN_HANDLERS
from .reads import MGET_FILL_MAX, MgetSlot, ReadSlot, pttl
from .slots import BarrierSlot, Slot, WriteSlot
from .transactions import abort, end_aborted

if TYPE_CHECKING:
    from .session import Session

_BEFORE_AUTH = frozenset(("AUTH", "HELLO", "QUIT", "RESET"))
DELETES = frozenset(("DEL", "UNLINK", "GETDEL"))
_WRITES_NOTHING = frozenset(("WAIT", "READONLY", "READWRITE", "ASKING", "CLUSTER"))
_CROSS_PROTOCOL = frozenset((b"post", b"host:"))


def dispatch(session: Session, request: Request, now: float) -> None:
    """Run one command of a session, or block the session on it."""
    args = request[0]
    command = session.commands.find(args[0])
    name = command.name
    session.stats.commands[name] += 1
    session.last_command = name
    if command is UNKNOWN and args[0].lower() in _CROSS_PROTOCOL:
        # An HTTP request sent at us by a browser: Redis closes such connections, too.
        session.terrace.log_protocol_error(session, "possible cross protocol scripting")
        session.forget_slots()
        session.close_after_output()
        return
    if not session.authenticated and name not in _BEFORE_AUTH:
        session.reply(session.terrace.acl.refusal_before_login(command, args))
        return
    if not session.user.unrestricted:
        refusal = session.terrace.acl.refusal(session, args)
        if refusal is not None:
            _refuse(session, refusal)
            return
    pause = session.terrace.pause
    if pause.mode and pause.holds(session, name, args):
        session.block_pause(request)
        return
    if session.pin is not None and session.pin.takes_over(command):
        session.pin.dispatch(command, request, now)
        return
    _RUN[command.kind](session, command, request, now)


def route(
    session: Session, command: Command, request: Request, *, tracked: bool = False
) -> KeptUpstream | Upstream | None:
    """The connection for this command; None when the session was blocked until it is idle.

    `tracked` prefers the tracked connection (where L1 is live): its reply may have to
    be rewritten for RESP2 clients, which only `portable` commands allow.
    """
    if session.pin is not None:
        return session.pin.upstream
    portable = command.portable or command.kind is Kind.CACHED
    via = session.via
    if via is None or not session.in_flight:
        l2 = session.stack.l2
        via = l2.plain[session.proto]
        if tracked and portable and l2.tracked is not None and l2.tracked.ready:
            via = l2.tracked
        session.via = via
    elif via.proto != session.proto and (session.proto == 3 or not portable):
        session.block_idle(request)
        return None
    return via


def rule_for(session: Session, command: Command, via: KeptUpstream | Upstream) -> str:
    return command.resp2 if via.proto != session.proto else ""


# Cached reads


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
    space = stack.namespaces.find(key)
    cached = l1 is not None and (space is None or space.cached)
    if l1 is not None and cached:
        stack.l2.want_l1(now, space)
        if session.is_plain and l1.is_open(now, space):
            held_as = variant if space is None else space.variant(variant)
            reply = l1.arena.get(key, held_as, now)
            if reply is not None:
                if now >= l1.samples.due:
                    l1.samples.note(key, held_as, now)
                session.stats.l1.hits += 1
                if reply == NULL3 and session.proto == 2:
                    reply = NULL2
                session.reply(reply)
                return
        session.stats.l1.misses += 1
    mapping = stack.mapping_of(key, session.db)
    if mapping is not None and session.pin is not None and session.pin.tracking:
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
        if fills:
            slot.begin_fill()
        via.send(pttl(key, buffer[start:end]), slot, session.db, 2)
        return
    plain = ReadSlot(session, rule, command, request, variant, None, now)
    session.add_slot(plain)
    if not via.ready:
        plain.degrade(via.reason)
    else:
        plain.pttl_ms = -1  # not asked
        via.send(buffer[start:end], plain, session.db)


def mget(session: Session, command: Command, request: Request, now: float) -> None:
    args, buffer, start, end = request
    keys = args[1:]
    stack = session.stack
    if tracked_reads.mapped_keys(session, command, request):
        plain_read(session, command, request, now)
        return
    l1 = stack.l1
    found: list[bytes | None] = [None] * len(keys)
    if l1 is not None:
        hit = l1.hit if stack.namespaces else l1.arena.get
        stack.l2.want_l1(now)
        if session.can_hit(now):
            # All of them or none: entries that are valid together are one state of Redis.
            found = [hit(key, session.get_variant, now) for key in keys]
            if None not in found:
                session.stats.l1.hits += len(keys)
                elements = [reply for reply in found if reply is not None]
                if session.proto == 2:
                    elements = [NULL2 if e == NULL3 else e for e in elements]
                session.reply(array(elements))
                return
        session.stats.l1.misses += found.count(None)
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
        space = stack.namespaces.find(key)
        fill = fills and found[position] is None and (space is None or space.cached)
        if fill or stack.mapping_of(key, session.db) is not None:
            token = epoch = 0
            if fill and l1 is not None:
                token, epoch = l1.coherence.begin_fill(key), l1.arena.epoch
            slot.asked.append(position)
            slot.tokens.append((token, epoch))
            via.send(pttl(key), slot, session.db)
    via.send(buffer[start:end], slot, session.db)


# Everything that goes to L2 as it is


def load_first(session: Session, command: Command, request: Request) -> bool:
    """Whether the command had to be put off until its mapped keys are in L2."""
    stack = session.stack
    if stack.l3 is None or session.db or session.loaded_request is request:
        return False
    keys = command.keys_of(request[0])
    if command.overwrites_blindly(request[0]):
        in_multi = session.pin is not None and session.pin.in_multi
        if command.name not in DELETES and not in_multi:
            return False
        # Whether there is something to delete is in the store; and what a transaction
        # finds absent must be absent, whichever of its commands fail.
        keys = stack.durable(keys)
    if not any(stack.mapping_of(key) is not None for key in keys):
        return False
    if session.in_flight:
        session.block_idle(request)
    else:
        session.terrace.run_task(session, _load_then_run(session, keys, request))
    return True


async def _load_then_run(session: Session, keys: list[bytes], request: Request) -> None:
    stack, may_be_nil = session.stack, session.config.l3.on_error == "nil"
    if stack.store is not None and stack.durable(keys, session.db):
        may_be_nil = False  # what a command makes of an absence would be stored
        failure = await store_writes.look(session)
    else:
        failure = None
    failure = failure or await stack.ensure_loaded(keys, session.db)
    if failure is None or (failure.tier == "L3" and may_be_nil):
        session.loaded_request = request
        session.put_back(request)
        return
    # What was to be watched is not: EXEC must not succeed as if it were.
    session.watch_failed = session.watch_failed or session.last_command == "WATCH"
    if failure.tier == "L3":
        _refuse(session, errors.load_failed(failure.reason))
    else:
        _refuse(session, session.lost_write(failure.reason, False))


def _refuse(session: Session, reply: bytes) -> None:
    pin = session.pin
    if pin is None or not pin.in_multi:
        session.reply(reply)
    elif session.last_command == "EXEC":
        end_aborted(pin, reply)
        session.block_idle()
    else:
        abort(pin, reply)


def plain_read(session: Session, command: Command, request: Request, now: float) -> None:
    if command.is_blocking(request[0]):
        pinning.run_private(session, command, request, now)
        return
    if load_first(session, command, request):
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
    _send(session, via, request, slot)


def write(session: Session, command: Command, request: Request, now: float) -> None:
    if _must_wait(session, request) or load_first(session, command, request):
        return
    keys = command.keys_of(request[0])
    if durable := session.stack.durable(keys, session.db):
        store_writes.write(session, command, request, keys, durable)
        return
    via = route(session, command, request, tracked=True)
    if via is None:
        return
    l1 = session.stack.l1
    slot = WriteSlot(
        session, rule_for(session, command, via), keys, l1.coherence if l1 is not None else None
    )
    session.add_slot(slot)
    if via.ready:
        send_tombstones(session, command, via, keys)
    _send(session, via, request, slot)


def opaque(session: Session, command: Command, request: Request, now: float) -> None:
    if command.is_blocking(request[0]):
        pinning.run_private(session, command, request, now)
        return
    if _must_wait(session, request) or load_first(session, command, request):
        return
    keys = command.keys_of(request[0])
    if durable := session.stack.durable(keys, session.db):
        store_writes.write(session, command, request, keys, durable)
        return
    via = route(session, command, request)
    if via is not None:
        slot = barrier(session, command, via, keys)
        slot.strict_s = strict_s(session, command, request[0])
        session.add_slot(slot)
        _send(session, via, request, slot)


def flush(session: Session, command: Command, request: Request, now: float) -> None:
    if _must_wait(session, request):
        return
    via = route(session, command, request)
    if via is not None:
        slot = barrier(session, command, via, [], flushes=True)
        slot.strict_s = strict_s(session, command, request[0])
        session.add_slot(slot)
        _send(session, via, request, slot)


def barrier(
    session: Session,
    command: Command,
    via: KeptUpstream | Upstream,
    keys: list[bytes],
    *,
    flushes: bool = False,
) -> BarrierSlot:
    l1 = session.stack.l1
    return BarrierSlot(
        session,
        rule_for(session, command, via),
        keys,
        l1.coherence if l1 is not None else None,
        session.stack.l2.tracked,
        flushes=flushes,
    )


def strict_s(session: Session, command: Command, args: Sequence[bytes]) -> float:
    """The largest bound of strict keys that this may write; 0 for none."""
    namespaces = session.stack.namespaces
    if not namespaces.largest_strict_s or command.name in _WRITES_NOTHING:
        return 0.0
    keys = command.keys_of(args)
    return namespaces.strict_s(keys) if keys else namespaces.largest_strict_s


def _must_wait(session: Session, request: Request) -> bool:
    """A write must not overtake an earlier read of this client that is being loaded from L3."""
    if session.mapped_in_flight:
        session.block_idle(request)
        return True
    return False


def _send(session: Session, via: KeptUpstream | Upstream, request: Request, slot: Slot) -> None:
    if via.ready:
        _, buffer, start, end = request
        via.send(buffer[start:end], slot, session.db)
    else:
        slot.on_lost(via.reason, False)


def send_tombstones(
    session: Session, command: Command, via: KeptUpstream | Upstream, keys: list[bytes]
) -> None:
    """Before a DEL, on the same connection: keys that must not be loaded again."""
    if command.name not in DELETES or session.stack.l3 is None:
        return
    for key in keys:
        mapping = session.stack.mapping_of(key, session.db)
        if mapping is not None and mapping.tombstone_ttl_s is not None:
            ttl_ms = b"%d" % round(mapping.tombstone_ttl_s * 1000)
            via.send(pack([b"SET", TOMBSTONE + key, b"1", b"PX", ttl_ms]), DISCARD, session.db)


# What is handled here


def local(session: Session, command: Command, request: Request, now: float) -> None:
    if not command.accepts(len(request[0])):
        session.reply(errors.wrong_arity(command.name))
        return
    LOCAL_HANDLERS[command.name](session, command, request)


def own(session: Session, command: Command, request: Request, now: float) -> None:
    if not command.accepts(len(request[0])):
        session.reply(errors.wrong_arity(command.name))
        return
    if session.in_flight:
        session.block_idle(request)
        return
    OWN_HANDLERS[command.name](session, command, request)


def private(session: Session, command: Command, request: Request, now: float) -> None:
    if session.stack.durable(command.keys_of(request[0]), session.db):
        session.reply(errors.not_storable(command.name))
        return
    pinning.run_private(session, command, request, now)


def refused(session: Session, command: Command, request: Request, now: float) -> None:
    session.reply(errors.REPLICATION_REFUSED)


_RUN: dict[Kind, Callable[[Session, Command, Request, float], None]] = {
    Kind.CACHED: cached_read,
    Kind.READ: plain_read,
    Kind.WRITE: write,
    Kind.OPAQUE: opaque,
    Kind.FLUSH: flush,
    Kind.PRIVATE: private,
    Kind.PIN: pinning.dispatch_pin,
    Kind.LOCAL: local,
    Kind.OWN: own,
    Kind.REFUSED: refused,
}
