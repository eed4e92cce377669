"""States that need a private upstream connection: transactions, pub/sub, MONITOR, blocking.

A session holds at most one private. It is taken when the session is idle and given back
when no state needs it any more:

  state        begins with                    ends with
  in_multi     MULTI                          EXEC, DISCARD
  watching     WATCH                          EXEC, DISCARD, UNWATCH
  subscribed   (P|S)SUBSCRIBE                 the last (P|S)UNSUBSCRIBE
  monitoring   MONITOR                        RESET, disconnect
  tracking     CLIENT TRACKING ON             CLIENT TRACKING OFF
  (none)       a blocking or unknown command  its reply

Given back means RESET and reuse; a connection whose client went away while a reply was
owed, or that streams, is closed instead.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiers import NoPlace, ServerError, TierUnavailable, Upstream
from tiers.wire.resp import OK, Request, bulk, decode, error, integer, push

from .. import errors
from ..client.slots import Slot
from ..commands.access import InMulti
from ..commands.command import Command
from ..commands.table import SUBSCRIPTIONS
from .transactions import Transaction

if TYPE_CHECKING:
    from ..client.session import Session

_FRAME_KIND = re.compile(rb"[>*]\d+\r\n\$\d+\r\n([a-z-]+)\r\n")
_MESSAGES = frozenset((b"message", b"pmessage", b"smessage", b"invalidate"))
_CONFIRMATIONS = frozenset(name.lower().encode() for name in SUBSCRIPTIONS)
_PROTOCOL_ERROR = b"-ERR Protocol error: "
NAME_BYTES = 100  # of a name in a set, beside its letters
_MONITOR_LINE = re.compile(rb"\+\d+\.\d+ \[")


class PrivateConnection:
    """A session's private connection and why it has one."""

    def __init__(self, session: Session, upstream: Upstream) -> None:
        self.session = session
        self.upstream = upstream
        upstream.pipe.tap = self._tap
        upstream.on_owner_lost = self._on_lost
        self.lost = False
        self.refusal = b""  # why there was none for a transaction; else it was lost later
        self.in_multi = False
        self.watching = False
        self.monitoring = False
        self.tracking = False
        # Redis keeps what a connection has read until it is closed, RESET or not: who got it next
        # would hear of the keys of this one.
        self.has_tracked = False
        self.redirect_to = 0  # Terrace's id of the client that gets the invalidations
        self.waits_alone = False  # for a blocking (or unknown) command
        self.may_block = False  # that command is one that waits for other clients
        self.opened_for: Request | None = None  # has not run yet: it was put off meanwhile
        self.subscriptions: dict[str, set[bytes]] = {
            "channels": set(),
            "patterns": set(),
            "shards": set(),
        }
        self.carries_large = False  # a command that Redis may close it for
        self.names_bytes = 0  # of all subscriptions
        self.joining = 0  # subscriptions asked for and not yet confirmed
        self.transaction = Transaction()

    def __repr__(self) -> str:
        return (
            f"<PrivateConnection multi={self.in_multi} watch={self.watching} "
            f"subs={self.subscribed}>"
        )

    @property
    def subscribed(self) -> int:
        return sum(len(names) for names in self.subscriptions.values())

    @property
    def kept_bytes(self) -> int:
        """What Terrace keeps of this state, as long as it lasts."""
        return self.names_bytes + self.transaction.kept_bytes

    @property
    def blocking_id(self) -> int | None:
        """For CLIENT UNBLOCK: who waits in Redis on behalf of this client, if anybody."""
        return self.upstream.client_id if self.waits_alone and len(self.upstream.pipe) else None

    @property
    def streams(self) -> bool:
        """Frames may come that answer no request."""
        return bool(self.subscribed) or self.monitoring or self.tracking

    @property
    def is_for_size(self) -> bool:
        """No state needs it: only a command is too large for a shared one."""
        return self.carries_large and not (self.in_multi or self.watching or self.streams)

    @property
    def waits_for_others(self) -> bool:
        """Blocked in Redis: the reply may never come."""
        return self.may_block and self.blocking_id is not None

    def begin_transaction(self) -> None:
        self.in_multi = True
        self.transaction = Transaction()

    # Ending

    def maybe_release(self) -> None:
        """Give the connection back if no state needs it; called when nothing is in flight."""
        session = self.session
        if self.in_multi or ((self.watching or self.streams) and not self.lost):
            return
        if session.backlog and session.backlog[0] is self.opened_for:
            return
        session.watch_failed = session.watch_failed or self.watching
        self.abandon()

    def abandon(self) -> None:
        """The client is gone, or reset: a clean connection is kept, any other is closed."""
        pool = self.session.stack.l2.private
        self.session.private = self.session.via = None
        if self.streams or self.has_tracked or len(self.upstream.pipe):
            pool.discard(self.upstream)
        else:
            pool.give_back(self.upstream)

    def _on_lost(self, reason: str) -> None:
        self.lost = True
        if self.streams or self.session.config.l2.on_error == "disconnect":
            # Messages were missed, or a state is gone: told as when Redis itself goes.
            self.session.on_close_request(f"its private connection to L2 was lost: {reason}")
        self.session.wake()

    # Frames that answer nothing

    def _tap(self, frame: bytes) -> bool:
        """Whether a frame answers nothing; if so, it is passed on here."""
        if self.carries_large and frame.startswith(_PROTOCOL_ERROR):
            self._on_protocol_error(frame)
            return True
        if not (frame.startswith(b">") or self._hears_all):
            return False
        match = _FRAME_KIND.match(frame)
        kind = match[1] if match is not None else b""
        if kind in _CONFIRMATIONS:
            waiter = self.upstream.pipe.next_waiter
            out_of_band = waiter is None or (
                frame.startswith(b">") and not isinstance(waiter, PubSubSlot)
            )
            if out_of_band:  # Redis itself ended it (the slot of a shard channel moved away)
                self.note(frame)
        else:
            out_of_band = frame.startswith(b">") or kind in _MESSAGES
        if self.monitoring and not out_of_band:
            out_of_band = _MONITOR_LINE.match(frame) is not None
        if out_of_band:
            # Behind the reply that came before it, which may be held (a barrier).
            self.session.push_before(
                self.upstream.pipe.next_waiter, self._with_own_ids(kind, frame)
            )
        return out_of_band

    def _with_own_ids(self, kind: bytes, frame: bytes) -> bytes:
        """Clients know each other by Terrace's ids."""
        if kind == b"tracking-redir-broken" and self.redirect_to:
            return push([bulk(kind), integer(self.redirect_to)], 3)
        return frame

    def note(self, confirmation: bytes) -> None:
        """Redis says what is subscribed; only that is believed."""
        kind, channel = decode(confirmation)[:2]
        names = self.subscriptions[SUBSCRIPTIONS[kind.upper().decode()]]
        if channel is not None:
            before = len(names)
            (names.discard if b"unsub" in kind else names.add)(channel)
            self.names_bytes += (len(names) - before) * (len(channel) + NAME_BYTES)

    def _on_protocol_error(self, frame: bytes) -> None:
        """Redis closes the connection; so does Terrace that of the client, as Redis would."""
        session = self.session
        text = frame[len(_PROTOCOL_ERROR) : -2].decode("latin-1")
        session.terrace.log_protocol_error(session, text)
        session.terrace.learn_limits()
        session.push(frame)
        session.forget_slots()
        session.close_after_output()

    @property
    def _hears_all(self) -> bool:
        """RESP2 has no pushes: any frame may be one while subscribed or monitoring."""
        return self.monitoring or (
            self.upstream.proto == 2 and bool(self.subscribed or self.joining)
        )

    def tap_all(self) -> None:
        """What the connection carries has changed: whether every frame is looked at."""
        self.upstream.pipe.tap_all = self._hears_all or self.carries_large

    # Commands

    def takes_over(self, command: Command) -> bool:
        """Whether a command follows other rules than outside this state."""
        if command.leaves:
            return False
        subscribed = bool(self.subscribed or self.joining)
        return self.in_multi or self.lost or (self.upstream.proto == 2 and subscribed)

    def dispatch(self, command: Command, request: Request, now: float) -> None:
        session = self.session
        if self.lost:
            self._dispatch_lost(command)
        elif command.subscription or (self.in_multi and command.in_multi is InMulti.ENDS):
            from .state_commands import dispatch_state

            dispatch_state(session, command, request, now)
        elif self.in_multi:
            from .queueing import queue

            queue(self, command, request)
        else:
            self.forward(request, Slot(session))

    def forward(
        self, request: Request, slot: Slot, replies: int = 1, db: int | None = None
    ) -> None:
        _, buffer, start, end = request
        self.session.add_slot(slot)
        db = self.session.db if db is None else db
        self.upstream.send(buffer[start:end], slot, db, replies)

    def _dispatch_lost(self, command: Command) -> None:
        """The state is gone; the client has to hear of it at the command that ends it."""
        session = self.session
        if command.in_multi is InMulti.ENDS or (command.name == "UNWATCH" and not self.in_multi):
            self.in_multi = self.watching = False
            self.maybe_release()
            aborted = errors.exec_refused(self.refusal) if self.refusal else errors.EXEC_LOST
            session.reply(aborted if command.name == "EXEC" else OK)
        elif command.name == "MULTI" and not self.in_multi:
            self.in_multi = True  # doomed, as in `doom`: what is pipelined behind it must not run
            session.reply(OK)
        else:
            session.reply(self.refusal or errors.PRIVATE_LOST)


