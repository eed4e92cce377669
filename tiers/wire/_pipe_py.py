"""The upstream pipe in readable Python: one pipelined connection to Redis, without its socket.

This is the definition of correct; the compiled twin must behave identically.

Bytes to send come out of `take_output`, received bytes go into `feed`; each reply goes to
the waiter that queued its request, in order. Many clients share one pipe, so the pipe also
owns the one piece of connection state that their commands need: the selected database.

Redis may refuse a SELECT, and then the requests behind it run in the database selected
before. So only reads may follow an unconfirmed SELECT (`queue` writes one if the database
differs); after a refusal their replies come from the wrong database, and the refusal
replaces them. Any other request may be queued only if the pipe `fits`: no SELECT is
unanswered and the selected database is the right one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import ProtocolError
from .resp import OK, ReplyScanner

_PUSH = ord(">")
MISFIT = "a reply from Redis that does not fit its request"
LARGE_BYTES = 1024 * 1024  # from here on the pipe checks how much its waiter accepts
TOO_LARGE = (
    b"-ERR terrace: the reply is larger than limits.output_buffer_bytes and was dropped; "
    b"the command has run\r\n"
)


class Waiter(Protocol):
    """Waits for a reply. Exactly one of the two methods is called, once per queued request.

    A waiter whose `reply_max_bytes` is not 0 gets TOO_LARGE in place of a larger reply; the
    pipe does not store such a reply while it comes.
    """

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        """`reply` is the raw frame; `sent_at` is not later than the sending of its request."""

    def on_lost(self, reason: str, sent: bool) -> None:
        """No reply will come. `sent`: whether a byte of the request may have reached Redis."""


class _Discard:
    """Discards a reply that no client needs (fire-and-forget)."""

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        pass

    def on_lost(self, reason: str, sent: bool) -> None:
        pass


DISCARD: Waiter = _Discard()


_ERROR = ord("-")
BUSY = b"-BUSY "  # a script runs for longer than Redis waits for it
ALARMING = (b"-READONLY", b"-MASTERDOWN", BUSY)  # no primary gives the first two
UNKNOWN_DB = -1  # after a refused SELECT: the next request selects its own


class _Select:
    """Waits for the reply to a SELECT in the stream."""

    def __init__(self, pipe: UpstreamPipe) -> None:
        self._pipe = pipe

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._pipe.on_selected(reply)

    def on_lost(self, reason: str, sent: bool) -> None:
        pass


class UpstreamPipe:
    """Requests in flight on one connection, oldest first.

    `tap` gets pushes (RESP3 `>` frames), and with `tap_all` every frame, before the
    waiters; it returns True for a frame that is no waiter's reply. `on_output` is called
    when there is something to send, once until `take_output`.
    """

    __slots__ = (
        "_batches", "_out", "_pending", "_refusal", "_scanner", "_select", "_selects", "_unsent",
        "alarm", "congested", "db", "last_sent_at", "max_in_flight", "on_output", "proto", "ready",
        "tap", "tap_all",
    )  # fmt: skip

    def __init__(
        self, tap: Callable[[bytes], bool] | None = None, max_in_flight: int = 200_000
    ) -> None:
        self.tap = tap
        self.tap_all = False
        self.max_in_flight = max_in_flight
        self.alarm: Callable[[bytes], None] | None = None  # gets the ALARMING replies
        self.on_output: Callable[[], Any] = lambda: None
        self.ready = False  # the handshake is done
        self.congested = False  # Redis does not read the written bytes
        self.proto = 2
        self._select: Waiter = _Select(self)
        self.reset()

    def reset(self) -> None:
        """Start as for a new connection. `fail_all` must have taken the waiters before."""
        self.db = 0
        self._selects = 0  # not answered yet
        self._refusal = b""  # of the SELECT before the waiters whose turn it is
        self._pending: deque[Waiter] = deque()
        self.last_sent_at = 0.0
        self._scanner = ReplyScanner()
        self._out: list[bytes] = []
        self._unsent = 0
        self._batches: deque[list[float]] = deque()  # [requests left, sent_at], oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def __repr__(self) -> str:
        return f"<UpstreamPipe {len(self._pending)} in flight, {self._unsent} unsent, db {self.db}>"

    @property
    def next_waiter(self) -> Waiter | None:
        """The waiter whose reply comes next; None if there is none."""
        return self._pending[0] if self._pending else None

    @property
    def takes_more(self) -> bool:
        """Whether one more request may be queued; otherwise it fails fast."""
        return not self.congested and len(self._pending) < self.max_in_flight

    def fits(self, db: int) -> bool:
        """Whether a request queued now runs in this database, or not at all."""
        return db == self.db and not self._selects

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    def queue(self, raw: bytes, waiter: Waiter, db: int, replies: int = 1) -> None:
        """Queue one encoded request for database `db`; it is answered by `replies` frames.

        If the pipe does not fit, it must be a read.
        """
        if not self._out:
            self.on_output()
        if db != self.db:
            self._out.append(b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%d\r\n" % (len(str(db)), db))
            self._pending.append(self._select)
            self._unsent += 1
            self._selects += 1
            self.db = db
        self._out.append(raw)
        self._pending.append(waiter)
        self._unsent += 1
        if replies > 1:
            self._pending.extend([waiter] * (replies - 1))
            self._unsent += replies - 1

    def on_selected(self, reply: bytes) -> None:
        """Redis answers a SELECT in the stream."""
        self._selects -= 1
        self._refusal = b"" if reply == OK else reply
        if self._refusal and not self._selects:
            self.db = UNKNOWN_DB

    def forgo(self, waiter: Waiter) -> None:
        """Remove `waiter` from the head: its remaining frames will not come."""
        while self._pending and self._pending[0] is waiter:
            self._pending.popleft()
            self._batches[0][0] -= 1
            if not self._batches[0][0]:
                self._batches.popleft()

    def take_output(self, now: float) -> bytes:
        """All queued bytes, for one write; `now` must be read before the write."""
        out = b"".join(self._out)
        self._out.clear()
        self._batches.append([self._unsent, now])
        self._unsent = 0
        self.last_sent_at = now
        return out

    def waiting_since(self) -> float | None:
        """When the oldest unanswered request was sent; None if there is none."""
        return self._batches[0][1] if self._batches else None

    def answer_early(self) -> None:
        """Replies are late: ask the waiters with `answer_early` whether they can answer without
        Redis. If a waiter can (True), its reply is dropped when it comes."""
        kept: dict[Waiter, Waiter] = {}
        for waiter in self._pending:
            if waiter not in kept:
                ask = getattr(waiter, "answer_early", None)
                kept[waiter] = DISCARD if ask is not None and ask() else waiter
        self._pending = deque(kept[waiter] for waiter in self._pending)

    def feed(self, data: bytes) -> float:
        """Hand out the replies completed by `data`.

        Returns the send time of the newest request answered so far (the watermark
        of coherence.py), 0.0 if none was. Raises ProtocolError if the stream is lost.
        """
        pending, batches = self._pending, self._batches
        newest = 0.0
        for frame in self._scanner.feed(data):
            if pending is not self._pending:
                break  # a waiter ended the connection
            if (frame[0] == _PUSH or self.tap_all) and self.tap is not None and self.tap(frame):
                continue
            if not batches:
                continue  # a reply without a waiter: only possible at the end of a tapped stream
            batch = batches[0]
            newest = batch[1]
            batch[0] -= 1
            if not batch[0]:
                batches.popleft()
            waiter = pending.popleft()
            if self._refusal and waiter is not self._select:
                frame = self._refusal
            if frame[0] == _ERROR and self.alarm is not None and frame.startswith(ALARMING):
                self.alarm(frame)
            try:
                waiter.on_reply(frame, newest)
            except Exception as error:  # a waiter always gets its end
                waiter.on_lost(MISFIT, True)
                if isinstance(error, ProtocolError):
                    raise
                raise ProtocolError(f"{MISFIT} ({type(error).__name__})") from error
        if self._scanner.pending_bytes > LARGE_BYTES and not self.tap_all and self._pending:
            max_bytes = getattr(self._pending[0], "reply_max_bytes", 0)
            if 0 < max_bytes < self._scanner.pending_bytes:
                self._scanner.replace(TOO_LARGE)
        return newest

    def fail_all(self, reason: str) -> None:
        """The connection is gone: call `on_lost` of every waiter, in order."""
        pending, unsent = self._pending, self._unsent
        self.reset()
        sent = len(pending) - unsent
        for index, waiter in enumerate(pending):
            waiter.on_lost(reason, index < sent)
