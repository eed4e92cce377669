"""One client's private connection: its requests, its replies and pushes, and its end.

The table in `states` has the reasons for which a client has it, and their consequences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tiers.proxy_door import ANY_DB, DISCARD, Upstream
from tiers.wire.resp import Request, bulk, integer, pack, push

from ..client.slots import Slot
from . import states
from .monitoring import is_line
from .pubsub import CONFIRMATIONS, Subscriptions, SubscriptionSlot
from .states import Event, State
from .transactions import Transaction, abort, end_aborted

if TYPE_CHECKING:
    from ..client.session import Session
    from ..commands.command import Command

_FRAME_KIND = re.compile(rb"[>*]\d+\r\n\$\d+\r\n([a-z-]+)\r\n")
_MESSAGES = frozenset((b"message", b"pmessage", b"smessage", b"invalidate"))
_PROTOCOL_ERROR = b"-ERR Protocol error: "


class PrivateConnection:
    """A session's private connection, in the states of the table."""

    def __init__(self, session: Session, upstream: Upstream) -> None:
        self.session = session
        self.upstream = upstream
        upstream.pipe.tap = self._tap
        upstream.on_owner_lost = self._on_lost
        self.states = 0
        self.opened_for: Request | None = None  # PENDING: the command that has not started
        self.transaction = Transaction()
        self.refusal = b""  # why a transaction got no connection; b"" if it was lost later
        self.subscribed_to = Subscriptions()
        self.redirect_to = 0  # Terrace's id of the client that gets the invalidations

    def __repr__(self) -> str:
        return f"<PrivateConnection {' '.join(states.names_of(self.states)) or 'leased'}>"

    # States

    def move(self, event: Event) -> None:
        self.states = states.after(self.states, event)
        if self.session.private is self:
            self._install_tap()

    @property
    def in_multi(self) -> bool:
        return bool(self.states & State.MULTI)

    @property
    def subscribed(self) -> bool:
        return bool(self.states & State.SUBSCRIBED)

    @property
    def monitoring(self) -> bool:
        return bool(self.states & State.MONITORING)

    @property
    def tracking(self) -> bool:
        return bool(self.states & State.TRACKING)

    @property
    def lost(self) -> bool:
        return bool(self.states & State.LOST)

    @property
    def streams(self) -> bool:
        """Whether frames may come that are not replies."""
        return bool(self.states & states.STREAMS)

    @property
    def is_for_size(self) -> bool:
        """Whether no state needs it, only a command that is too large for a shared one."""
        return bool(self.states & State.LARGE) and not self.states & states.NEEDED

    @property
    def waits_for_others(self) -> bool:
        """Whether the client is blocked in Redis: the reply may never come."""
        return bool(self.states & states.WAITS) and self.blocking_id is not None

    @property
    def blocking_id(self) -> int | None:
        """For CLIENT UNBLOCK: the id of this connection in Redis, if it is blocked there."""
        return self.upstream.client_id if self.states & State.ALONE and self._owes else None

    @property
    def _owes(self) -> int:
        """The number of outstanding replies."""
        return len(self.upstream.pipe)

    def takes_over(self, command: Command) -> bool:
        """Whether special rules apply to a command in these states."""
        return bool(self.states & states.TAKES_OVER[self.upstream.proto]) and not command.leaves

    # Queries of other parts of the proxy

    @property
    def subscriptions(self) -> Mapping[str, set[bytes]]:
        """Names by kind: "channels", "patterns", "shards"."""
        return self.subscribed_to.names

    @property
    def queued(self) -> int:
        """The number of queued commands; -1 outside a transaction."""
        return self.transaction.queued if self.in_multi else -1

    @property
    def is_held_by_pause(self) -> bool:
        """Whether CLIENT PAUSE WRITE holds its EXEC."""
        return self.in_multi and self.transaction.is_held_by_pause

    @property
    def kept_bytes(self) -> int:
        """The bytes that Terrace keeps for these states."""
        return self.subscribed_to.names_bytes + self.transaction.kept_bytes

    def abort_transaction(self) -> None:
        """Discard the queued commands; EXEC then fails."""
        self.transaction.aborted = True

    def refuse(self, reply: bytes) -> None:
        """Answer a command inside MULTI that does not run."""
        if self.session.last_command == "EXEC":
            end_aborted(self, reply)
            self.session.block_idle()
        else:
            abort(self, reply)

    def track(self, on: bool, redirect_to: int) -> None:
        """Redis confirmed CLIENT TRACKING."""
        self.move(Event.TRACKING_ON if on else Event.TRACKING_OFF)
        self.redirect_to = redirect_to if on else 0

    def switch(self, proto: int) -> None:
        """HELLO: switch the client to this protocol."""
        if self.upstream.proto != proto:
            self.upstream.send(pack([b"HELLO", b"%d" % proto]), DISCARD, ANY_DB)
            self.upstream.proto = proto
            self._install_tap()

    def begin_transaction(self) -> None:
        self.move(Event.MULTI)
        self.transaction = Transaction()

    def forward(
        self, request: Request, slot: Slot, replies: int = 1, db: int | None = None
    ) -> None:
        _, buffer, start, end = request
        self.session.add_slot(slot)
        db = self.session.db if db is None else db
        self.upstream.send(buffer[start:end], slot, db, replies)

    # Ending

    def maybe_release(self) -> None:
        """Give the connection back if no state needs it; called when no request is in flight."""
        session = self.session
        if self.states & State.ALONE:
            self.move(Event.ANSWERED)
        if self.opened_for is not None and not self._is_to_come(self.opened_for):
            self.opened_for = None
            self.move(Event.CAME_ON)
        if self.states & (states.KEEPS_LOST if self.lost else states.KEEPS):
            return
        session.watch_failed = session.watch_failed or bool(self.states & State.WATCHING)
        self.abandon()

    def _is_to_come(self, request: Request) -> bool:
        return bool(self.session.backlog) and self.session.backlog[0] is request

    def abandon(self) -> None:
        """The client left or sent RESET: keep a clean connection, close any other."""
        pool = self.session.stack.l2.private
        self.session.private = self.session.via = None
        if self.states & states.SPOILS or self._owes:
            pool.discard(self.upstream)
        else:
            pool.give_back(self.upstream)

    def _on_lost(self, reason: str) -> None:
        self.move(Event.LOST)
        if self.streams or self.session.config.l2.on_error == "disconnect":
            # Messages or a state are lost: close the client, as when Redis goes down.
            self.session.on_close_request(f"its private connection to L2 was lost: {reason}")
        self.session.wake()

    # Frames that are not replies

    @property
    def _hears_all(self) -> bool:
        return bool(self.states & states.HEARS_ALL[self.upstream.proto])

    def _install_tap(self) -> None:
        self.upstream.pipe.tap_all = self._hears_all or bool(self.states & State.LARGE)

    def _tap(self, frame: bytes) -> bool:
        """Whether a frame is not a reply; if so, it is forwarded here."""
        if self.states & State.LARGE and frame.startswith(_PROTOCOL_ERROR):
            self._on_protocol_error(frame)
            return True
        if not (frame.startswith(b">") or self._hears_all):
            return False
        match = _FRAME_KIND.match(frame)
        kind = match[1] if match is not None else b""
        if kind in CONFIRMATIONS:
            waiter = self.upstream.pipe.next_waiter
            out_of_band = waiter is None or (
                frame.startswith(b">") and not isinstance(waiter, SubscriptionSlot)
            )
            if out_of_band:  # Redis itself ended it (the slot of a shard channel moved away)
                self.note_confirmation(frame)
        else:
            out_of_band = frame.startswith(b">") or kind in _MESSAGES
        if self.monitoring and not out_of_band:
            out_of_band = is_line(frame)
        if out_of_band:
            # After the earlier reply, which may be held back (a barrier).
            self.session.push_before(
                self.upstream.pipe.next_waiter, self._with_own_ids(kind, frame)
            )
        return out_of_band

    def note_confirmation(self, frame: bytes) -> None:
        """Record a confirmation; only those of Redis count as subscriptions."""
        self.subscribed_to.note(frame)
        if bool(self.subscribed_to) != self.subscribed:
            self.move(Event.JOINED if self.subscribed_to else Event.LEFT)

    def _with_own_ids(self, kind: bytes, frame: bytes) -> bytes:
        """Replace Redis' ids by Terrace's, which clients use."""
        if kind == b"tracking-redir-broken" and self.redirect_to:
            return push([bulk(kind), integer(self.redirect_to)], 3)
        return frame

    def _on_protocol_error(self, frame: bytes) -> None:
        """Redis closes the connection; Terrace closes the client's, as Redis would."""
        session = self.session
        text = frame[len(_PROTOCOL_ERROR) : -2].decode("latin-1")
        session.terrace.log_protocol_error(session, text)
        session.terrace.learn_limits()
        session.push(frame)
        session.forget_slots()
        session.close_after_output()
