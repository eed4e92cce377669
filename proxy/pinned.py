"""States that need a private upstream connection: transactions, pub/sub, MONITOR, blocking.

A session holds at most one pin. It is taken when the session is idle and given back
when no state needs it any more:

  state        begins with                    ends with
  in_multi     MULTI                          EXEC, DISCARD
  watching     WATCH                          EXEC, DISCARD, UNWATCH
  subscribed   (P|S)SUBSCRIBE                 the last (P|S)UNSUBSCRIBE
  monitoring   MONITOR                        RESET, disconnect
  tracking     CLIENT TRACKING ON             CLIENT TRACKING OFF
  (none)       a blocking or unknown command  its reply

Given back means RESET and reuse; a pin whose client went away while a reply was
owed, or that streams, is closed instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiers import DISCARD, TierUnavailable, Upstream
from tiers.resp import OK, Request, bulk, error, integer, null, pack, push

from . import errors
from .commands import Command, Kind
from .slots import BarrierSlot, Slot

if TYPE_CHECKING:
    from .session import Session

_FRAME_KIND = re.compile(rb"[>*]\d+\r\n\$\d+\r\n([a-z-]+)\r\n")
_OUT_OF_BAND = frozenset((b"message", b"pmessage", b"smessage", b"invalidate"))
_SUBSCRIPTIONS = {
    "SUBSCRIBE": "channels", "UNSUBSCRIBE": "channels",
    "PSUBSCRIBE": "patterns", "PUNSUBSCRIBE": "patterns",
    "SSUBSCRIBE": "shards", "SUNSUBSCRIBE": "shards",
}  # fmt: skip
_IN_MULTI = frozenset(("EXEC", "DISCARD", "UNWATCH", "MONITOR"))  # not merely queued there
_ALWAYS_LOCAL = frozenset(("QUIT", "RESET"))
_PING = pack([b"PING"])


class Pinned:
    """A session's private connection and why it has one."""

    def __init__(self, session: Session, upstream: Upstream) -> None:
        self.session = session
        self.upstream = upstream
        upstream.pipe.tap = self._tap
        upstream.on_owner_lost = self._on_lost
        self.lost = False
        self.in_multi = False
        self.watching = False
        self.monitoring = False
        self.tracking = False
        self.waits_alone = False  # for a blocking (or unknown) command
        self.opened_for: Request | None = None  # has not run yet: it was put off meanwhile
        self.subscriptions: dict[str, set[bytes]] = {
            "channels": set(),
            "patterns": set(),
            "shards": set(),
        }
        self.begin_transaction()
        self.in_multi = False

    def __repr__(self) -> str:
        return f"<Pinned multi={self.in_multi} watch={self.watching} subs={self.subscribed}>"

    @property
    def subscribed(self) -> int:
        return sum(len(names) for names in self.subscriptions.values())

    @property
    def blocking_id(self) -> int | None:
        """For CLIENT UNBLOCK: who waits in Redis on behalf of this client, if anybody."""
        return self.upstream.client_id if self.waits_alone and len(self.upstream.pipe) else None

    @property
    def streams(self) -> bool:
        """Frames may come that answer no request."""
        return bool(self.subscribed) or self.monitoring or self.tracking

    @property
    def waits_for_others(self) -> bool:
        """Subscribed, monitoring, or blocked in Redis: the next frame may never come."""
        return self.streams or self.blocking_id is not None

    def begin_transaction(self) -> None:
        self.in_multi = True
        self.keys: list[bytes] = []
        self.opaque = False
        self.flushes = False
        self.selected: int | None = None

    # Ending

    def maybe_release(self) -> None:
        """Give the connection back if no state needs it; called when nothing is in flight."""
        if self.in_multi or self.watching or self.streams:
            return
        session = self.session
        if session.backlog and session.backlog[0] is self.opened_for:
            return
        session.pin = session.via = None
        session.stack.l2.pins.give_back(self.upstream)

    def abandon(self) -> None:
        """The client is gone, or reset: a clean connection is kept, any other is closed."""
        pins = self.session.stack.l2.pins
        self.session.pin = self.session.via = None
        if self.streams or len(self.upstream.pipe):
            pins.discard(self.upstream)
        else:
            pins.give_back(self.upstream)

    def _on_lost(self, reason: str) -> None:
        self.lost = True
        if self.streams:  # messages were missed: as when Redis itself goes, the client is told
            self.session.on_close_request(f"its private connection to L2 was lost: {reason}")
        self.session.wake()

    # Frames that answer nothing

    def _tap(self, frame: bytes) -> bool:
        if not self.monitoring:
            kind = _FRAME_KIND.match(frame)
            if kind is None or kind[1] not in _OUT_OF_BAND:
                return False
        self.session.push(frame)
        return True

    def tap_all(self) -> None:
        """RESP2 has no pushes: look at every frame while subscribed or monitoring."""
        self.upstream.pipe.tap_all = self.monitoring or (
            self.upstream.proto == 2 and bool(self.subscribed)
        )

    # Commands

    def takes_over(self, command: Command) -> bool:
        """Whether a command follows other rules than outside this state."""
        if command.name in _ALWAYS_LOCAL:
            return False
        return self.in_multi or self.lost or (self.upstream.proto == 2 and bool(self.subscribed))

    def dispatch(self, command: Command, request: Request, now: float) -> None:
        session = self.session
        if self.lost:
            self._dispatch_lost(command)
        elif command.name in _SUBSCRIPTIONS or (self.in_multi and command.name in _IN_MULTI):
            dispatch_pin(session, command, request, now)
        elif self.in_multi:
            self._queue(command, request)
        else:
            self.forward(request, Slot(session))

    def forward(self, request: Request, slot: Slot, replies: int = 1) -> None:
        _, buffer, start, end = request
        self.session.add_slot(slot)
        self.upstream.send(buffer[start:end], slot, self.session.db, replies)

    def _dispatch_lost(self, command: Command) -> None:
        session = self.session
        if command.name in ("EXEC", "DISCARD", "UNWATCH"):
            was_multi, self.in_multi, self.watching = self.in_multi, False, False
            self.maybe_release()
            gone = command.name == "EXEC" and was_multi
            session.reply(errors.EXEC_LOST if gone else OK)
        else:
            session.reply(errors.PIN_LOST)

    def _queue(self, command: Command, request: Request) -> None:
        """A command inside MULTI: Redis queues or refuses it; we note what it may write."""
        from .dispatch import load_first

        if load_first(self.session, command, request):
            return
        args = request[0]
        if command.kind is Kind.WRITE:
            self.keys += command.keys_of(args)
        elif command.kind is Kind.FLUSH:
            self.flushes = True
        elif command.name == "SELECT" and len(args) == 2 and args[1].isdigit():
            self.selected = int(args[1])
        elif command.kind is not Kind.CACHED and command.kind is not Kind.READ:
            self.opaque = True
        self.forward(request, Slot(self.session))


