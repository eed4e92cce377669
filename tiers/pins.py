"""Private connections to Redis: leased one at a time, cleaned with RESET, or closed.

A lease is for one client (transactions, pub/sub, blocking commands, ...). It comes
back through `give_back`, which cleans it with RESET before anybody else gets it, or
through `discard`, which closes it: a connection whose waiter went away is never
reused, or a BLPOP would eat an element that nobody receives.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from .connect_gate import ConnectGate
from .errors import TierUnavailable
from .options import L2Options
from .pipe import DISCARD
from .resp import pack
from .upstream import Endpoint, Upstream

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
        self.opened = 0
        self.leases = 0

    def __repr__(self) -> str:
        return f"<PinPool {len(self._all)} open, {len(self._idle)} idle>"

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

    def connect(self, proto: int) -> Coroutine[Any, Any, Upstream]:
        """A new connection. Raises TierUnavailable, also when all are in use, and at once
        while the node is known to be down."""
        if len(self._all) >= self.options.max_pinned:
            raise TierUnavailable(
                "L2 (redis)",
                f"all {self.options.max_pinned} private connections (l2.max_pinned) are in use",
            )
        self._gate.check()
        return self._connect(proto)

    async def _connect(self, proto: int) -> Upstream:
        pin = Upstream(self._clock, max_in_flight=self.options.max_in_flight)
        pin._on_closed = lambda reason: self._all.discard(pin)
        self._all.add(pin)
        try:
            await self._gate.pace()
            commands = [*self._endpoint.login_commands(proto), [b"PING"], [b"CLIENT", b"ID"]]
            replies = await pin.open(self._endpoint, commands, self.options.connect_timeout_s)
        except BaseException as failure:
            self._all.discard(pin)
            pin.abort("not needed any more")
            if isinstance(failure, TierUnavailable):
                self._gate.failed(failure)
            raise
        self._gate.succeeded()
        for reply in replies:
            # -BUSY: a script runs; SCRIPT KILL has to get through just then
            if reply.startswith(b"-") and not reply.startswith(b"-BUSY"):
                pin.abort("handshake refused")
                self._all.discard(pin)
                text = reply[1:-2].decode("utf-8", "replace")
                raise TierUnavailable("L2 (redis)", f"{self._endpoint} answered {text}")
        pin.client_id = int(replies[-1][1:-2]) if replies[-1].startswith(b":") else 0
        self.opened += 1
        self.leases += 1
        pin.ready = True
        pin.proto = proto
        return pin

    def give_back(self, pin: Upstream) -> None:
        """The client is done with it: clean it, keep it if there is room."""
        pin.on_owner_lost = None
        pin.patient = False
        pin.pipe.tap = None
        pin.pipe.tap_all = False
        if not pin.ready or len(pin.pipe) or len(self._idle) >= self.options.max_idle_pinned:
            self.discard(pin)
            return
        pin.send(_RESET, _Cleaned(self, pin), pin.pipe.db)

    def _on_cleaned(self, pin: Upstream, clean: bool) -> None:
        if not clean:
            self.discard(pin)
            return
        pin.pipe.db = 0
        self._idle.append(pin)

    def discard(self, pin: Upstream) -> None:
        """Close it: Redis drops whatever it was waiting for."""
        pin.on_owner_lost = None
        self._all.discard(pin)
        pin.abort("closed")

    def drop_idle(self) -> None:
        """The node failed: what was connected before may be dead, and would be found out only
        when it owes a client its reply."""
        idle, self._idle = self._idle, []
        for pin in idle:
            self.discard(pin)

    def watch(self, now: float) -> None:
        """Called every few ms: end those whose oldest request passed its deadline."""
        for pin in list(self._all):
            since = None if pin.patient or not pin.ready else pin.pipe.waiting_since()
            if since is not None and now - since > self.options.deadline_s:
                reason = f"no reply within {self.options.deadline_s:g} s"
                self._gate.failed(TierUnavailable("L2 (redis)", reason, timed_out=True))
                pin.abort(reason)

    def close(self) -> None:
        for pin in list(self._all):
            self.discard(pin)
        self._idle.clear()
