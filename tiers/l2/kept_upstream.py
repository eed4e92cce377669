"""A shared connection to Redis that reconnects, with a deadline for its replies.

The node's gate decides when to try again. Every attempt resolves the name anew. The
callbacks for transitions run synchronously, in stream order, because L1's coherence
depends on them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from ..base import L2_REDIS
from ..errors import ProtocolError, TierUnavailable
from ..guard.connect_gate import ConnectGate
from ..options import L2Options
from ..wire.pipe import DISCARD, Waiter
from ..wire.resp import decode
from .node import WHO, run_id_of
from .upstream import ANY_DB, Endpoint, Upstream

log = logging.getLogger("terrace.l2")

BEGUN_TOO_EARLY = "begun before the server was back"


class KeptUpstream:
    """A shared connection that is kept open; `gate` is that of its node.

    `handshake` runs after the login; `accept` gets its decoded replies and returns ""
    or the reason why the connection is unusable. `on_ready(sent_at)` and `on_down()`
    are called once per transition, synchronously in stream order.
    """

    for_scripts = False

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        options: L2Options,
        gate: ConnectGate,
        *,
        proto: int,
        clock: Callable[[], float],
        handshake: Sequence[list[bytes]] = (),
        accept: Callable[[list[Any]], str] | None = None,
        on_ready: Callable[[float], None] | None = None,
        on_down: Callable[[], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
        tap: Callable[[bytes], bool] | None = None,
        roams: bool = False,
    ) -> None:
        self.name = name
        self.proto = proto
        self._endpoint = endpoint
        self.options = options
        self._gate = gate
        self._clock = clock
        self._handshake = list(handshake)
        self._accept = accept
        self._on_ready = on_ready
        self._on_down = on_down
        self._on_progress = on_progress
        self._tap = tap
        self._roams = roams
        self._closed = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None  # to connect, under way
        self.connected = asyncio.Event()
        self.reconnects = 0
        self.lost_at = 0.0
        self.server: dict[bytes, Any] = {}  # the reply to HELLO 3
        self.run_id = ""  # of the server; "" not known
        self.on_identity: Callable[[str], None] = lambda run_id: None
        self.on_alarm: Callable[[bytes], None] = lambda error: None
        self.on_switch: Callable[[], None] = lambda: None  # another `upstream` serves from now on
        self.upstream = self._new()
        self.send, self.read = self.upstream.send, self.upstream.read

    def __repr__(self) -> str:
        return f"<KeptUpstream {self.name} {self.upstream!r}>"

    @property
    def ready(self) -> bool:
        return self.upstream.ready

    @property
    def reason(self) -> str:
        return self.upstream.reason

    def _new(self) -> Upstream:
        upstream = Upstream(
            self._clock,
            on_closed=self._on_lost,
            on_progress=self._on_progress,
            max_in_flight=self.options.max_in_flight,
        )
        upstream.pipe.alarm = lambda error: self.on_alarm(error)
        upstream.proto, upstream.roams = self.proto, self._roams
        # A push that no code here expects is no reply to a request.
        upstream.pipe.tap = self._tap or (lambda frame: True)
        return upstream

    def _on_lost(self, reason: str) -> None:
        self.connected.clear()
        self.lost_at = self._clock()
        if self._on_down is not None:
            self._on_down()
        self._closed.set()

    async def keep(self) -> None:
        """Stay connected until cancelled."""
        backoff_s = self.options.backoff_min_s
        logged = ""
        try:
            while True:
                self._closed.clear()
                await self._gate.wait_turn()
                problem = await self._connect_once()
                if not problem:
                    if logged or self.reconnects == 0:
                        log.info("%s connected to %s", self.name, self._endpoint)
                    logged, backoff_s = "", self.options.backoff_min_s
                    self.reconnects += 1
                    await self._closed.wait()
                    problem = self.reason
                elif problem is BEGUN_TOO_EARLY or not self._gate.breaker.is_closed:
                    continue  # the gate has logged the reason, and decides when to try again
                if problem != logged:
                    log.warning("%s: %s; reconnecting", self.name, problem)
                    logged = problem
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
                backoff_s = min(backoff_s * 2, self.options.backoff_max_s)
        finally:
            self.upstream.abort("shutting down")

    def on_unreachable(self, reason: str) -> None:
        """The node is out of reach: set the reason with which requests are refused."""
        if not self.ready:
            self.upstream.reason = reason

    def retry(self) -> None:
        """The node answers again: give up on an attempt that began while it did not."""
        if self._attempt is not None:
            self._attempt.reschedule(asyncio.get_running_loop().time())

    async def _connect_once(self) -> str:
        """Try once; return "" or the problem. The gate gets the result of the attempt."""
        upstream = self._new()
        upstream.reason = self.upstream.reason
        # PING comes last: a server that is loading its data answers the rest, but not PING.
        login = self._endpoint.login_commands(self.proto)
        commands = [*login, WHO, *self._handshake, [b"PING"]]
        sent_at = self._clock()
        try:
            async with asyncio.timeout(None) as self._attempt:
                replies = await upstream.open(
                    self._endpoint, commands, self.options.connect_timeout_s
                )
            problem = self._read_handshake(replies, len(login))
        except TimeoutError:
            upstream.abort(BEGUN_TOO_EARLY)
            return BEGUN_TOO_EARLY
        except TierUnavailable as failure:
            self._give_up(upstream, failure.reason)
            self._gate.failed(failure)
            return failure.reason
        finally:
            self._attempt = None
        if problem:
            self._give_up(upstream, problem)
        else:
            self.upstream = upstream
            self.send, self.read = upstream.send, upstream.read
            self.on_switch()
            upstream.ready = True
            self.connected.set()
            if self._on_ready is not None:
                self._on_ready(sent_at)
        self._gate.succeeded()
        if not problem:
            self.on_identity(self.run_id)
        return problem

    def _read_handshake(self, replies: list[bytes], logins: int) -> str:
        """The problem that makes the connection unusable; "" for none.

        Raises TierUnavailable if the node refuses the login, or is no Redis.
        """
        try:
            decoded = [decode(reply) for reply in replies]
            if refusal := self._refusal(decoded, logins):
                raise TierUnavailable(L2_REDIS, refusal)
            if self.proto == 3 and isinstance(decoded[0], dict):
                self.server = decoded[0]
            self.run_id = run_id_of(decoded[logins])
            return self._accept(decoded[logins + 1 : -1]) if self._accept is not None else ""
        except (ProtocolError, TypeError, ValueError, LookupError, AttributeError) as error:
            # The loop has to continue, even if another kind of server answers there.
            reason = f"{self._endpoint} does not answer as Redis does ({type(error).__name__})"
            raise TierUnavailable(L2_REDIS, reason) from error

    def _give_up(self, upstream: Upstream, reason: str) -> None:
        upstream.abort(reason)
        self.upstream.reason = reason

    def _refusal(self, replies: list[Any], logins: int) -> str:
        """Why the node refuses the login; "" if it does not."""
        for reply in [*replies[:logins], replies[-1]]:
            if isinstance(reply, Exception) and not str(reply).startswith("BUSY "):
                return f"{self._endpoint} answered {reply}"
        return ""

    def watch(self, now: float) -> None:
        """Called every few ms: close a connection that stopped answering, probe an idle one."""
        upstream = self.upstream
        if not upstream.ready:
            return
        since = upstream.pipe.waiting_since()
        if since is not None:
            if now - since > self.options.deadline_s:
                reason = f"no reply within {self.options.deadline_s:g} s"
                self._gate.failed(TierUnavailable(L2_REDIS, reason, timed_out=True))
                upstream.abort(reason)
        elif now - upstream.pipe.last_sent_at > self.options.ping_interval_s:
            self.ping()

    def ping(self, waiter: Waiter = DISCARD) -> None:
        self.upstream.send(b"*1\r\n$4\r\nPING\r\n", waiter, ANY_DB)

    def fits(self, db: int) -> bool:
        return self.upstream.pipe.fits(db)
