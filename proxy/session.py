"""One client's state machine: bytes in, replies out, in order. No IO, no asyncio.

Rules of this file
  1. One reply slot per request, in arrival order; `release` gives out only what is
     at the head. A local answer queues behind slots in flight.
  2. The order of *effects*: while this client has requests in flight, its next ones
     go down the same upstream connection (`via`), or wait until it is idle. A
     pipelined SET k, GET k sees the SET.
  3. The same-tick L1 path is open only in the plain state: nothing opaque in flight,
     no private connection, authenticated, replies on.
  4. A command that cannot run now stops the machine (`blocked`) and stays at the
     head of `backlog`; nothing behind it runs before it.

  blocked   means                                         ends when
  ""        commands run as they arrive                    -
  "idle"    the head must not run beside those in flight   in_flight is 0
  "task"    a handler is awaiting something                its task finished
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tiers import KeptUpstream, RequestScanner, TieredCache, Upstream, get_variant
from tiers.resp import NULL2, NULL3, Request

from . import errors
from .slots import Done, Muted, Slot

if TYPE_CHECKING:
    from .acl_rules import User
    from .config import Config
    from .pinned import Pinned
    from .server import Terrace


class Session:
    """State of one client connection.

    `wake` is called when replies became available outside `feed`; whoever drives the
    session then calls `proceed` and sends what `take_output` returns. `spill` asks to
    send at once.
    """

    def __init__(self, terrace: Terrace, ident: int, address: str, local_address: str) -> None:
        # shared
        self.terrace = terrace
        self.config: Config = terrace.config
        self.stack: TieredCache = terrace.stack
        self.stats = terrace.stats
        self.clock: Callable[[], float] = terrace.clock
        self._dispatch = terrace.dispatch
        # identity
        self.ident = ident
        self.address = address
        self.local_address = local_address
        self.created_at = self.active_at = terrace.clock()
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.last_command = ""
        # protocol state
        limits = terrace.config.limits
        self.scanner = RequestScanner(
            bulk_max_bytes=limits.bulk_bytes,
            multibulk_max=limits.multibulk,
            buffer_max_bytes=limits.query_buffer_bytes,
        )
        self.proto = 2
        self.db = 0
        self.get_variant = b""
        self.user: User = terrace.acl.default
        self.authenticated = terrace.acl.is_open
        self.scanner.authenticated = self.authenticated
        self.reply_mode = "on"  # CLIENT REPLY: on, off, skip (the next), skipping (this one)
        self.closing = False  # close once the output is out
        # requests
        self.backlog: deque[Request] = deque()
        self.blocked = ""
        self.slots: deque[Slot | Done | Muted] = deque()
        self.out: list[bytes] = []
        self.in_flight = 0
        self.opaque_in_flight = 0
        self.mapped_in_flight = 0
        self.via: KeptUpstream | Upstream | None = None
        self.pin: Pinned | None = None
        self.watch_failed = False  # the next MULTI must not succeed
        self.redirected: Request | None = None  # its ids are Redis' by now (CLIENT TRACKING)
        self.loaded_request: Request | None = None  # its mapped keys are in L2 by now
        self.wake: Callable[[], None] = lambda: None
        self.spill: Callable[[], None] = lambda: None  # send what is out, now
        self.on_close_request: Callable[[str], None] = lambda reason: None

    def __repr__(self) -> str:
        state = self.blocked or "running"
        return (
            f"<Session {self.ident} {self.address} {state} slots={len(self.slots)} "
            f"in_flight={self.in_flight} backlog={len(self.backlog)}>"
        )

    # Input

    def feed(self, data: bytes) -> None:
        """Run the commands completed by `data`, or queue them behind what blocks."""
        requests = self.scanner.feed(data)
        if self.closing:
            return
        if self.blocked or self.backlog:
            self.backlog.extend(requests)
            self.wake()
        else:
            self._run(requests)
            while self.scanner.paused and not self.closing:
                self._run(self.scanner.feed(b""))
        if self.scanner.error is not None and not self.closing:
            self._on_protocol_error()

    def _run(self, requests: list[Request]) -> None:
        self.active_at = now = self.clock()
        hit = self.stack.l1.arena.get if self.stack.l1 is not None else None
        fast = self.can_hit(now) and self.user.unrestricted
        out, slots, variant = self.out, self.slots, self.get_variant
        hits = size = 0
        for index, request in enumerate(requests):
            args = request[0]
            if fast and hit is not None and len(args) == 2 and args[0] in _GET:
                reply = hit(args[1], variant, now)
                if reply is not None:
                    hits += 1
                    if reply == NULL3 and self.proto == 2:
                        reply = NULL2
                    if slots:
                        slots.append(Done(reply))
                    else:
                        out.append(reply)
                    size += len(reply)
                    if size > SPILL_BYTES:
                        size = 0
                        self.spill()
                        if self.closing:
                            break
                    continue
            self.run_one(request, now)
            if self.blocked or self.closing:
                self.backlog.extend(requests[index + 1 :])
                break
            fast, variant = self.can_hit(now) and self.user.unrestricted, self.get_variant
        if hits:
            self._count_hits(hits, now)

    def _count_hits(self, hits: int, began: float) -> None:
        self.stack.l2.want_l1(began)
        level = self.stats.l1
        level.hits += hits
        self.stats.commands["GET"] += hits
        # Per batch, not per hit: reading the clock costs as much as the hit.
        level.seconds.observe((self.clock() - began) / hits, hits)

    def run_one(self, request: Request, now: float) -> None:
        """Run one command; CLIENT REPLY SKIP ends with it."""
        if self.reply_mode == "skip":
            self.reply_mode = "skipping"
        self._dispatch(self, request, now)
        if self.blocked != "task":
            self._end_skip()

    def _end_skip(self) -> None:
        if self.reply_mode == "skipping":
            self.reply_mode = "on"

    def can_hit(self, now: float) -> bool:
        """Whether the same-tick L1 path is open (rule 3, and the watermark)."""
        l1 = self.stack.l1
        return (
            l1 is not None
            and not self.opaque_in_flight
            and self.pin is None
            and self.authenticated
            and self.reply_mode == "on"
            and l1.coherence.is_open(now)
        )

    def _on_protocol_error(self) -> None:
        text = self.scanner.error
        self.stats.protocol_errors += 1
        self.terrace.log_protocol_error(self, text or "query buffer limit exceeded")
        if text:
            self.backlog.append(([b"", text.encode("latin-1")], b"", 0, 0))
            if not self.blocked:
                self.proceed()
        else:
            self.closing = True
            self.slots.clear()

    # Blocking

    def block_idle(self, request: Request | None = None) -> None:
        """Run nothing before all replies in flight are in; `request` then comes first."""
        self.blocked = "idle"
        if request is not None:
            self.put_back(request)

    def put_back(self, request: Request) -> None:
        """Run this command (again) before all others; it was not answered yet."""
        self.backlog.appendleft(request)
        if self.reply_mode == "skipping":
            self.reply_mode = "skip"

    def block_task(self) -> None:
        self.blocked = "task"

    def unblock(self) -> None:
        """The task that blocked is done."""
        self.blocked = ""
        self._end_skip()
        self.wake()

    def proceed(self) -> None:
        """Release what can be released; run the backlog as far as it may."""
        self.release()
        self._settle()
        while self.backlog and not self.blocked and not self.closing:
            request = self.backlog.popleft()
            if not request[3]:
                self.reply(errors.protocol_error(request[0][1].decode("latin-1")))
                self.close_after_output()
                return
            self.run_one(request, self.clock())
            self._settle()

    def _settle(self) -> None:
        """Nothing in flight ends an "idle" block, and the reason for a pin it outlived."""
        if self.in_flight:
            return
        if self.blocked == "idle":
            self.blocked = ""
        if self.pin is not None and not self.blocked:
            self.pin.maybe_release()

    # Output

    def reply(self, reply: bytes) -> None:
        """Answer the current command at once (in its turn)."""
        if self.is_muted:
            return
        if self.slots:
            self.slots.append(Done(reply))
        else:
            self.out.append(reply)

    def push(self, frame: bytes) -> None:
        """An out-of-band message: after everything already released, before what is not."""
        self.release()
        self.out.append(frame)
        self.wake()

    def add_slot(self, slot: Slot) -> None:
        """Reserve the next place among the replies for a request going upstream."""
        self.slots.append(Muted(slot) if self.is_muted else slot)
        self.in_flight += 1

    @property
    def is_muted(self) -> bool:
        """Whether the reply of the current command is not wanted."""
        return self.reply_mode == "off" or self.reply_mode == "skipping"

    def release(self) -> None:
        slots, out = self.slots, self.out
        while slots:
            reply = slots[0].reply
            if reply is None:
                return
            slots.popleft()
            out.append(reply)

    def take_output(self) -> bytes:
        self.release()
        if not self.out:
            return b""
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        return data

    def close_after_output(self) -> None:
        self.closing = True
        self.backlog.clear()
        self.wake()

    @property
    def is_drained(self) -> bool:
        """Nothing owed to the client any more."""
        return not self.slots and not self.backlog and not self.out

    @property
    def is_done(self) -> bool:
        """For a client that sends no more: nothing is owed, or it waits for what may never come."""
        return self.is_drained or (self.pin is not None and self.pin.waits_for_others)

    @property
    def pending_commands(self) -> int:
        return len(self.slots) + len(self.backlog)

    # State changes that several handlers need

    def set_db(self, db: int) -> None:
        self.db = db
        self.get_variant = get_variant(db)

    def log_in(self, user: User) -> None:
        self.user = user
        self.set_authenticated(True)

    def set_authenticated(self, yes: bool) -> None:
        self.authenticated = self.scanner.authenticated = yes

    def reset(self) -> None:
        """RESET: as if newly connected (name and id included, as in Redis)."""
        self.proto = 2
        self.set_db(0)
        self.name = b""
        self.reply_mode = "on"
        self.watch_failed = False
        self.user = self.terrace.acl.default
        self.set_authenticated(self.terrace.acl.is_open)

    def get_suspect(self, key: bytes, variant: bytes) -> bytes | None:
        """An L1 entry to serve although Redis cannot be asked; None outside the window."""
        l1 = self.stack.l1
        if l1 is None or self.opaque_in_flight:
            return None  # its own script may just be changing the key
        return l1.coherence.get_suspect(key, variant, self.clock())

    def close(self) -> None:
        """The client is gone: nothing may be left waiting for it."""
        self.closing = True
        self.wake = lambda: None
        self.backlog.clear()
        self.slots.clear()
        self.terrace.cancel_task_of(self)
        if self.pin is not None:
            self.pin.abandon()


_GET = frozenset((b"GET", b"get", b"Get"))
SPILL_BYTES = 1024 * 1024  # hits of one batch are sent in portions, so that limits can act