class PubSubSlot(Slot):
    """(P|S)(UN)SUBSCRIBE: one confirmation per channel, all before the next reply."""

    __slots__ = ("expected", "frames", "private")

    def __init__(self, private: PrivateConnection, expected: int) -> None:
        super().__init__(private.session)
        self.private = private
        self.expected = expected
        self.frames: list[bytes] = []
        private.joining += 1
        private.tap_all()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.frames.append(reply)
        if reply[:1] == b"-":
            self.private.upstream.pipe.forgo(self)
        else:
            self.private.note(reply)
            if len(self.frames) < self.expected:
                return
        self.finish(b"".join(self.frames))

    def on_lost(self, reason: str, sent: bool) -> None:
        if self.reply is None:
            super().on_lost(reason, sent)

    def finish(self, reply: bytes) -> None:
        self.private.joining -= 1
        self.private.tap_all()
        super().finish(reply)


class MonitorSlot(Slot):
    """+OK, after which every frame is a line of the stream."""

    __slots__ = ("private",)

    def __init__(self, private: PrivateConnection) -> None:
        super().__init__(private.session)
        self.private = private

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.private.monitoring = reply == OK
        self.private.tap_all()
        self.finish(reply)


def acquire(session: Session, request: Request, db: int | None = None) -> PrivateConnection | None:
    """The session's private connection, in its database or `db`.

    None when the session was blocked until it has one.
    """
    if session.private is not None:
        return session.private
    if session.in_flight:
        session.block_idle(request)
        return None
    db = session.db if db is None else db
    upstream = session.stack.l2.private.lease_nowait(session.proto, db)
    if upstream is None:
        session.terrace.run_task(session, _connect(session, request, db))
        return None
    session.private = PrivateConnection(session, upstream)
    return session.private