class ExecSlot(BarrierSlot):
    """EXEC: a write of every key the transaction may have written."""

    __slots__ = ("pin",)

    def __init__(self, pin: Pinned) -> None:
        session = pin.session
        l1 = session.stack.l1
        super().__init__(
            session,
            "",
            pin.keys,
            l1.coherence if l1 is not None else None,
            session.stack.l2.tracked if pin.opaque or pin.flushes else None,
            flushes=pin.flushes,
        )
        self.pin = pin

    def finish(self, reply: bytes) -> None:
        pin = self.pin
        pin.in_multi = pin.watching = False
        if pin.selected is not None and reply[:1] == b"*" and reply != b"*-1\r\n":
            self.session.set_db(pin.selected)
            pin.upstream.pipe.db = pin.selected
        super().finish(reply)


class PubSubSlot(Slot):
    """(P|S)(UN)SUBSCRIBE: one confirmation per channel, all before the next reply."""

    __slots__ = ("expected", "frames", "pin")

    def __init__(self, pin: Pinned, expected: int) -> None:
        super().__init__(pin.session)
        self.pin = pin
        self.expected = expected
        self.frames: list[bytes] = []

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.frames.append(reply)
        if reply[:1] == b"-":
            self.pin.upstream.pipe.forgo(self)
        elif len(self.frames) < self.expected:
            return
        self.pin.tap_all()
        self.finish(b"".join(self.frames))

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None:
            super().on_lost(reason, sent)


class MonitorSlot(Slot):
    """+OK, after which every frame is a line of the stream."""

    __slots__ = ("pin",)

    def __init__(self, pin: Pinned) -> None:
        super().__init__(pin.session)
        self.pin = pin

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.pin.monitoring = reply == OK
        self.pin.tap_all()
        self.finish(reply)


