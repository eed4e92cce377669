"""L2: the Redis server, over a few shared pipelined connections and a pool of private ones.

Shared connections: one *tracked* connection (RESP3 with CLIENT TRACKING; it fills L1 and
carries its invalidations), one *plain* connection per protocol version, whose replies are
passed on byte for byte, and plain connections for each other database in use (`databases`).
Private connections serve transactions, pub/sub, blocking commands and MONITOR, which need
a connection of their own.

As a tier: get/set/delete of strings in database 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from ..base import L2, L2_REDIS, Kind, Outcome, Size
from ..errors import TierUnavailable
from ..guard.connect_gate import ConnectGate
from ..l1.coherence import Coherence
from ..l1.hash_fields import PROBE, fields_expire
from ..l1.namespaces import Namespace
from ..options import L2Options
from ..periodic import Janitor
from ..tasks import TaskSet
from ..wire.pipe import UpstreamPipe
from ..wire.resp import decode
from ..wire.server_limits import QUESTIONS, ServerLimits
from .busy import Busy
from .commands import L2Commands
from .databases import Databases
from .kept_upstream import KeptUpstream
from .node import MOVED, Node
from .private import PrivatePool
from .script_lanes import ScriptLanes
from .upstream import Endpoint, Upstream

log = logging.getLogger("terrace.l2")

TICK_S = 0.05
STALL_S = 0.25  # if a reply is later than this, L1 may serve suspect entries
CLIENT_NAME = b"terrace"
_INVALIDATE_ONE = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$"


class L2Redis(L2Commands):
    """The shared connections, the private ones, and Terrace's own commands.

    `coherence` is None if L1 is off: then nothing is tracked. If the server refuses to track,
    a finite `fallback_age_s` bounds the age of L1's entries; an infinite one turns L1 off.
    """

    name = L2

    def __init__(
        self,
        options: L2Options,
        *,
        clock: Callable[[], float],
        coherence: Coherence | None,
        fallback_age_s: float = inf,
    ) -> None:
        self.options = options
        self.endpoint = Endpoint.from_options(options)
        self.coherence = coherence
        self.clock = clock
        self._tasks = TaskSet("l2")
        self.follow_staleness()
        self._fallback_age_s = fallback_age_s
        self._refusal = ""  # of CLIENT TRACKING
        self.command_counts: object = None  # the reply to INFO right after CLIENT TRACKING
        self.l1_mode = "off" if coherence is None else "connecting"
        self.fields_expire = True  # hash fields may end before their key, unless known better
        self.known_dbs = {0}  # databases that SELECT has accepted: for times without Redis
        self.on_connect: list[Callable[[], None]] = []  # called when Redis answers (again)
        self.stalled = False  # a reply on a shared connection is later than STALL_S
        self.limits = ServerLimits()
        self.gate = ConnectGate(str(self.endpoint), options, clock)
        self.plain = {
            2: self._kept("L2 plain RESP2", 2),
            3: self._kept(
                "L2 plain RESP3",
                3,
                QUESTIONS,
                accept=self._accept_limits,
                on_ready=self._on_plain_ready,
            ),
        }
        self.tracked = self._made_tracked(coherence) if coherence is not None else None
        where = (self.endpoint, options, self.gate, self.plain)
        how: dict[str, Any] = {"clock": clock, "tasks": self._tasks, "name": CLIENT_NAME}
        self.busy = Busy(clock, self.plain[3])
        self.databases = Databases(*where, **how)
        self.scripts = ScriptLanes(*where, **how, busy=self.busy)
        self.private = PrivatePool(self.endpoint, options, self.gate, clock)
        self.pools: tuple[Databases | PrivatePool, ...] = (
            self.databases,
            self.scripts,
            self.private,
        )
        self.node = Node(
            self.endpoint, options, self.gate, clock,
            others=lambda run_id: bool(self._elsewhere(run_id)), move=self._move,
        )  # fmt: skip
        self._connect_parts()

    def _kept(
        self, name: str, proto: int, handshake: Sequence[list[bytes]] = (), **more: Any
    ) -> KeptUpstream:
        """A shared connection; `handshake` are its commands after CLIENT SETNAME."""
        return KeptUpstream(
            name, self.endpoint, self.options, self.gate, proto=proto, clock=self.clock,
            handshake=[[b"CLIENT", b"SETNAME", CLIENT_NAME], *handshake], **more,
        )  # fmt: skip

    def _made_tracked(self, coherence: Coherence) -> KeptUpstream:
        return self._kept(
            "L2 tracked",
            3,
            [
                PROBE,
                [b"CLIENT", b"NO-EVICT", b"ON"],
                [b"CLIENT", b"TRACKING", b"ON"],
                [b"INFO", b"commandstats"],
            ],
            accept=self._accept_tracking,
            on_ready=self._on_tracked_ready,
            on_down=self._on_tracked_down,
            on_progress=coherence.on_reply,
            tap=self._on_push,
            roams=True,
        )

    def _connect_parts(self) -> None:
        """Connect the callbacks of the parts."""
        self.busy.pass_on = self.node.suspect
        for kept_one in self.shared:
            kept_one.on_identity, kept_one.on_alarm = self.node.found, self.busy.hear
        for pool in self.pools:
            pool.on_identity, pool.on_alarm = self.node.found, self.busy.hear
        self.private.silent_since = self.busy.silent_since
        self.gate.on_failure = self._on_unreachable
        self.gate.on_open = self._on_reachable

    def __repr__(self) -> str:
        return f"<L2Redis {self.endpoint} {self.state}>"

    # Life

    async def start(self) -> None:
        """Start connecting; return at once, even if Redis is down."""
        for kept in self.shared:
            self._tasks.start(kept.name, kept.keep())
        Janitor(self._tasks).register("ticker", TICK_S, self._watch_connections)
        self._tasks.start("node", self.node.keep())

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until Redis answers, at most `timeout_s`; return whether it does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for kept in self.shared:
                    await kept.connected.wait()
        return self.ready

    async def close(self) -> None:
        await self._tasks.close()
        for pool in self.pools:
            pool.close()

    def adopt(self, options: L2Options) -> None:
        """Take other deadlines and limits; the address of Redis must not differ."""
        self.options = options
        for each in (*self.shared, *self.pools):
            each.options = options

    def follow_staleness(self) -> None:
        """L1's bound may have changed: adapt the keep-alive of the watermark."""
        coherence = self.coherence
        self._ping_after_s = coherence.max_staleness_s / 3 if coherence is not None else 0.0

    @property
    def shared(self) -> list[KeptUpstream]:
        """The shared connections."""
        return [*self.plain.values(), *([self.tracked] if self.tracked else [])]

    @property
    def lost_at(self) -> float:
        """When a shared connection was last lost."""
        return max(kept.lost_at for kept in self.shared)

    @property
    def ready(self) -> bool:
        return self.plain[2].ready and self.plain[3].ready

    @property
    def state(self) -> str:
        return "ready" if self.ready else f"down: {self.reason}"

    @property
    def reason(self) -> str:
        return self.plain[2].reason if not self.plain[2].ready else self.plain[3].reason

    @property
    def server_version(self) -> str:
        """The version of Redis; a plausible one before the first connection."""
        return _text(self.server.get(b"version", b"7.0.0"))

    @property
    def server(self) -> Mapping[bytes, Any]:
        """Redis' reply to HELLO; empty before the first connection."""
        return self.plain[3].server

    def _watch_connections(self) -> None:
        now = self.clock()
        for kept in self.shared:
            kept.watch(now)
        self.busy.watch(now, min(self.scripts.owed_since(now), self.private.owed_since(now)))
        for pool in self.pools:
            pool.watch(now)
        waiting = [pipe.waiting_since() for pipe in self._pipes()]
        self._note_stall(any(since is not None and now - since > STALL_S for since in waiting))

    def _pipes(self) -> list[UpstreamPipe]:
        """The pipes of all shared connections, without those for scripts."""
        return [*(kept.upstream.pipe for kept in self.shared), *self.databases.pipes]

    def _note_stall(self, stalled: bool) -> None:
        if stalled != self.stalled:
            self.stalled = stalled
            if stalled:
                for pipe in self._pipes():
                    pipe.answer_early()
                log.warning("%s is more than %g s late with replies: L1 answers the reads that "
                            "it can, as if Redis were down", L2_REDIS, STALL_S)  # fmt: skip
            elif self.ready:
                log.info("%s answers in time again", L2_REDIS)

    def _on_unreachable(self, reason: str) -> None:
        self.private.on_unreachable(TierUnavailable(L2_REDIS, reason))
        for kept in self.shared:
            kept.on_unreachable(reason)

    def _on_reachable(self) -> None:
        for kept in self.shared:
            kept.retry()

    def _elsewhere(self, run_id: str) -> list[Upstream]:
        """Connections of every kind that reach another server than this one."""
        kept = [kept for kept in self.shared if kept.ready and kept.run_id not in ("", run_id)]
        pooled = [each for pool in self.pools for each in pool.elsewhere(run_id)]
        return [*(each.upstream for each in kept), *pooled]

    def _move(self, run_id: str) -> None:
        """Close connections to the old server. A client's transaction or subscription ends with
        its connection: the old server would lose its EXEC, and get no new messages."""
        for upstream in self._elsewhere(run_id):
            upstream.abort(MOVED)

    # twin: _pipe._keep_watermark
    def keep_watermark(self, now: float, space: Namespace | None = None) -> None:
        """L1 serves hits: keep the watermark moving.

        Send a PING if nothing was sent for a third of the bound. It is sent right here: in a
        saturated loop the PING of a timer comes too late. Without reads nothing is sent.
        """
        tracked = self.tracked
        if tracked is None or not tracked.ready or self._refusal:
            return
        pipe = tracked.upstream.pipe
        after_s = self._ping_after_s if space is None else space.max_staleness_s / 3
        if now - pipe.last_sent_at >= after_s and not pipe.has_output:
            tracked.ping()
            tracked.upstream.flush()  # now: the rest of this tick may take long

    def catch_up(self, since: float) -> None:
        """Another worker serves entries that this one filled, and found its watermark old."""
        tracked = self.tracked
        if tracked is None or not tracked.ready or self._refusal:
            return
        pipe = tracked.upstream.pipe
        if pipe.last_sent_at <= since and not pipe.has_output:
            tracked.ping()

    def _accept_limits(self, replies: list[Any]) -> str:
        self.limits.note(replies[-len(QUESTIONS) :])
        return ""

    async def learn_limits(self) -> None:
        """Read the server's limits again: they may have changed. A server that is down is asked
        at its return."""
        with contextlib.suppress(TierUnavailable):
            self.limits.note(await self.pipeline(QUESTIONS))

    def _on_plain_ready(self, sent_at: float) -> None:
        for callback in self.on_connect:
            callback()

    # The tracked connection

    def _accept_tracking(self, replies: list[Any]) -> str:
        answer, self.command_counts = replies[-2:]
        self._refusal = ""
        self.fields_expire = fields_expire(replies[-4])
        if isinstance(answer, Exception):
            self._refusal = f"the server refuses CLIENT TRACKING ({answer})"
            if self._fallback_age_s == inf:
                self.l1_mode = f"off: {self._refusal}"
                return self.l1_mode
        return ""

    def _on_tracked_ready(self, sent_at: float) -> None:
        assert self.coherence is not None
        if self._refusal:
            self.l1_mode = f"ttl {self._fallback_age_s:g}s: {self._refusal}"
            self.coherence.on_connect(sent_at, self._fallback_age_s)
            log.warning("L1 is bounded by age only, as %s", self._refusal)
        else:
            self.l1_mode = "tracking"
            self.coherence.on_connect(sent_at)

    def _on_tracked_down(self) -> None:
        assert self.coherence is not None
        if self.coherence.live:
            self.l1_mode = "off: the tracked connection is down"
        self.coherence.on_loss()

    def _on_push(self, frame: bytes) -> bool:
        if frame.startswith(_INVALIDATE_ONE):  # nearly all; one for each stored row
            assert self.coherence is not None
            self.coherence.on_key_push(frame[frame.index(b"\n", len(_INVALIDATE_ONE)) + 1 : -2])
            return True
        message = decode(frame)
        if message and message[0] == b"invalidate":
            assert self.coherence is not None
            self.coherence.on_push(message[1])
        return True

    # As a tier

    async def get(self, key: bytes) -> Outcome:
        try:
            value, pttl = await self.pipeline([[b"GET", key], [b"PTTL", key]])
        except TierUnavailable as error:
            return Outcome(Kind.UNAVAILABLE, tier=self.name, reason=str(error))
        if isinstance(value, Exception):
            return Outcome(Kind.UNAVAILABLE, tier=self.name, reason=str(value))
        if value is None:
            return Outcome(Kind.MISS, tier=self.name)
        ttl_s = pttl / 1000 if isinstance(pttl, int) and pttl >= 0 else None
        return Outcome(Kind.HIT, value=value, tier=self.name, ttl_s=ttl_s)

    async def set(self, key: bytes, value: bytes, *, ttl_s: float | None = None) -> None:
        expiry = (b"PX", max(1, round(ttl_s * 1000))) if ttl_s is not None else ()
        with self.writing([key]):
            await self.call(b"SET", key, value, *expiry)

    async def delete(self, keys: Sequence[bytes]) -> int:
        if not keys:
            return 0
        with self.writing(keys):
            return int(await self.call(b"UNLINK", *keys))

    async def invalidate(self, keys: Sequence[bytes]) -> None:
        """Nothing to drop: Redis is the copy that writes go to."""

    async def size(self) -> Size:
        """Used memory and keys of all databases, from INFO. Raises TierUnavailable."""
        text = _text(await self.call(b"INFO", b"everything"))
        facts = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
        spaces = [v for k, v in facts.items() if k.startswith("db") and v.startswith("keys=")]
        keys = sum(int(space.split(",")[0].removeprefix("keys=")) for space in spaces)
        return Size(used_bytes=int(facts.get("used_memory", 0)), entries=keys)

    @contextlib.contextmanager
    def writing(self, keys: Sequence[bytes]) -> Iterator[None]:
        """The coherence steps around a write of Terrace's own."""
        if self.coherence is not None:
            self.coherence.begin_write(keys)
        try:
            yield
        finally:
            if self.coherence is not None:
                self.coherence.end_write(keys)

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]:
        try:
            kind, pttl, size, idle = await self.pipeline(
                [[b"TYPE", key], [b"PTTL", key], [b"MEMORY", b"USAGE", key],
                 [b"OBJECT", b"IDLETIME", key]], db,
            )  # fmt: skip
        except TierUnavailable as error:
            return {"L2": f"unavailable: {error.reason}"}
        if kind in (b"none", "none"):
            return {"L2": "absent"}
        facts = {"L2": "present", "L2.type": _text(kind)}
        facts["L2.ttl"] = "none" if pttl == -1 else f"{pttl} ms"
        if isinstance(size, int):
            facts["L2.size"] = f"{size} bytes"
        if isinstance(idle, int):
            facts["L2.idle"] = f"{idle} s"
        return facts


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
