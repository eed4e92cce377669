"""Terrace, one worker: its tiers, its listeners, its clients, and its shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Any

from tiers import TieredCache, TierError, TierUnavailable
from tiers.proxy_door import CORE, L2_REDIS, Janitor, SharedArena, TaskSet, host_memory_bytes
from tiers.wire.resp import Request, error

from . import errors
from . import log as log_setup
from .acl.acl import Acl
from .addresses import is_loopback
from .client.connection import Connection
from .client.host import Flow
from .client.listing import describe
from .client.output_budget import OutputBudget
from .client.pause import Pause
from .client.pipe import Lane
from .client.session import Session
from .commands.source import ServerCommands
from .config.model import Config, TlsOptions
from .dispatch import dispatch
from .flow.field_fills import fill_fields
from .flow.reads import take_over
from .handlers.sibling_answers import ANSWERS
from .memory import SWEEP_S, MemoryGuard, share_bytes
from .refusals import Refusals
from .reload import Reloader
from .stats import BUCKETS_S, Stats
from .workers.descriptors import raise_limit
from .workers.inherited import Inherited
from .workers.listeners import Listeners
from .workers.siblings import Siblings
from .workers.watchdog import BEAT_S
from .workers.worker import OwnNumbers, SharedNumbers, Worker, beat

log = logging.getLogger("terrace")

DRAIN_POLL_S = 0.02
BLOCKED_SHARE = 0.25  # of the drain deadline; then clients that are blocked in Redis are unblocked
IDLE_SWEEP_S = 1.0


def terrace_version() -> str:
    try:
        return package_version("redis-terrace")
    except PackageNotFoundError:
        return "0+source"


class Terrace:
    """One worker: the state that its sessions share."""

    def __init__(
        self,
        config: Config,
        *,
        read: Callable[[], Config] | None = None,
        clock: Callable[[], float] = time.monotonic,
        worker: Worker | None = None,
    ) -> None:
        """`read` reads the configuration again from its sources."""
        self.config = config
        self._worker = worker
        self.reloader = Reloader(self, config, read or (lambda: config))
        self.clock = clock
        self.version = terrace_version()
        self._stats = Stats()
        self.stack = TieredCache(
            config.l2, l1=config.l1, l3=config.l3, namespaces=config.namespace, clock=clock,
            arena=worker.arena if worker is not None else None,
        )  # fmt: skip
        self.commands = ServerCommands(self.stack.l2)
        self.lane = Lane(
            self.stack, self._stats, clock, self.commands.table, BUCKETS_S, config.limits
        )
        self.commands.table.followers.append(self.lane.follow)
        self.dispatch: Callable[[Session, Request, float], None] = dispatch
        self.flow = Flow(take_over, fill_fields)
        self.started_at = clock()
        self.sessions: dict[int, Session] = {}
        self.refusals = Refusals(clock)
        self.acl = Acl(
            config.acl, config.listen.password, self.stack.l2, self.sessions, clock,
            lambda ident: describe(self.sessions[ident]), self.refusals,
        )  # fmt: skip
        self.pause = Pause(self.sessions, self.lane)
        self.descriptor_clients = config.listen.max_clients  # limited by open files
        self._pause_task: asyncio.Task[Any] | None = None
        self.draining = False
        self.closed = False  # no client is served any more
        self.output: OutputBudget[Connection] = OutputBudget(self.output_share(config))
        self.connections: set[Connection] = set()
        self.memory = MemoryGuard(self.memory_share(config), self.connections)
        self._dirty: list[Connection] = []
        self.rescued_bytes = 0  # in this turn: see `session.RESCUED_MAX_BYTES`
        self._task_of: dict[Session, asyncio.Task[Any]] = {}
        self._tasks = TaskSet("proxy")
        self._learning: asyncio.Task[Any] | None = None
        self.stack.l2.limits.on_change = self._follow_limits
        self._beats = TaskSet("watchdog")  # until the very end
        self.clients = SharedNumbers(worker.arena) if worker is not None else OwnNumbers()
        number = worker.number if worker is not None else 0
        answers = {op: partial(answer, self) for op, answer in ANSWERS.items()}
        self.siblings = Siblings(number, answers)
        self.listeners = Listeners(config, lambda: Connection(self), self.refusals.handshake)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Terrace {len(self.sessions)} clients, {self.stack!r}>"

    def output_share(self, config: Config) -> int:
        """The share of this worker's clients in limits.output_total_bytes."""
        workers = self._worker.arena.workers if self._worker is not None else 1
        return config.limits.output_total_bytes // workers

    def memory_share(self, config: Config) -> int:
        """The share of this worker in limits.memory_bytes."""
        workers = self._worker.arena.workers if self._worker is not None else 1
        l1_bytes = config.l1.max_bytes if config.l1.enabled and CORE == "c" else 0
        return share_bytes(config.limits.memory_bytes, host_memory_bytes(), l1_bytes, workers)

    def adopt(self, config: Config) -> None:
        """Apply another configuration, also to all long-lived objects that keep values of the old
        one. It differs from the old one only in LIVE options (`reload`)."""
        old, self.config = self.config, config
        for session in self.sessions.values():
            session.config = config
        for connection in self.connections:
            connection.limits = config.limits
        self.output.total_bytes = self.output_share(config)
        self.memory.max_bytes = self.memory_share(config)
        self.acl.options = config.acl
        self.stack.adopt_l1(config.l1)
        self.stack.l2.adopt(config.l2)
        self.lane.adopt(config.limits)
        if config.log != old.log:
            log_setup.set_up(config.log)
        if (config.listen.max_clients, config.l2.max_pinned) != (
            old.listen.max_clients, old.l2.max_pinned,
        ):  # fmt: skip
            self._fit_descriptors()

    def _fit_descriptors(self) -> None:
        """Limit the clients to the open files."""
        listen, l2, l3 = self.config.listen, self.config.l2, self.config.l3
        self.descriptor_clients = raise_limit(listen.max_clients, l2.max_pinned + l3.pool_max)

    @property
    def stats(self) -> Stats:
        """The counters up to now."""
        self.lane.fold()
        return self._stats

    # Life

    async def start(self, inherited: Inherited | None = None) -> None:
        """Listen, if possible on `inherited` sockets.

        Redis and Postgres may be down: readiness shows that, not this method.
        Raises CertificateError, or OSError if an address cannot be bound.
        """
        self._loop = asyncio.get_running_loop()
        self._fit_descriptors()
        if self._worker is not None:
            await self.siblings.open(self._worker)
            self._beat(self._worker.arena)
        await self.stack.start()
        self._tasks.start("commands of L2", self.commands.keep())
        if self.acl.redis is not None:
            self._tasks.start("users of L2", self.acl.redis.keep())
        if inherited:
            # The predecessor serves meanwhile: no need to start with errors.
            await self.stack.l2.wait_ready(self.config.l2.connect_timeout_s)
        if self._worker is not None and self._worker.must_reload:
            # Before the first client: the newest rules apply to it.
            await self.reloader.reload_and_log()
        await self.listeners.open(inherited)
        janitor = Janitor(self._tasks)
        janitor.register("idle sweep", IDLE_SWEEP_S, self._sweep_idle)
        janitor.register("memory sweep", SWEEP_S, self.memory.sweep)

    @property
    def port(self) -> int:
        """The plain TCP port; 0 if there is none."""
        return self.listeners.port

    @property
    def addresses(self) -> str:
        return str(self.listeners)

    @property
    def ready(self) -> bool:
        """Whether all commands can be answered: accepting, warm, and L2 is up."""
        is_open = self.listeners.is_open and not self.draining
        return is_open and self.stack.l2.ready and not self.stack.is_warming_up

    def reload_certificates(self, tls: TlsOptions) -> None:
        """Read the certificates again. Raises CertificateError and changes nothing."""
        self.listeners.reload_certificates(tls)
        log.info("certificates reloaded: %s", tls.cert_file)

    def reload(self) -> None:
        """Read the configuration again; the result is in the log."""
        self._tasks.start("reload", self.reloader.reload_and_log())

    async def drain(self, deadline_s: float) -> None:
        """Stop accepting, let commands in flight finish, then close everything.

        In the first half of the time a client is closed when it is idle, later as soon as it
        has no outstanding replies. Blocked commands (BLPOP, …) might wait forever: after a
        quarter of the time they end as if by their own timeout.
        """
        self.draining = True
        self.listeners.close()
        began = self.clock()
        unblocked: set[int] = set()
        while (elapsed_s := self.clock() - began) < deadline_s:
            # First: an accepted client becomes a connection only in a later turn of the loop.
            await asyncio.sleep(DRAIN_POLL_S)
            patient = elapsed_s < deadline_s / 2
            if elapsed_s >= deadline_s * BLOCKED_SHARE:
                self._unblock(unblocked)
            closed = [c.close_when_drained(patient=patient) for c in list(self.connections)]
            if all(closed):
                break
        self.closed = True
        await self.listeners.end_handshakes()
        for connection in list(self.connections):
            connection.abort("shutting down")
        self.refusals.sweep(all_of_it=True)
        await self._tasks.close()
        await self.stack.close()
        await self.siblings.close()
        await self._beats.close()

    def _unblock(self, done: set[int]) -> None:
        """Let Redis unblock its blocked clients: if we closed one, an element that Redis just gave
        to it might be lost. `done`: the clients that were already unblocked."""
        for connection in self.connections:
            if (blocked := connection.waits_for_others) and blocked not in done:
                done.add(blocked)
                connection.close_when_answered()
                self._tasks.start("unblock", self._unblock_one(blocked))

    async def _unblock_one(self, redis_id: int) -> None:
        try:
            await self.stack.l2.call(b"CLIENT", b"UNBLOCK", redis_id, b"TIMEOUT")
        except TierError as failure:
            log.info("a blocked client cannot be unblocked: %s", failure)

    def _sweep_idle(self) -> None:
        now = self.clock()
        self.refusals.sweep()
        for connection in self.output.behind():
            connection.close_if_stuck(now)
        if self.config.listen.idle_timeout_s:
            since = now - self.config.listen.idle_timeout_s
            for connection in list(self.connections):
                connection.close_if_idle(since)

    def _beat(self, arena: SharedArena) -> None:
        """Start the heartbeat: the supervisor ends a worker without one."""
        Janitor(self._beats).register("beats", BEAT_S, partial(beat, arena), at_once=True)

    # Clients

    def refusal_for(self, address: str) -> str | None:
        """The reason to refuse a new client, one of `refusals.CLIENTS`, or None."""
        if self.clients.connected >= self.config.listen.max_clients:
            return "max_clients"
        if len(self.sessions) >= self.descriptor_clients:
            return "open_files"
        if self.memory.shedding:
            return "memory"
        listen = self.config.listen
        if listen.protected_mode and self.acl.is_open and not is_loopback(address):
            return "protected_mode"
        return None

    def open_session(self, address: str, local_address: str) -> Session:
        session = Session(self, self.clients.open(), address, local_address)
        self.sessions[session.ident] = session
        self._stats.connections_accepted += 1
        return session

    def close_session(self, session: Session) -> None:
        if self.sessions.pop(session.ident, None) is not None:
            self.clients.close()
        session.close()

    def attach(self, connection: Connection) -> None:
        self.connections.add(connection)

    def detach(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def mark_dirty(self, connection: Connection) -> None:
        """Send this client's replies once per tick, after all input."""
        if not self._dirty:
            assert self._loop is not None
            self._loop.call_soon(self._flush_dirty)
        self._dirty.append(connection)

    def in_next_turn(self, work: Callable[[], None]) -> None:
        """Run `work` after all other clients had their turn."""
        assert self._loop is not None
        self._loop.call_soon(work)

    def note_rescued(self, reply_bytes: int) -> None:
        """Count a reply that L1 gave while Redis is down, within a turn."""
        if not self.rescued_bytes:
            self.in_next_turn(self._forget_rescued)
        self.rescued_bytes += reply_bytes

    def _forget_rescued(self) -> None:
        self.rescued_bytes = 0

    def _flush_dirty(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dict.fromkeys(dirty):
            connection.proceed()

    def learn_limits(self) -> None:
        """Ask Redis for its size limits, as a client was refused by them."""
        if self._loop is not None and (self._learning is None or self._learning.done()):
            self._learning = self._tasks.start("limits of L2", self.stack.l2.learn_limits())

    def _follow_limits(self) -> None:
        limits = self.stack.l2.limits
        for session in self.sessions.values():
            session.scanner.bulk_max_bytes = limits.bulk_max_bytes(session.config.limits.bulk_bytes)

    def pause_clients(self, until: float, mode: str) -> None:
        """CLIENT PAUSE: hold the clients until `until`, or until CLIENT UNPAUSE."""
        self.pause.begin(until, mode)
        if self._pause_task is not None:
            self._pause_task.cancel()
        self._pause_task = self._tasks.start("pause", self._end_pause())

    async def _end_pause(self) -> None:
        await asyncio.sleep(max(0.0, self.pause.until - self.clock()))
        self.pause.end()

    # Tasks of sessions

    def run_task(self, session: Session, coro: Coroutine[Any, Any, None]) -> None:
        """Run a handler that awaits; the session is blocked until it ends."""
        session.block_task()
        task = self._tasks.start(f"client {session.ident}", self._guarded(session, coro))
        self._task_of[session] = task
        task.add_done_callback(lambda done: self._on_task_done(session))

    async def _guarded(self, session: Session, coro: Awaitable[None]) -> None:
        try:
            await coro
        except TierUnavailable as failure:
            reply = errors.tier_failed(failure)
            session.reply(session.l2_failed(reply) if failure.tier == L2_REDIS else reply)
        except TierError as failure:
            session.reply(error(f"ERR terrace: {failure}"))
        except Exception:
            log.exception("a handler failed for %s", session)
            session.reply(error("ERR terrace: internal error; see the log of the proxy"))

    def _on_task_done(self, session: Session) -> None:
        self._task_of.pop(session, None)
        session.unblock()

    def cancel_task_of(self, session: Session) -> None:
        task = self._task_of.pop(session, None)
        if task is not None:
            task.cancel()

    # Log lines about clients: bounded, printable, without values that they sent

    def log_protocol_error(self, session: Session, text: str) -> None:
        self.refusals.protocol_error(session.address, text)

    def log_closed(self, session: Session, reason: str) -> None:
        log.info("client %s closed: %s", session.address, reason)
