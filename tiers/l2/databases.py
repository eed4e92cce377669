"""Shared connections in databases other than 0: opened by their first command, closed when idle.

Each stays in the one database that its handshake has selected, and sends nothing before
Redis has confirmed that. So a command can only run in the database of its client, even if
Redis refuses a SELECT. A refusal is the reply to the commands of that database only.

Reads that fill L1 do not use these connections: they take the tracked connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from ..base import L2_REDIS
from ..errors import TierUnavailable
from ..guard.connect_gate import ConnectGate
from ..options import L2Options
from ..tasks import TaskSet
from ..wire.pipe import UpstreamPipe, Waiter
from ..wire.resp import OK, decode
from .kept_upstream import KeptUpstream
from .node import WHO, run_id_of
from .upstream import ANY_DB, Endpoint, Upstream

log = logging.getLogger("terrace.l2")

OPEN_MAX = 64  # open connections; above it, the one idle for longest is closed, or the caller waits
PLACE_WAIT_S = 1.0  # for a connection to become idle
IDLE_S = 60.0  # a connection without a command for so long is closed
REFUSAL_REST_S = 0.1  # pause before a refused database is selected again


class DatabaseUpstream:
    """A connection in one database (ANY_DB: in any; it tries SELECTs)."""

    def __init__(self, databases: Databases, db: int, proto: int) -> None:
        self.db = db
        self.proto = proto
        self.for_scripts = databases.for_scripts
        self.used_at = 0.0
        self.upstream = databases.new(proto)
        self._databases = databases
        self._opening = False
        self._waiting: list[tuple[bytes, Waiter, int]] = []  # until it is open
        self._refusal = b""
        self._rests_until = 0.0

    def __repr__(self) -> str:
        return f"<DatabaseUpstream {self.db} {self.upstream!r}>"

    @property
    def ready(self) -> bool:
        """Whether it accepts commands: it is open, or Redis is up, so that it can open."""
        return self.upstream.ready or self._databases.base[self.proto].ready

    @property
    def reason(self) -> str:
        return self._databases.base[self.proto].reason

    @property
    def is_idle(self) -> bool:
        return not self.load

    @property
    def load(self) -> int:
        """Outstanding replies."""
        return len(self.upstream.pipe) or len(self._waiting) or self._opening

    @property
    def rests_since(self) -> float:
        return max(self.used_at, self.upstream.pipe.last_sent_at)

    def fits(self, db: int) -> bool:
        return db == self.db

    def send(self, raw: bytes, waiter: Waiter, db: int = 0, replies: int = 1) -> None:
        """As `Upstream.send`; the reply for a refused database is Redis' own error."""
        self.used_at = now = self._databases.clock()
        if db != self.db:
            waiter.on_lost(f"its connection is not in database {db}", False)
        elif self.upstream.ready:
            self.upstream.send(raw, waiter, db, replies)
        elif self._refusal and now < self._rests_until:
            _refuse(self._refusal, waiter, replies)
        elif len(self._waiting) >= self._databases.options.max_in_flight:
            waiter.on_lost("too many requests wait for Redis", False)
        else:
            self._waiting.append((raw, waiter, replies))
            if not self._opening:
                self._opening = True
                self._databases.tasks.start(f"L2 database {self.db}", self._open())

    read = send

    async def _open(self) -> None:
        upstream, refusal, reason = self._databases.new(self.proto), b"", "not needed any more"
        try:
            refusal = await self._databases.open(upstream, self.db)
            reason = ""
        except TierUnavailable as failure:
            reason = failure.reason
        finally:
            self._opening = False
            waiting, self._waiting = self._waiting, []
            self._refusal = refusal
            if reason or refusal:
                upstream.abort(reason or "its database was refused")
            else:
                self.upstream = upstream
                upstream.ready = True
            if refusal:
                self._rests_until = self._databases.clock() + REFUSAL_REST_S
            for raw, waiter, replies in waiting:
                if reason:
                    waiter.on_lost(reason, False)
                elif refusal:
                    _refuse(refusal, waiter, replies)
                else:
                    upstream.send(raw, waiter, self.db, replies)


def _refuse(refusal: bytes, waiter: Waiter, replies: int) -> None:
    for _ in range(replies):
        waiter.on_reply(refusal, 0.0)


