"""The asyncio adapter of one client: bytes to the session, replies to the socket.

It has no policy about commands, but it enforces the memory limits of a client. Reading
pauses while too many of its requests wait. A client with too many unread bytes runs no more
commands until it has read (`Session.full`); its socket is still read meanwhile, as it may
write all its requests before it reads. These clients are dropped: one that reads nothing
for too long above the limit, one with far more unread bytes (a stream cannot be paused, nor
requests in flight), and the one with the most when all clients together have too many.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Protocol, cast

from tiers.proxy_door import set_keepalive

from ..addresses import address_text
from .pipe import FLOOD_FACTOR
from .session import Session

if TYPE_CHECKING:
    from .host import Host

log = logging.getLogger("terrace")

# Above it, and only if the kernel accepts no more, asyncio calls pause_writing.
WRITE_HIGH_WATER_BYTES = 64 * 1024
# While draining: the wait for a client without a command so far (it connected just before we
# stopped accepting), and for a busy client to become idle.
FRESH_S = 1.0
RESTS_S = 0.1


class Receiver(Protocol):
    def __call__(self, data: bytes) -> None: ...


class Connection(asyncio.Protocol):
    """One client socket."""

    __slots__ = (
        "_counted_bytes", "_goes_on", "_input_ended", "_read_at", "_reading", "_stats", "_terrace",
        "_transport", "_unread_bytes", "_writable", "data_received", "limits", "session",
    )  # fmt: skip
    data_received: Receiver

    def __init__(self, terrace: Host) -> None:
        self._terrace = terrace
        self._stats = terrace.lane.stats
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._input_ended = False
        self._goes_on = False  # in the next turn
        self._counted_bytes = 0  # this client's unread bytes in the sum of all clients
        self._unread_bytes, self._read_at = 0, 0.0  # and when they last decreased
        self.limits = terrace.config.limits
        self.session: Session | None = None
        self.data_received = _ignore

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave as an asyncio.Transport, without being a subclass
        transport = cast(asyncio.Transport, transport)
        if self._terrace.closed:  # its TLS handshake took too long
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if keepalive_s := self._terrace.config.listen.tcp_keepalive_s:
                # No bound on unacknowledged data: a subscriber may be slow for some time.
                set_keepalive(sock, keepalive_s, user_timeout_ms=0)
        peer = address_text(transport.get_extra_info("peername"))
        reason = self._terrace.refusal_for(peer)
        if reason is not None:
            transport.write(self._terrace.refusals.client(reason, peer))
            transport.close()
            return
        session = self._terrace.open_session(
            peer, address_text(transport.get_extra_info("sockname"))
        )
        session.send = transport.write
        session.unsent_bytes = transport.get_write_buffer_size
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            session.fd = sock.fileno()  # valid until connection_lost was called
        session.wake = self._wake
        session.flush = self._flush
        session.on_bug = self._on_bug
        session.on_flood = self._on_flood
        session.on_close_request = self.abort
        self.session = session
        self._set_express()
        # The loop calls the (compiled) session directly: a frame of Python in between costs
        # 2 % of an unpipelined hit. Transports look the method up once, so set the protocol.
        self.data_received = session.receive
        transport.set_protocol(self)
        self._terrace.attach(self)

    def _set_express(self) -> None:
        """Set whether the session may send by itself: no flow control is active."""
        if self.session is not None:
            self.session.express = (
                self._reading
                and self._writable
                and not self._input_ended
                and self._transport is not None
            )

    def _wake(self) -> None:
        self._terrace.mark_dirty(self)

    def proceed(self) -> None:
        """After replies: continue with requests that waited for them, then send."""
        session = self.session
        if session is None:
            return
        try:
            session.proceed()
            self._flush()
        except Exception:
            self._on_bug()

    def _on_bug(self) -> None:
        """An error in one client's command closes only that client."""
        command = self.session.last_command if self.session is not None else ""
        log.exception("a command failed unexpectedly: %s", command)
        self.abort("internal error")

    def _flush(self) -> None:
        session, transport = self.session, self._transport
        if session is None or transport is None:
            return
        data = session.take_output()
        if data:
            self._stats.bytes_out += len(data)
            transport.write(data)
        session.unread_bytes = 0 if self._writable else transport.get_write_buffer_size()
        if session.owed_bytes > WRITE_HIGH_WATER_BYTES or not self._writable:
            self._bound_owed(session)
            if self._transport is None:
                return
        elif self._counted_bytes:
            self._forget_owed()
        if (session.closing and not session.slot_count) or (self._input_ended and session.is_done):
            transport.close()
            return
        if session.full and not session.is_full():
            session.unfinished = True
        if (session.rests or session.unfinished) and not self._goes_on:
            self._goes_on = session.rests = True
            self._terrace.in_next_turn(self._go_on)
        self._bound_input(session, transport)

    def _go_on(self) -> None:
        """Continue in the next turn, with the remaining commands or with reading."""
        session = self.session
        self._goes_on = False
        if session is None:
            return
        try:
            session.rests = False
            if session.unfinished:
                session.go_on()
            self._flush()
        except Exception:
            self._on_bug()

    def _bound_input(self, session: Session, transport: asyncio.Transport) -> None:
        limits = self.limits
        waiting = session.pending_commands
        if not waiting:
            session.taken_bytes = 0
        kept_bytes = session.backlog.held_bytes
        too_many_bytes = max(session.taken_bytes, kept_bytes) > limits.query_buffer_bytes
        if session.private is not None and session.private.kept_bytes > limits.query_buffer_bytes:
            self._stats.input_limit_closed += 1
            self.abort("its transaction or subscriptions exceeded limits.query_buffer_bytes")
            return
        # A full client's socket is still read: it may write all requests before it reads.
        too_many = waiting > limits.pipeline and not session.full
        too_much = too_many_bytes or too_many
        # A blocking command may wait forever, and with reading paused we would not notice that
        # the client left: an element popped for it would be lost.
        must_read = session.private is not None and session.private.blocking_id is not None
        if must_read and too_much:
            self._stats.input_limit_closed += 1
            self.abort("it sent too much after a blocking command")
        elif self._reading and (too_much or session.rests):
            self._reading = False
            self._set_express()
            transport.pause_reading()
        elif not (self._reading or session.rests) and (
            must_read or ((session.full or waiting <= limits.pipeline // 2) and not too_many_bytes)
        ):
            self._reading = True
            self._set_express()
            transport.resume_reading()

    # Output

    @property
    def unread_bytes(self) -> int:
        """Bytes of replies that are ready and that the client has not read."""
        session, transport = self.session, self._transport
        if session is None or transport is None:
            return 0
        return session.owed_bytes - session.unread_bytes + transport.get_write_buffer_size()

    @property
    def held_bytes(self) -> int:
        """The memory of this client: incomplete or waiting commands, and unread replies."""
        session = self.session
        if session is None:
            return 0
        sent_bytes = max(session.taken_bytes, session.backlog.held_bytes)
        state_bytes = session.private.kept_bytes if session.private is not None else 0
        return max(session.scanner.buffered_bytes, sent_bytes) + state_bytes + self.unread_bytes

    def _bound_owed(self, session: Session) -> None:
        """Apply the limits to a client that has unread replies."""
        stats, limits, private = self._stats, self.limits, session.private
        owed_bytes = session.owed_bytes
        streams = session.invalidations is not None or (private is not None and private.streams)
        subscribed = private is not None and private.subscribed
        if subscribed and session.unread_bytes > limits.subscriber_buffer_bytes:
            stats.slow_subscribers_closed += 1
            self.abort("its unread messages exceeded limits.subscriber_buffer_bytes")
            return
        if not session.authenticated and not self._writable:
            self._too_slow("its unread replies exceeded the socket's buffer")
            return
        max_bytes = limits.output_buffer_bytes
        if owed_bytes > (max_bytes if streams else FLOOD_FACTOR * max_bytes):
            self._on_flood()
            return
        if not self._counted_bytes:
            self._terrace.output.begin(self)
        added_bytes = max(0, owed_bytes - self._counted_bytes) if self._counted_bytes else 0
        self._counted_bytes = owed_bytes
        victim = self._terrace.output.largest_over(added_bytes)
        if victim is not None:
            stats.output_total_closed += 1
            victim.abort("the unread replies of all clients exceeded limits.output_total_bytes")

    def _too_slow(self, reason: str) -> None:
        if self._transport is None:
            return
        self._stats.output_limit_closed += 1
        self.abort(reason)

    def _on_flood(self) -> None:
        self._too_slow("its unread replies exceeded limits.output_buffer_bytes")

    def _forget_owed(self) -> None:
        self._counted_bytes = 0
        self._terrace.output.end(self)

    def close_if_stuck(self, now: float) -> None:
        """Close if it has read nothing for too long while its commands wait for that."""
        session, unread_bytes = self.session, self.unread_bytes
        if session is None or self._writable or not session.full:
            self._read_at = 0.0
        elif not self._read_at or unread_bytes < self._unread_bytes:
            self._read_at = now
        elif now - self._read_at > self.limits.unread_timeout_s > 0:
            self._too_slow(
                "its unread replies exceeded limits.output_buffer_bytes, and it read nothing "
                "for limits.unread_timeout"
            )
        self._unread_bytes = unread_bytes

    def pause_writing(self) -> None:
        self._writable = False
        self._set_express()

    def resume_writing(self) -> None:
        self._writable = True
        self._set_express()
        if self.session is not None:
            self.session.unread_bytes = 0
            if self._counted_bytes or self.session.full:
                self._wake()

    # Ending

    def eof_received(self) -> bool:
        """The client sends no more. Its requests still get replies (`printf … | nc`), unless it
        waits for other clients: then it counts as gone."""
        session = self.session
        if session is None or session.is_done:
            return False
        if self._transport is None or self._transport.get_extra_info("sslcontext") is not None:
            return False  # TLS has no half-closed connections
        self._input_ended = True
        self._set_express()
        return True

    def abort(self, reason: str) -> None:
        transport, self._transport = self._transport, None
        self._set_express()
        if transport is not None and self.session is not None:
            self._forget_owed()
            self._terrace.log_closed(self.session, reason)
            self.session.stop()
            transport.abort()

    def close_if_idle(self, since: float) -> None:
        """Close a client without activity after `since`, unless it waits for a reply.

        A private connection makes no difference: a forgotten MULTI has one.
        """
        session = self.session
        if session is None or session.active_at >= since or not self._writable:
            return
        private = session.private
        streams = private is not None and (private.subscribed or private.monitoring)
        if not (session.blocked or session.slot_count or streams):
            self.abort("idle longer than listen.idle_timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._set_express()
        self._forget_owed()
        self._terrace.detach(self)
        if self.session is not None:
            self.session.fd = -1
            self._terrace.close_session(self.session)
            self.session = None
            self.data_received = _ignore

    @property
    def waits_for_others(self) -> int:
        """The Redis id of the connection on which this client is blocked; 0: it is not blocked."""
        private = self.session.private if self.session is not None else None
        return (private.blocking_id or 0) if private is not None and private.waits_for_others else 0

    def close_when_answered(self) -> None:
        """Shutdown: a blocked command gets its reply, and later commands do not run."""
        if self.session is not None:
            self.session.closing = True

    def close_when_drained(self, *, patient: bool) -> bool:
        """Shutdown: close if the client has no outstanding replies; whether it was closed.

        `patient`: not between two commands of a busy client, whose next command would be
        lost; and commands that CLIENT PAUSE holds may still run.
        """
        session, transport = self.session, self._transport
        if session is None or transport is None:
            return True
        left = session.backlog or session.unfinished or session.full
        held = session.blocked == "pause" and not session.slot_count and not patient
        if not held and (session.in_flight or left or session.blocked == "task"):
            return False
        if patient:
            now, active_at = session.clock(), session.active_at
            fresh = active_at == session.created_at
            if now - active_at < (FRESH_S if fresh else RESTS_S):
                return False
        session.closing = True
        self._flush()
        return True


def _ignore(data: bytes) -> None:
    """Ignore input without a session: the client was refused, or left."""
