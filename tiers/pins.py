"""Private connections to Redis: leased one at a time, cleaned with RESET, or closed.

A lease is for one client (transactions, pub/sub, blocking commands, ...). It comes
back through `give_back`, which cleans it with RESET before anybody else gets it, or
through `discard`, which closes it: a connection whose waiter went away is never
reused, or a BLPOP would eat an element that nobody receives.

Who cannot have one now waits in a queue: for the bucket of the gate, or, when there are as
many connections as may be, for one that comes back. The latter only while they do come
back: where all are held by blocked or subscribed clients, waiting would be in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .connect_gate import ConnectGate
from .errors import TierUnavailable
from .options import L2Options
from .pin_queue import NoPlace, PinQueue
from .pipe import DISCARD
from .resp import pack
from .upstream import Endpoint, Upstream

MOVES_S = 0.25  # all are in use, and none was opened or given back for so long: none will be
_RESET = b"*1\r\n$5\r\nRESET\r\n"


class _Cleaned:
    """Waits for the +RESET of a connection that was given back."""

    def __init__(self, pool: PinPool, pin: Upstream) -> None:
        self._pool, self._pin = pool, pin

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self._pool._on_cleaned(self._pin, reply == b"+RESET\r\n")

    def on_lost(self, reason: str, sent: bool) -> None:
        pass  # _on_closed does the accounting


class PinPool:
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
        self._queue = PinQueue()
        self._timer: asyncio.TimerHandle | None = None  # of the next token
        self._moved_at = float("-inf")  # one was opened, or came back
        self.opened = 0
        self.leases = 0

    def __repr__(self) -> str:
        return f"<PinPool {len(self._all)} open, {len(self._idle)} idle, {self.waiting} wait>"

    def __len__(self) -> int:
        return len(self._all)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def lease_nowait(self, proto: int) -> Upstream | None:
        """A clean idle connection, switched to `proto`, or None."""
        while self._idle:
            pin = self._idle.pop()
            if pin.ready:
                self.leases += 1
                pin.proto = proto
                for command in self._endpoint.login_commands(proto):
                    pin.send(pack(command), DISCARD, 0)
                return pin
        return None

    @property
    def waiting(self) -> int:
        """Clients that wait for a connection."""
        return len(self._queue)

    @property
    def wait_max_s(self) -> float:
        """How long a client may wait: the deadline, and what the rate takes to make them all."""
        return self.options.deadline_s + self.options.max_pinned / self.options.connect_rate

    @property
    def is_exhausted(self) -> bool:
        """Whether a client would have to wait until one comes back."""
        return not self._idle and not self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self._all) < self.options.max_pinned

    async def connect(self, proto: int) -> Upstream:
        """`turn` and `open`. Raises as they do."""
        return await self.open(await self.turn(proto), proto)

    async def turn(self, proto: int) -> Upstream:
        """Wait until there is a connection for this client; `open` has to follow at once.

        Raises TierUnavailable, at once while the node is known to be down; NoPlace when all
        are in use, or `wait_max_s` passed.
        """
        self._gate.check()
        now = self._clock()
        if not self._queue:
            if (pin := self.lease_nowait(proto)) is not None:
                return pin
            if self._has_room and self._gate.take_token():
                return self._reserve()
        if self._is_stuck(now):
            raise self._all_in_use()
        self._gate.delayed += 1
        with self._queue.place(proto, now) as place:
            self._serve()
            try:
                return await place.got
            except asyncio.CancelledError:
                if place.got.done() and not place.got.cancelled() and not place.got.exception():
                    self.give_back(place.got.result())
                raise

    def _reserve(self) -> Upstream:
        """A place among all connections, for one that is about to be opened."""
        pin = Upstream(self._clock, max_in_flight=self.options.max_in_flight)
        pin._on_closed = lambda reason: self._all.discard(pin)
        self._all.add(pin)
        return pin

    def _serve(self) -> None:
        """Give the first ones in the queue what there is."""
        while (place := self._queue.first) is not None:
            pin = self.lease_nowait(place.proto)
            if pin is None:
                if not self._has_room:
                    return
                if not self._gate.take_token():
                    self._serve_later()
                    return
                pin = self._reserve()
            self._queue.serve(place, pin)

    def _serve_later(self) -> None:
        """When the bucket has the next token."""
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

    async def open(self, pin: Upstream, proto: int) -> Upstream:
        """Connect what `turn` returned, unless it is connected. Raises TierUnavailable."""
        if pin.ready:
            return pin
        try:
            commands = [*self._endpoint.login_commands(proto), [b"PING"], [b"CLIENT", b"ID"]]
            replies = await pin.open(self._endpoint, commands, self.options.connect_timeout_s)
        except BaseException as failure:
            self.discard(pin)
            if isinstance(failure, TierUnavailable):
                self._gate.failed(failure)
            raise
        self._gate.succeeded()
        for reply in replies:
            # -BUSY: a script runs; SCRIPT KILL has to get through just then
            if reply.startswith(b"-") and not reply.startswith(b"-BUSY"):
                self.discard(pin)
                text = reply[1:-2].decode("utf-8", "replace")
                raise TierUnavailable("L2 (redis)", f"{self._endpoint} answered {text}")
        pin.client_id = int(replies[-1][1:-2]) if replies[-1].startswith(b":") else 0
        self.opened += 1
        self.leases += 1
        self._moved_at = self._clock()
        pin.ready = True
        pin.proto = proto
        return pin

    def give_back(self, pin: Upstream) -> None:
        """The client is done with it: clean it, keep it if there is room."""
        pin.on_owner_lost = None
        pin.patient = False
        pin.pipe.tap = None
        pin.pipe.tap_all = False
        enough = len(self._idle) >= self.options.max_idle_pinned and not self._queue
        if not pin.ready or len(pin.pipe) or enough:
            self.discard(pin)
            return
        pin.send(_RESET, _Cleaned(self, pin), pin.pipe.db)

    def _on_cleaned(self, pin: Upstream, clean: bool) -> None:
        if not clean:
            self.discard(pin)
            return
        pin.pipe.db = 0
        self._moved_at = self._clock()
        self._idle.append(pin)
        self._serve()

    def discard(self, pin: Upstream) -> None:
        """Close it: Redis drops whatever it was waiting for."""
        pin.on_owner_lost = None
        self._all.discard(pin)
        self._moved_at = self._clock()
        pin.abort("closed")

    def on_unreachable(self, failure: TierUnavailable) -> None:
        """The node is down: what was connected before may be dead, and would be found out only
        when it owes a client its reply; nobody waits for a new one."""
        if not self._gate.breaker.is_closed:
            self._queue.refuse(failure)
        idle, self._idle = self._idle, []
        for pin in idle:
            self.discard(pin)

    def watch(self, now: float) -> None:
        """Called several times a second: end those whose oldest request passed its deadline, serve
        those that wait, and refuse those that wait for too long."""
        for pin in list(self._all):
            since = None if pin.patient or not pin.ready else pin.pipe.waiting_since()
            if since is not None and now - since > self.options.deadline_s:
                reason = f"no reply within {self.options.deadline_s:g} s"
                self._gate.failed(TierUnavailable("L2 (redis)", reason, timed_out=True))
                pin.abort(reason)
        self._serve()
        if self._is_stuck(now):
            self._queue.refuse(self._all_in_use())
        late = NoPlace(
            f"no private connection within {self.wait_max_s:g} s; see l2.connect_rate "
            "and l2.max_pinned"
        )
        self._queue.refuse(late, came_before=now - self.wait_max_s)

    def close(self) -> None:
        self._queue.refuse(TierUnavailable("L2 (redis)", "shutting down"))
        if self._timer is not None:
            self._timer.cancel()
        for pin in list(self._all):
            self.discard(pin)
        self._idle.clear()