def acquire(session: Session, request: Request) -> Pinned | None:
    """The session's pin; None when the session was blocked until it has one."""
    if session.pin is not None:
        return session.pin
    if session.in_flight:
        session.block_idle(request)
        return None
    upstream = session.stack.l2.pins.lease_nowait(session.proto)
    if upstream is None:
        session.terrace.run_task(session, _connect(session, request))
        return None
    session.pin = Pinned(session, upstream)
    return session.pin


async def _connect(session: Session, request: Request) -> None:
    try:
        upstream = await session.stack.l2.pins.connect(session.proto)
    except TierUnavailable as failure:
        session.reply(errors.tier_failed(failure))
        return
    session.pin = Pinned(session, upstream)
    session.pin.opened_for = request
    session.backlog.appendleft(request)


def run_private(session: Session, command: Command, request: Request, now: float) -> None:
    """One command alone on a private connection; the session waits for its reply."""
    from .dispatch import barrier

    pin = acquire(session, request)
    if pin is None:
        return
    if command.name == "WAIT":
        # WAIT counts from the last command of its own connection; a PING now covers
        # every write that this client was acknowledged before.
        pin.upstream.send(_PING, DISCARD, session.db)
    pin.waits_alone = True
    pin.forward(request, barrier(session, command, pin.upstream, []))
    if pin.upstream.ready:
        session.block_idle()


def dispatch_pin(session: Session, command: Command, request: Request, now: float) -> None:
    """MULTI, EXEC, WATCH, SUBSCRIBE, MONITOR and their likes."""
    name, pin = command.name, session.pin
    in_multi = pin is not None and pin.in_multi
    if not command.accepts(len(request[0])):
        if pin is not None and in_multi:
            # Redis has to see it, too: such a mistake ends its transaction.
            pin.forward(request, ExecSlot(pin) if name == "EXEC" else Slot(session))
            session.block_idle()
        else:
            session.reply(errors.EXEC_ARITY if name == "EXEC" else errors.wrong_arity(name))
        return
    if name in _SUBSCRIPTIONS:
        _subscribe(session, name, request)
    elif name in ("EXEC", "DISCARD"):
        if pin is None or not in_multi:
            session.reply(error(f"ERR {name} without MULTI"))
            return
        if name == "EXEC":
            pin.forward(request, ExecSlot(pin))
        else:
            pin.in_multi = pin.watching = False
            pin.forward(request, Slot(session))
        session.block_idle()
    elif name == "UNWATCH" and not in_multi:
        if pin is None:
            session.reply(OK)
            return
        pin.watching = False
        pin.forward(request, Slot(session))
        session.block_idle()
    else:
        _begin(session, command, request)


def _begin(session: Session, command: Command, request: Request) -> None:
    from .dispatch import load_first

    if command.name == "WATCH" and load_first(session, command, request):
        return  # a later fault-in would itself look like a change
    pin = acquire(session, request)
    if pin is None:
        return
    if command.name == "MONITOR":
        pin.forward(request, MonitorSlot(pin))
        return
    if command.name == "MULTI":
        if not pin.in_multi:
            pin.begin_transaction()
    elif command.name == "WATCH":
        pin.watching = True
    pin.forward(request, Slot(session))


def _subscribe(session: Session, name: str, request: Request) -> None:
    args = request[0]
    leaving = "UNSUB" in name
    if leaving and session.pin is None:
        frames = (
            push(
                [bulk(name.lower()), bulk(c) if c else null(session.proto), integer(0)],
                session.proto,
            )
            for c in (args[1:] or [b""])
        )
        session.reply(b"".join(frames))
        return
    pin = acquire(session, request)
    if pin is None:
        return
    if pin.in_multi:
        pin._queue(_QUEUED, request)
        return
    names = pin.subscriptions[_SUBSCRIPTIONS[name]]
    expected = len(args) - 1 or max(1, len(names))
    if not leaving:
        names.update(args[1:])
        pin.tap_all()
    elif len(args) > 1:
        names.difference_update(args[1:])
    else:
        names.clear()
    pin.forward(request, PubSubSlot(pin, expected), expected)
    if leaving and not pin.subscribed:
        session.block_idle()  # what follows runs outside the subscribed state


_QUEUED = Command("(queued)", -1, Kind.PIN)
