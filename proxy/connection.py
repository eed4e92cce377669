"""The asyncio adapter of one client: bytes to the session, replies to the socket.

No policy about commands; but the bounds on what a client may make us hold are kept
here: reading pauses while too many of its commands wait for replies (they drain
whether or not it reads), and a client that does not read what it asked for is
dropped when its unsent output passes `limits.output_buffer`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from tiers import set_keepalive

from .session import Session

if TYPE_CHECKING:
    from .server import Terrace

WRITE_HIGH_WATER_BYTES = 1024 * 1024  # asyncio calls pause_writing above it


class Connection(asyncio.Protocol):
    """One client socket."""

    __slots__ = (
        "_input_ended",
        "_output_max", "_pipeline_max", "_reading", "_terrace", "_transport", "_writable",
        "session",
    )  # fmt: skip

    def __init__(self, terrace: Terrace) -> None:
        self._terrace = terrace
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._input_ended = False
        self._output_max = terrace.config.limits.output_buffer_bytes
        self._pipeline_max = terrace.config.limits.pipeline
        self.session: Session | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport, but behave as one
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            set_keepalive(sock)
        peer = _address(transport.get_extra_info("peername"))
        refusal = self._terrace.refusal_for(peer)
        if refusal is not None:
            self._terrace.stats.connections_rejected += 1
            transport.write(refusal)
            transport.close()
            return
        session = self._terrace.open_session(peer, _address(transport.get_extra_info("sockname")))
        session.wake = self._wake
        session.on_close_request = self.abort
        self.session = session
        self._terrace.attach(self)

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        self._terrace.stats.bytes_in += len(data)
        session.feed(data)
        self._flush()

    def _wake(self) -> None:
        self._terrace.mark_dirty(self)

    def proceed(self) -> None:
        """Replies came in: go on with what waited for them, then send."""
        session = self.session
        if session is not None:
            session.proceed()
            self._flush()

    def _flush(self) -> None:
        session, transport = self.session, self._transport
        if session is None or transport is None:
            return
        data = session.take_output()
        if data:
            self._terrace.stats.bytes_out += len(data)
            transport.write(data)
            if not self._writable and transport.get_write_buffer_size() > self._output_max:
                self._terrace.stats.output_limit_closed += 1
                self.abort("its unread replies passed limits.output_buffer")
                return
        if (session.closing and not session.slots) or (self._input_ended and session.is_done):
            transport.close()
            return
        waiting = len(session.slots) + len(session.backlog)
        if self._reading and waiting > self._pipeline_max:
            self._reading = False
            transport.pause_reading()
        elif not self._reading and waiting <= self._pipeline_max // 2:
            self._reading = True
            transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True

    def eof_received(self) -> bool:
        """The client sends no more. What it asked for is still answered (`printf … | nc`),
        unless it waits on a private connection: then it counts as gone."""
        session = self.session
        if session is None or session.pin is not None or session.is_drained:
            return False
        self._input_ended = True
        return True

    def abort(self, reason: str) -> None:
        if self._transport is not None and self.session is not None:
            self._terrace.log_closed(self.session, reason)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._terrace.detach(self)
        if self.session is not None:
            self._terrace.close_session(self.session)
            self.session = None

    def close_when_drained(self) -> bool:
        """Shutting down: close if nothing is owed to the client; whether it was closed."""
        session, transport = self.session, self._transport
        if session is None or transport is None:
            return True
        if session.in_flight or session.backlog or session.blocked == "task":
            return False
        session.closing = True
        self._flush()
        return True


def _address(name: object) -> str:
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return "unix:0"
