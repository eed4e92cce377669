"""One client's state machine: bytes in, replies out, in order. No IO, no asyncio.

Rules of this file
  1. One reply slot per request, in arrival order; `release` releases only ready replies
     at the head. A local answer waits for earlier slots in flight.
  2. The order of *effects*: while this client has requests in flight, its next ones
     use the same upstream connection (`via`), or wait until it is idle. A pipelined
     SET k, GET k sees the SET.
  3. The same-tick L1 path is open only in the plain state: nothing opaque in flight,
     no private connection, authenticated, replies on.
  4. A command that cannot run now stops the machine (`blocked`) and stays at the
     head of `backlog`; no later command runs before it.

  blocked   means                                         ends when
  ""        commands run as they arrive                    -
  "idle"    the head must not run beside those in flight   in_flight is 0
  "task"    a handler awaits                               its task finished
  "pause"   CLIENT PAUSE holds this client                 the pause is over

Independently, the session is `full` while the client has too many unread bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from tiers.proxy_door import BLIND, L2_REDIS, RequestScanner, get_variant
from tiers.wire.resp import NULL2, NULL3, Request

from .. import errors
from .pipe import SHARE_S, SPILL_BYTES, ClientPipe

if TYPE_CHECKING:
    from ..acl.rules import User
    from ..config.model import Config
    from .host import Host
    from .redirection import InvalidationFeed


# Bytes that one turn may copy from L1 while Redis is down: thousands of reads may be in flight
# when Redis stops answering, and one turn handles all of them.
RESCUED_MAX_BYTES = 64 * 1024**2


class Session(ClientPipe):
    """State of one client connection.

    Its driver calls `proceed` after a `wake`, `go_on` in the next turn while it is
    `unfinished`, and sends the result of `take_output`.
    """

    def __init__(self, terrace: Host, ident: int, address: str, local_address: str) -> None:
        limits = terrace.config.limits
        scanner = RequestScanner(
            bulk_max_bytes=terrace.stack.l2.limits.bulk_max_bytes(limits.bulk_bytes),
            multibulk_max=limits.multibulk,
            buffer_max_bytes=limits.query_buffer_bytes,
        )
        super().__init__(terrace.lane, scanner, terrace.acl.default)
        self.terrace = terrace
        self.config: Config = terrace.config
        self.commands = terrace.commands.table
        self._dispatch = terrace.dispatch
        self.flow = terrace.flow  # for the compiled lane
        # identity
        self.ident = ident
        self.address = address
        self.local_address = local_address
        self.created_at = self.active_at
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        # state between commands
        self.set_authenticated(terrace.acl.is_open)
        self.blocked = terrace.pause.blocks
        self.watch_failed = False  # the next transaction must fail
        self.queued = False  # it waits for a private connection
        self.loaded_request: Request | None = None  # its mapped keys are in L2
        self.snapshot = BLIND  # of the store's lineage, before they were seen in Redis
        self.seen: list[bytes] = []  # the keys that were there, or loaded
        self.invalidations: InvalidationFeed | None = None  # redirected from other clients
        self.redirect_found = (0, 0)  # a client of another worker, and the Redis id of its feed
        self.on_close_request: Callable[[str], None] = lambda reason: None

    def __repr__(self) -> str:
        state = self.blocked or "running"
        return (
            f"<Session {self.ident} {self.address} {state} slots={self.slot_count} "
            f"in_flight={self.in_flight} backlog={len(self.backlog)} owed={self.owed_bytes}>"
        )

    # Input

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

    def on_protocol_error(self) -> None:
        text = self.scanner.error
        self.stats.protocol_errors += 1
        self.terrace.log_protocol_error(self, text or "query buffer limit exceeded")
        if text == "invalid bulk length" and self.stack.l2.limits.binds(
            self.config.limits.bulk_bytes
        ):
            self.terrace.learn_limits()  # Redis may have a higher limit now
        if text:
            self.backlog.append(([b"", text.encode("latin-1")], b"", 0, 0))
            if not self.blocked:
                self.proceed()
        else:
            self.stop()

    # Blocking

    def block_idle(self, request: Request | None = None) -> None:
        """Block until all replies in flight have arrived; `request` then runs first."""
        self.blocked = "idle"
        if request is not None:
            self.put_back(request)

    def put_back(self, request: Request) -> None:
        """Run this command again before all others; it has no reply yet."""
        self.backlog.appendleft(request)
        if self.reply_mode == "skipping":
            self.reply_mode = "skip"

    def block_task(self) -> None:
        self.blocked = "task"

    def block_pause(self, request: Request) -> None:
        """Block until CLIENT PAUSE is over; `request` then runs first."""
        self.blocked = "pause"
        self.put_back(request)

    def unblock(self) -> None:
        """The reason for the block is over."""
        self.blocked = self.terrace.pause.blocks
        self._end_skip()
        self.wake()

    def proceed(self) -> None:
        """Release ready replies, and run the backlog as far as possible in this turn.

        After some output it stops; call it again after the output is sent.
        """
        self.release()
        self._settle()
        until = self.clock() + SHARE_S
        while self.backlog and not self.blocked and not self.closing:
            if self.is_full():
                return
            if self.owed_bytes - self.unread_bytes > SPILL_BYTES:
                self.wake()
                return
            if (now := self.clock()) > until:
                self.unfinished = True
                return
            request = self.backlog.popleft()
            if not request[3]:
                if self.reply_mode == "skip":
                    self.reply_mode = "skipping"
                self.reply(errors.protocol_error(request[0][1].decode("latin-1")))
                self.close_after_output()
                return
            self.run_one(request, now)
            put_off = self.blocked or (self.backlog and self.backlog[0] is request)
            if self.loaded_request is request and not put_off:
                self.loaded_request = None  # it has run
            self._settle()

    def go_on(self) -> None:
        """Continue in the next turn with commands beyond this client's share of the last one."""
        self.unfinished = False
        if self.backlog:
            self.proceed()
        else:
            self.feed(b"")

    def _settle(self) -> None:
        """With no request in flight, end an "idle" block, and give a private connection back if no
        state needs it."""
        if self.in_flight:
            return
        if self.blocked == "idle":
            self.blocked = self.terrace.pause.blocks
        if self.private is not None and not self.blocked:
            self.private.maybe_release()

    # Ending

    def stop(self) -> None:
        """The client gets no more replies: run nothing, keep no reply."""
        self.closing = True
        self.backlog.clear()
        self.forget_slots()

    def close_after_output(self) -> None:
        self.closing = True
        self.backlog.clear()
        self.wake()

    @property
    def is_drained(self) -> bool:
        """Whether there are no outstanding replies, of running tasks included."""
        return not (
            self.slot_count or self.backlog or self.unfinished or self.full
            or self.has_output or self.blocked == "task"
        )  # fmt: skip

    @property
    def is_done(self) -> bool:
        """For a client that sends no more: no outstanding replies, or one that may never come."""
        return (
            self.is_drained
            or self.blocked == "pause"
            or self.queued
            or (self.private is not None and self.private.waits_for_others)
        )

    @property
    def pending_commands(self) -> int:
        return self.slot_count + len(self.backlog)

    # State changes that several handlers need

    def set_db(self, db: int) -> None:
        self.db = db
        self.get_variant = get_variant(db)

    def log_in(self, user: User) -> None:
        self.user = user
        self.set_authenticated(True)

    @property
    def in_multi(self) -> bool:
        """Whether the client is queueing a transaction."""
        return self.private is not None and self.private.in_multi

    @property
    def subscriptions(self) -> Mapping[str, Collection[bytes]]:
        """Names by kind: "channels", "patterns", "shards"."""
        return self.private.subscriptions if self.private is not None else {}

    def abort_transaction(self) -> None:
        """Discard the queued commands; EXEC then fails."""
        if self.private is not None:
            self.private.abort_transaction()

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
        """An L1 entry to serve while Redis is down; None outside the window, or if a client with
        many unread bytes, or all clients in one turn, would get too much at once."""
        l1 = self.stack.l1
        if l1 is None or self.opaque_in_flight:
            return None  # its own script may be changing the key
        if self.closing or self.owed_bytes > self.lane.output_max_bytes:
            return None
        if self.terrace.rescued_bytes > RESCUED_MAX_BYTES:
            return None
        reply = l1.get_suspect(key, variant, self.clock())
        if reply is not None:
            self.terrace.note_rescued(len(reply))
        return reply

    def known_read(self, key: bytes, variant: bytes, proto: int) -> bytes | None:
        stale = self.get_suspect(key, variant)
        if stale is None:
            return None
        self.stats.stale_served += 1
        return NULL2 if stale == NULL3 and proto == 2 else stale

    def lost_read(self, key: bytes | None, variant: bytes, proto: int, reason: str) -> bytes:
        stale = self.known_read(key, variant, proto) if key is not None else None
        return self.read_failed(reason) if stale is None else stale

    def lost_write(self, reason: str, sent: bool) -> bytes:
        self.stats.write_errors += 1
        return self.l2_failed(errors.write_failed(reason, sent))

    def read_failed(self, reason: str) -> bytes:
        self.stats.read_errors += 1
        return self.l2_failed(errors.read_failed(reason))

    def l2_failed(self, reply: bytes) -> bytes:
        """The error if L2 has no reply; with "disconnect" the client is closed instead."""
        if self.config.l2.on_error == "disconnect":
            self.on_close_request(f'{L2_REDIS} did not answer it, and l2.on_error is "disconnect"')
        return reply

    def close(self) -> None:
        """The client left: end all waits for it."""
        self.stop()
        self.wake = lambda: None
        self.terrace.cancel_task_of(self)
        if self.private is not None:
            self.private.abandon()
        if self.invalidations is not None:
            self.invalidations.close()
