"""One client's pipe in readable Python: commands in, reply slots, replies out in order.

This is the definition of correct; a compiled twin must behave identically. It has the
order of replies and the same-tick L1 path of GET; `run_one` runs all other commands. No
IO, no asyncio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tiers import TieredCache
from tiers.proxy_door import RequestScanner, Via
from tiers.wire.resp import NULL2, NULL3, Request

from .backlog import ARGUMENT_BYTES, Backlog

if TYPE_CHECKING:
    from ..acl.rules import User
    from ..commands.command import Command, CommandTable
    from ..config.model import LimitOptions
    from ..stats import Stats
    from .private_connection import Private

MANY_ARGUMENTS = 128  # of a request that may be kept until its reply (MGET)
SPILL_BYTES = 1024 * 1024  # replies of one batch are sent in portions, so that limits can apply
FIRST_REPLY_BYTES = 1024 * 1024  # the estimated size of a reply before the first one
REPLY_SHIFT = 4  # a smaller reply moves the estimate by a sixteenth, a larger one at once
# Bound on the outstanding replies of one client: the replies of all others on the same connection
# to Redis come after them, and Redis builds all of them before it sends the first.
IN_FLIGHT_MAX_BYTES = 32 * 1024**2
FLOOD_FACTOR = 4  # times limits.output_buffer_bytes: a client with more is closed at once
# One client's share of a turn of the loop; its further commands run in the next turn.
SHARE_S = 0.005
LOOK_EVERY = 64  # hits, and other commands without Python, between two reads of the clock
FULL_READ_BYTES = 128 * 1024  # after a read of this size, the loop would read this socket again
_GET = frozenset((b"GET", b"get", b"Get"))


def raise_again() -> None:
    """Raise the current exception in an `except`; the caller decides."""
    raise


class ReplySlot(Protocol):
    """A place among the replies; `reply` is None until it may be released."""

    @property
    def reply(self) -> bytes | None: ...


class Done:
    """A reply that is ready but must wait for its turn."""

    __slots__ = ("reply",)

    def __init__(self, reply: bytes) -> None:
        self.reply: bytes | None = reply


class Pushed(Done):
    """An out-of-band message between the replies."""

    __slots__ = ()


class Muted:
    """Wraps a slot whose reply the client does not want (CLIENT REPLY OFF | SKIP)."""

    __slots__ = ("slot",)

    def __init__(self, slot: ReplySlot) -> None:
        self.slot = slot

    @property
    def reply(self) -> bytes | None:
        return None if self.slot.reply is None else b""

    @property
    def muted_bytes(self) -> int:
        return len(self.slot.reply or b"")


class Lane:
    """The state that all clients of one worker share on the path of every command.

    The compiled twin handles plain commands that this one leaves to `run_one`; while `open` is
    False it also leaves them. `fold` adds its counts to `stats`.
    """

    def __init__(
        self,
        stack: TieredCache,
        stats: Stats,
        clock: Callable[[], float],
        table: CommandTable,
        bounds_s: Sequence[float],
        limits: LimitOptions,
    ) -> None:
        self.stack = stack
        self.stats = stats
        self.clock = clock
        self.open = True
        self.adopt(limits)

    # twin: _lane.follow
    def follow(self, rows: Sequence[Command]) -> None:
        """Follow a changed table: commands with another row are left to `run_one`."""

    # twin: _lane.adopt
    def adopt(self, limits: LimitOptions) -> None:
        """Use other limits from now on, and possibly other bounds of L1."""
        self.limits = limits
        self.output_max_bytes = limits.output_buffer_bytes

    # twin: _lane.fold
    def fold(self) -> None:
        """Add the counts since the last call to the statistics."""


class ClientPipe:
    """The part of a session that every command passes through.

    The subclass runs commands that are not hits (`run_one`) and answers protocol errors
    (`on_protocol_error`). The connection sets `wake`, called when replies become available
    outside `receive`; `flush`, which sends released replies and handles flow control and
    closing; `on_flood`, called when far too many bytes are outstanding; and `on_bug`, for an
    error that concerns only this client.

    Unread replies count in bytes, in any place: in slots after one without a reply, released,
    or unread in the socket's buffer (`owed_bytes`). At the bound the client is `full`: none of
    its commands run until it has read half of that.
    """

    def __init__(self, lane: Lane, scanner: RequestScanner, user: User) -> None:
        self.lane = lane
        self.stack, self.stats, self.clock = lane.stack, lane.stats, lane.clock
        self.scanner = scanner
        self.active_at = lane.clock()
        self.wrote_at = 0.0  # when the last write of this client was sent; 0: never
        self.last_command = ""
        # protocol state
        self.proto = 2
        self.db = 0
        self.get_variant = b""
        self.user = user
        self.authenticated = False
        self.reply_mode = "on"  # CLIENT REPLY: on, off, skip (the next), skipping (this one)
        self.closing = False  # close after the output is sent
        # requests
        self.backlog = Backlog()
        self.blocked = ""
        self.unfinished = False  # it has used its share of this turn, and has more commands
        self.rests = False  # its socket is not read before the next turn
        self.in_flight = 0
        self.opaque_in_flight = 0
        self.mapped_in_flight = 0
        self.via: Via | None = None
        self.private: Private | None = None
        # output
        # While `express`, the compiled twin sends without `flush`: through the descriptor of a
        # plain socket (`fd`) or with `send`, after the `unsent_bytes` of the connection.
        self.express = False
        self.fd = -1
        self.send: Callable[[bytes], Any] = lambda data: None
        self.unsent_bytes: Callable[[], int] = lambda: 0
        self.taken_bytes = 0  # received since the client had no outstanding replies
        self.unread_bytes = 0  # sent but not accepted by its socket, at the last check
        self.full = False
        self.wake: Callable[[], Any] = lambda: None
        self.flush: Callable[[], Any] = lambda: None
        self.on_flood: Callable[[], Any] = lambda: None
        self.on_bug: Callable[[], Any] = raise_again
        self._slots: deque[ReplySlot] = deque()
        self._out: list[bytes] = []
        self._slot_bytes = self._out_bytes = 0  # of ready, and of released replies
        self._reply_bytes = FIRST_REPLY_BYTES  # the estimated size of the next reply

    # Methods of the subclass

    def run_one(self, request: Request, now: float) -> None:
        """Run one command, or block on it."""
        raise NotImplementedError

    def on_protocol_error(self) -> None:
        """The scanner has an `error` and accepts no more input."""
        raise NotImplementedError

    def lost_read(self, key: bytes | None, variant: bytes, proto: int, reason: str) -> bytes:
        """The reply to a read that L2 will not answer; `key` if L1 may have it."""
        raise NotImplementedError

    def lost_write(self, reason: str, sent: bool) -> bytes:
        """The reply to a write that L2 did not answer."""
        raise NotImplementedError

    # Input

    # twin: _pipe.receive
    def receive(self, data: bytes) -> None:
        """Handle input: `feed` and `flush`. The loop calls it with every read.

        The compiled twin skips `flush` if `send` is enough.
        """
        try:
            self.stats.bytes_in += len(data)
            self.taken_bytes += len(data)
            self.rests = len(data) >= FULL_READ_BYTES
            self.feed(data)
            self.flush()
        except Exception:
            self.on_bug()

    # twin: _pipe.feed
    def feed(self, data: bytes) -> None:
        """Run the commands completed by `data`, or queue them while the client is blocked.

        Commands beyond this client's share of the turn wait (`unfinished`): the compiled twin
        leaves them in the scanner, this one in the backlog.
        """
        requests = self.scanner.feed(data)
        if self.closing:
            return
        if self.blocked or self.full or self.backlog:
            self.backlog.extend(requests)
            self.wake()
        else:
            self.unfinished = False
            until = self.clock() + SHARE_S
            self._run(requests, until)
            while self.scanner.paused and not self.closing and not self.unfinished:
                self._run(self.scanner.feed(b""), until)
        if self.scanner.error is not None and not self.closing:
            self.on_protocol_error()

    # twin: _pipe._run
    def _run(self, requests: list[Request], until: float) -> None:
        self.active_at = now = self.clock()
        hit = self.stack.l1.arena.get if self.stack.l1 is not None else None
        fast = self.can_hit(now) and self.user.unrestricted
        slots, variant = self._slots, self.get_variant
        look_at = LOOK_EVERY
        hits = 0
        first = b"", b""  # key and variant of the first hit: a sample
        for index, request in enumerate(requests):
            if (slots or self._out_bytes > SPILL_BYTES) and not self._may_go_on():
                if not self.closing:
                    self.backlog.extend(requests[index:])
                break
            args = request[0]
            if fast and hit is not None and len(args) == 2 and args[0] in _GET:
                reply = hit(args[1], variant, now)
                if reply is not None:
                    if not hits:
                        first = args[1], variant
                    hits += 1
                    if reply == NULL3 and self.proto == 2:
                        reply = NULL2
                    self._put(reply)
                    if hits >= look_at:
                        look_at = hits + LOOK_EVERY
                        if self.clock() > until:
                            self._leave(requests[index + 1 :])
                            break
                    continue
            if len(args) > MANY_ARGUMENTS:
                self.taken_bytes += ARGUMENT_BYTES * len(args)
            self.run_one(request, now)
            if self.blocked or self.closing:
                if not self.closing:
                    self.backlog.extend(requests[index + 1 :])
                break
            if self.clock() > until:
                self._leave(requests[index + 1 :])
                break
            fast, variant = self.can_hit(now) and self.user.unrestricted, self.get_variant
        if hits:
            self._count_hits(hits, first, now)

    def _leave(self, requests: list[Request]) -> None:
        """Keep requests for the next turn."""
        self.backlog.extend(requests)
        self.unfinished = True

    # twin: _pipe._may_go_on
    def _may_go_on(self) -> bool:
        """Whether one more command may run, after a send of the released replies."""
        if self._out_bytes > SPILL_BYTES:
            self.flush()
        return not (self.closing or self.is_full())

    # twin: _pipe._count_hits
    def _count_hits(self, hits: int, first: tuple[bytes, bytes], began: float) -> None:
        """Count a batch of plain GETs, as `L1Memory.read` does for one."""
        self.stack.l2.keep_watermark(began)
        assert self.stack.l1 is not None
        samples = self.stack.l1.samples
        if began >= samples.due:
            samples.note(*first, began)
        level = self.stats.l1
        level.hits += hits
        self.stats.commands["GET"] += hits
        # Per batch, not per hit: a read of the clock costs as much as the hit.
        level.seconds.observe((self.clock() - began) / hits, hits)

    # twin: _pipe.can_hit
    def can_hit(self, now: float) -> bool:
        """Whether the same-tick L1 path is open (rule 3 of session.py, and the watermark)."""
        l1 = self.stack.l1
        return l1 is not None and self.is_plain and l1.coherence.is_open(now)

    # twin: _pipe.is_plain
    @property
    def is_plain(self) -> bool:
        """Whether the state of this client lets L1 answer."""
        return (
            not self.opaque_in_flight
            and self.private is None
            and self.authenticated
            and self.reply_mode == "on"
        )

    # Output

    # twin: _reply_ring.reply
    def reply(self, reply: bytes) -> None:
        """Answer the current command now (in order)."""
        if not self.is_muted:
            self._put(reply)

    def _put(self, reply: bytes) -> None:
        if self._slots:
            self._slots.append(Done(reply))
            self._slot_bytes += len(reply)
        else:
            self._out.append(reply)
            self._out_bytes += len(reply)

    # twin: _reply_ring.push
    def push(self, frame: bytes) -> None:
        """Add an out-of-band message after all released replies, before the others."""
        self.release()
        self._out.append(frame)
        self._out_bytes += len(frame)
        self.wake()

    # twin: _reply_ring.push_before
    def push_before(self, waiter: object, frame: bytes) -> None:
        """Add an out-of-band message that came before the reply to `waiter`, after all earlier
        replies; some of these may be ready but not released.

        `waiter` is None if the connection has no outstanding reply. It may be no slot of this
        client.
        """
        self.release()
        place = len(self._slots)
        if waiter is not None:
            for number, slot in enumerate(self._slots):
                if waiter is (slot.slot if isinstance(slot, Muted) else slot):
                    place = number
                    break
            else:
                place = 0
        while place and type(self._slots[place - 1]) is Done:  # answered here, not by Redis
            place -= 1
        if not place:
            self.push(frame)
            return
        self._slots.insert(place, Pushed(frame))
        self._slot_bytes += len(frame)
        self.wake()

    # twin: _reply_ring.add_slot
    def add_slot(self, slot: ReplySlot) -> None:
        """Reserve the next place among the replies for a request going upstream."""
        self._slots.append(Muted(slot) if self.is_muted else slot)
        self.in_flight += 1

    # twin: _reply_ring.finished
    def finished(self, reply_bytes: int) -> None:
        """A slot got its reply."""
        self.in_flight -= 1
        self._note(reply_bytes)
        if self._slots:  # else they were dropped
            self._slot_bytes += reply_bytes
            if self._slot_bytes > FLOOD_FACTOR * self.lane.output_max_bytes:
                self.on_flood()
        self.wake()

    def _note(self, reply_bytes: int) -> None:
        if reply_bytes > self._reply_bytes:
            self._reply_bytes = reply_bytes
        else:
            self._reply_bytes += (reply_bytes - self._reply_bytes) >> REPLY_SHIFT

    # twin: _reply_ring.owed_bytes
    @property
    def owed_bytes(self) -> int:
        """Bytes of replies that are ready and that the client has not read."""
        return self._slot_bytes + self._out_bytes + self.unread_bytes

    # twin: _pipe.is_full
    def is_full(self) -> bool:
        """Whether too many bytes are outstanding, replies in flight included, to run more
        commands; stored in `full`."""
        coming_bytes = self.in_flight * self._reply_bytes
        halved = int(self.full)
        self.full = (
            coming_bytes > IN_FLIGHT_MAX_BYTES >> halved
            or self.owed_bytes + coming_bytes > self.lane.output_max_bytes >> halved
        )
        return self.full

    # twin: _reply_ring.is_muted
    @property
    def is_muted(self) -> bool:
        """Whether the client does not want the reply of the current command."""
        return self.reply_mode == "off" or self.reply_mode == "skipping"

    @property
    def slot_count(self) -> int:
        """The number of replies that are not released yet."""
        return len(self._slots)

    # twin: _reply_ring.forget_slots
    def forget_slots(self) -> None:
        """Drop all slots: requests in flight get no replies."""
        self._slots.clear()
        self._slot_bytes = 0

    # twin: _reply_ring._release
    def release(self) -> None:
        slots, out = self._slots, self._out
        while slots:
            slot = slots[0]
            reply = slot.reply
            if reply is None:
                return
            slots.popleft()
            if isinstance(slot, Muted):
                self._slot_bytes -= slot.muted_bytes
                continue
            self._slot_bytes -= len(reply)
            out.append(reply)
            self._out_bytes += len(reply)

    @property
    def has_output(self) -> bool:
        """Whether there are released replies."""
        return bool(self._out)

    # twin: _reply_ring.take_output
    def take_output(self) -> bytes:
        self.release()
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        return data