class Databases:
    """The connections of one worker in other databases than 0, by database and protocol.

    `base` are the connections in database 0: while they are down, none of these is opened.
    """

    for_scripts = False
    described_as = "to databases other than 0"

    def __init__(
        self,
        endpoint: Endpoint,
        options: L2Options,
        gate: ConnectGate,
        base: Mapping[int, KeptUpstream],
        *,
        clock: Callable[[], float],
        tasks: TaskSet,
        name: bytes,
    ) -> None:
        self.options = options
        self.base = base
        self.clock = clock
        self.tasks = tasks
        self._endpoint = endpoint
        self._gate = gate
        self._name = name
        self._all: dict[tuple[int, ...], DatabaseUpstream] = {}
        self._connecting = 0
        self._queue: deque[asyncio.Future[None]] = deque()  # for a place among OPEN_MAX
        self.refusals = 0
        self.on_identity: Callable[[str], None] = lambda run_id: None
        self.on_alarm: Callable[[bytes], None] | None = None
        self.scout = DatabaseUpstream(self, ANY_DB, 2)  # asks about databases, and runs nothing

    def __repr__(self) -> str:
        return f"<Databases {len(self)} open of {len(self._all)}>"

    def __len__(self) -> int:
        """The number of open connections."""
        return sum(each.upstream.ready for each in self._each())

    def _each(self) -> list[DatabaseUpstream]:
        return [*self._all.values(), self.scout]

    def at(self, db: int, proto: int) -> DatabaseUpstream:
        """The connection in this database, open or not."""
        return self._all.get((db, proto)) or self._add(db, proto)

    def _add(self, db: int, proto: int, *number: int) -> DatabaseUpstream:
        added = self._all[db, proto, *number] = DatabaseUpstream(self, db, proto)
        added.used_at = self.clock()
        return added

    def new(self, proto: int) -> Upstream:
        upstream = Upstream(self.clock, max_in_flight=self.options.max_in_flight)
        upstream.proto = proto
        upstream.pipe.alarm = self.on_alarm
        upstream.pipe.tap = lambda frame: True  # a push answers nothing
        return upstream

    async def open(self, upstream: Upstream, db: int) -> bytes:
        """Connect and select; return Redis' error if it refuses the database, else b"".

        Raises TierUnavailable.
        """
        async with self._place():
            return await self._connect(upstream, db)

    async def _connect(self, upstream: Upstream, db: int) -> bytes:
        self._gate.check()
        login = self._endpoint.login_commands(upstream.proto)
        name = [b"CLIENT", b"SETNAME", self._name]
        select = [] if db in (ANY_DB, 0) else [[b"SELECT", b"%d" % db]]
        try:
            await self._gate.pace()
            replies = await upstream.open(
                self._endpoint, [*login, name, WHO, *select], self.options.connect_timeout_s
            )
        except BaseException as failure:
            upstream.abort("not needed any more")
            if isinstance(failure, TierUnavailable):
                self._gate.failed(failure)
            raise
        self._gate.succeeded()
        for reply in replies[: len(login)]:
            if reply.startswith(b"-"):
                text = reply[1:-2].decode("utf-8", "replace")
                raise TierUnavailable(L2_REDIS, f"{self._endpoint} answered {text}")
        upstream.run_id = run_id_of(decode(replies[len(login) + 1]))
        self.on_identity(upstream.run_id)
        if select and replies[-1] != OK:
            self.refusals += 1
            return replies[-1]
        upstream.pipe.db = max(db, 0)
        return b""

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place among OPEN_MAX. Raises TierUnavailable if all stay busy."""
        if self._queue or not self._has_room():
            place = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            try:
                async with asyncio.timeout(PLACE_WAIT_S):
                    await place
            except BaseException as failure:
                if place.done() and not place.cancelled():
                    self._connecting -= 1
                if not isinstance(failure, TimeoutError):
                    raise
                reason = f"all {OPEN_MAX} connections {self.described_as} are busy"
                raise TierUnavailable(L2_REDIS, reason) from None
        else:
            self._connecting += 1
        try:
            yield
        finally:
            self._connecting -= 1

    def _has_room(self) -> bool:
        """Whether one more may be opened; closes the one that is idle for longest if needed."""
        is_open = [each for each in self._each() if each.upstream.ready]
        if len(is_open) + self._connecting < OPEN_MAX:
            return True
        resting = [each for each in is_open if each.is_idle]
        if not resting:
            return False
        longest = min(resting, key=lambda each: each.rests_since)
        longest.upstream.abort("made room for another database")
        return True

    def _serve_queue(self) -> None:
        while self._queue and (self._queue[0].done() or self._has_room()):
            place = self._queue.popleft()
            if not place.done():
                self._connecting += 1
                place.set_result(None)

    def elsewhere(self, run_id: str) -> list[Upstream]:
        """The open connections that reach another server than this one."""
        ready = [each.upstream for each in self._each() if each.upstream.ready]
        return [upstream for upstream in ready if upstream.run_id not in ("", run_id)]

    @property
    def pipes(self) -> list[UpstreamPipe]:
        return [each.upstream.pipe for each in self._each()]

    def watch(self, now: float) -> None:
        """Called every few ms: close idle connections and those with an expired request."""
        for key, each in list(self._all.items()):
            self._watch(each, now)
            if each.is_idle and now - each.rests_since > IDLE_S:
                each.upstream.abort("idle")
                self._forget(key)
        self._watch(self.scout, now)
        if self.scout.is_idle and now - self.scout.rests_since > IDLE_S:
            self.scout.upstream.abort("idle")
        self._serve_queue()

    def _forget(self, key: tuple[int, ...]) -> None:
        del self._all[key]

    def _watch(self, each: DatabaseUpstream, now: float) -> None:
        since = self._silent_since(each)
        if since is not None and now - since > self.options.deadline_s:
            reason = f"no reply within {self.options.deadline_s:g} s"
            self._gate.failed(TierUnavailable(L2_REDIS, reason, timed_out=True))
            each.upstream.abort(reason)

    def _silent_since(self, each: DatabaseUpstream) -> float | None:
        return each.upstream.pipe.waiting_since()

    def close(self, reason: str = "shutting down") -> None:
        """Close all connections; the next command opens its own again."""
        for each in self._each():
            each.upstream.abort(reason)