async def _connect(session: Session, request: Request, db: int) -> None:
    pool = session.stack.l2.private
    session.queued = True
    session.wake()  # it may have ended its input before
    try:
        upstream = await pool.turn(session.proto, db)
        session.queued = False
        upstream = await pool.open(upstream, session.proto, db)
    except (TierUnavailable, ServerError) as failure:
        session.queued = False
        if isinstance(failure, ServerError):  # Redis refuses the database
            reply = error(str(failure))
        else:
            reply = errors.tier_failed(failure)
            if not isinstance(failure, NoPlace):
                session.l2_failed(reply)
        name = request[0][0].upper()
        if name == b"MULTI":
            doom(session, reply)
            return
        session.watch_failed = session.watch_failed or name == b"WATCH"
        session.reply(reply)
        return
    session.private = PrivateConnection(session, upstream)
    session.private.opened_for = request
    session.put_back(request)


def doom(session: Session, refusal: bytes = b"") -> None:
    """A transaction that cannot be: +OK as always, then errors, then EXECABORT.

    The errors are `refusal`, as Redis' own would be, or say that a connection was lost.

    An error for MULTI itself would let the commands pipelined behind it run one by one.
    """
    if session.private is not None:
        if session.private.streams:
            session.on_close_request("its transaction cannot be kept apart from its stream")
            return
        session.private.abandon()
    session.private = PrivateConnection(session, Upstream(session.clock))
    session.private.lost = session.private.in_multi = True
    session.private.refusal = refusal
    session.watch_failed = False
    session.reply(OK)
