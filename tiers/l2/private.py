"""Private connections to Redis: leased one at a time, cleaned with RESET, or closed.

A lease is for one client (transactions, pub/sub, blocking commands, ...). It ends with
`give_back`, which cleans the connection for the next client, or with `discard`, which closes
it. A connection that still owes a reply is never reused: a BLPOP would take an element that
no client receives. Redis confirms login, protocol and database before a connection is leased.

  a connection is  begins with                      ends with
  reserved         `turn`                           `open`: leased, or closed
  leased           `open`, `lease_nowait`           `give_back`, `discard`, its loss
  being cleaned    `give_back`                      the replies to RESET: idle, or closed
  idle             cleaned, and there is room       leased again; closed when the node is down

A client that cannot have one now waits in a queue: for the bucket of the gate, or, when there
are as many connections as may be, for one that comes back. It waits for the latter only while
connections do come back: if blocked or subscribed clients hold them all, it would be futile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..base import L2_REDIS
from ..errors import ServerError, TierUnavailable
from ..guard.connect_gate import ConnectGate
from ..options import L2Options
from ..wire.resp import OK, decode, pack
from .node import WHO, run_id_of
from .private_queue import NoPlace, PrivateQueue
from .upstream import ANY_DB, Endpoint, Upstream

MOVES_S = 0.25  # without an opened or returned connection for so long, waiting is futile


class _Cleaned:
    """Waits for the replies to RESET and the commands behind it, after a lease."""

    def __init__(self, pool: PrivatePool, upstream: Upstream, replies: int, db: int) -> None:
        self._pool, self._upstream = pool, upstream
        self._left, self._db = replies, db
        self._clean = True

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._left -= 1
        self._clean = self._clean and not reply.startswith(b"-")
        if not self._left:
            self._pool._on_cleaned(self._upstream, self._clean, self._db)

    def on_lost(self, reason: str, sent: bool) -> None:
        pass  # _on_closed does the accounting


class PrivatePool:
    """At most `max_pinned` connections at once; up to `max_idle_pinned` wait for reuse."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: L2Options,
        gate: ConnectGate,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self.options = options
        self._gate = gate
        self._clock = clock
        self._idle: list[Upstream] = []
        self._all: set[Upstream] = set()
        self._queue = PrivateQueue()
        self._timer: asyncio.TimerHandle | None = None  # of the next token
        self._moved_at = float("-inf")  # one was opened, or came back
        self.on_identity: Callable[[str], None] = lambda run_id: None
        self.on_alarm: Callable[[bytes], None] | None = None
        self.silent_since: Callable[[float], float] = lambda sent_at: sent_at
        self.opened = 0
        self.leases = 0

    def __repr__(self) -> str:
        return f"<PrivatePool {len(self._all)} open, {len(self._idle)} idle, {self.waiting} wait>"

    def __len__(self) -> int:
        return len(self._all)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def lease_nowait(self, proto: int, db: int = 0) -> Upstream | None:
        """A clean idle connection that speaks `proto` and is in `db` (ANY_DB: in any), or None."""
        for upstream in reversed(self._idle):
            if upstream.ready and upstream.proto == proto and (db == ANY_DB or upstream.fits(db)):
                self._idle.remove(upstream)
                self.leases += 1
                return upstream
        return None

    def _take_idle(self, proto: int, db: int) -> Upstream | None:
        """As above, or any other idle connection: `open` switches it."""
        self._idle = [upstream for upstream in self._idle if upstream.ready]
        upstream = self.lease_nowait(proto, db)
        if upstream is None and self._idle:
            self.leases += 1
            upstream = self._idle.pop()
        return upstream

    @property
    def waiting(self) -> int:
        """Clients that wait for a connection."""
        return len(self._queue)

    @property
    def wait_max_s(self) -> float:
        """How long a client may wait: the deadline, plus the time to open all connections."""
        return self.options.deadline_s + self.options.max_pinned / self.options.connect_rate

    @property
    def is_exhausted(self) -> bool:
        """Whether a client would have to wait for a connection that is given back."""
        return not self._idle and not self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self._all) < self.options.max_pinned

    async def connect(self, proto: int, db: int = 0) -> Upstream:
        """`turn` and `open`. Raises as they do."""
        return await self.open(await self.turn(proto, db), proto, db)

    async def turn(self, proto: int, db: int = 0) -> Upstream:
        """Wait until there is a connection for this client; `open` has to follow at once.

        Raises TierUnavailable, at once while the node is known to be down; NoPlace when all
        are in use, or `wait_max_s` passed.
        """
        self._gate.check()
        now = self._clock()
        if not self._queue:
            if (upstream := self._take_idle(proto, db)) is not None:
                return upstream
            if self._has_room and self._gate.take_token():
                return self._reserve()
        if self._is_stuck(now):
            raise self._all_in_use()
        self._gate.delayed += 1
        with self._queue.place(proto, db, now) as place:
            self._serve()
            try:
                return await place.got
            except asyncio.CancelledError:
                if place.got.done() and not place.got.cancelled() and not place.got.exception():
                    self.give_back(place.got.result())
                raise

    def _reserve(self) -> Upstream:
        """A place among all connections, for one that is about to be opened."""
        upstream = Upstream(self._clock, max_in_flight=self.options.max_in_flight)
        upstream.pipe.alarm = self.on_alarm
        upstream._on_closed = lambda reason: self._all.discard(upstream)
        self._all.add(upstream)
        return upstream

    def _serve(self) -> None:
        """Serve the first clients in the queue with what is available."""
        while (place := self._queue.first) is not None:
            upstream = self._take_idle(place.proto, place.db)
            if upstream is None:
                if not self._has_room:
                    return
                if not self._gate.take_token():
                    self._serve_later()
                    return
                upstream = self._reserve()
            self._queue.serve(place, upstream)

    def _serve_later(self) -> None:
        """Serve the queue when the bucket has the next token."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(1 / self.options.connect_rate, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._serve()

    def _is_stuck(self, now: float) -> bool:
        return not self._has_room and now - self._moved_at > MOVES_S

    def _all_in_use(self) -> NoPlace:
        return NoPlace(
            f"all {self.options.max_pinned} private connections (l2.max_pinned) are in use"
        )

    async def open(self, upstream: Upstream, proto: int, db: int = 0) -> Upstream:
        """Connect what `turn` returned, or switch it. Raises TierUnavailable, and ServerError
        if Redis refuses the database: then other clients may use the connection."""
        try:
            if not upstream.ready:
                await self._connect(upstream, proto)
            elif upstream.proto != proto:
                [reply] = await upstream.run([[b"HELLO", b"%d" % proto]])
                if reply.startswith(b"-"):
                    raise TierUnavailable(L2_REDIS, f"it refused HELLO {proto}")
                upstream.proto = proto
            if db == ANY_DB or upstream.fits(db):
                return upstream
            [reply] = await upstream.run([[b"SELECT", b"%d" % db]])
        except BaseException:
            self.discard(upstream)
            raise
        if reply != OK:
            self._keep(upstream)
            raise ServerError(reply[1:-2].decode("utf-8", "replace"))
        upstream.pipe.db = db
        return upstream

    async def _connect(self, upstream: Upstream, proto: int) -> None:
        try:
            commands = [*self._endpoint.login_commands(proto), [b"PING"], [b"CLIENT", b"ID"], WHO]
            replies = await upstream.open(self._endpoint, commands, self.options.connect_timeout_s)
        except TierUnavailable as failure:
            self.discard(upstream)
            self._gate.failed(failure)
            raise
        self._gate.succeeded()
        *replies, who = replies
        for reply in replies:
            # -BUSY: a script runs, and SCRIPT KILL has to get through now
            if reply.startswith(b"-") and not reply.startswith(b"-BUSY"):
                text = reply[1:-2].decode("utf-8", "replace")
                raise TierUnavailable(L2_REDIS, f"{self._endpoint} answered {text}")
        upstream.client_id = int(replies[-1][1:-2]) if replies[-1].startswith(b":") else 0
        self.opened += 1
        self.leases += 1
        self._moved_at = self._clock()
        upstream.ready = True
        upstream.proto = proto
        upstream.run_id = run_id_of(decode(who))
        self.on_identity(upstream.run_id)

    def give_back(self, upstream: Upstream) -> None:
        """The client is done with it: clean it, keep it if there is room.

        It is cleaned for the next client of its kind: in the same protocol and database.
        """
        upstream.on_owner_lost = None
        upstream.patient = False
        upstream.pipe.tap = None
        upstream.pipe.tap_all = False
        if not upstream.ready or len(upstream.pipe) or self._has_enough:
            self.discard(upstream)
            return
        db = max(upstream.pipe.db, 0)
        commands = [[b"RESET"], *self._endpoint.login_commands(upstream.proto)]
        if db:
            commands.append([b"SELECT", b"%d" % db])
        raw = b"".join(map(pack, commands))
        upstream.send(raw, _Cleaned(self, upstream, len(commands), db), ANY_DB, len(commands))

    @property
    def _has_enough(self) -> bool:
        return len(self._idle) >= self.options.max_idle_pinned and not self._queue

    def _on_cleaned(self, upstream: Upstream, clean: bool, db: int) -> None:
        if not clean:
            self.discard(upstream)
            return
        upstream.pipe.db = db
        self._keep(upstream)

    def _keep(self, upstream: Upstream) -> None:
        """Put a clean connection back for reuse."""
        if self._has_enough:
            self.discard(upstream)
            return
        self._moved_at = self._clock()
        self._idle.append(upstream)
        self._serve()

    def discard(self, upstream: Upstream) -> None:
        """Close it: Redis drops the command that it was waiting for."""
        upstream.on_owner_lost = None
        self._all.discard(upstream)
        self._moved_at = self._clock()
        upstream.abort("closed")

    def on_unreachable(self, failure: TierUnavailable) -> None:
        """The node is down: close idle connections, which may be dead without notice, and refuse
        the clients that wait for a new one."""
        if not self._gate.breaker.is_closed:
            self._queue.refuse(failure)
        self.drop_idle()

    def drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for upstream in idle:
            self.discard(upstream)

    def elsewhere(self, run_id: str) -> list[Upstream]:
        """The connections that reach another server than this one, leased or not."""
        return [upstream for upstream in self._all if upstream.run_id not in ("", run_id)]

    def watch(self, now: float) -> None:
        """Called several times a second: close connections whose oldest request passed its
        deadline, serve waiting clients, and refuse those that wait for too long."""
        for upstream in list(self._all):
            if now - self.silent_since(self._sent_at(upstream, now)) > self.options.deadline_s:
                reason = f"no reply within {self.options.deadline_s:g} s"
                self._gate.failed(TierUnavailable(L2_REDIS, reason, timed_out=True))
                upstream.abort(reason)
        self._serve()
        if self._is_stuck(now):
            self._queue.refuse(self._all_in_use())
        late = NoPlace(
            f"no private connection within {self.wait_max_s:g} s; see l2.connect_rate "
            "and l2.max_pinned"
        )
        self._queue.refuse(late, came_before=now - self.wait_max_s)

    @staticmethod
    def _sent_at(upstream: Upstream, otherwise: float) -> float:
        since = None if upstream.patient or not upstream.ready else upstream.pipe.waiting_since()
        return otherwise if since is None else since

    def owed_since(self, now: float) -> float:
        """When the oldest request that has a deadline was sent; `now` for none."""
        return min((self._sent_at(upstream, now) for upstream in self._all), default=now)

    def close(self) -> None:
        self._queue.refuse(TierUnavailable(L2_REDIS, "shutting down"))
        if self._timer is not None:
            self._timer.cancel()
        for upstream in list(self._all):
            self.discard(upstream)
        self._idle.clear()
