"""Terrace, the process: the tiers, the listener, its clients, and the way down.

`run` is the composition root of one worker: event loop, signals, start, drain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Any

from tiers import TaskSet, TieredCache, TierError, TierUnavailable
from tiers.resp import error

from . import errors
from .config import Config
from .connection import Connection
from .dispatch import dispatch
from .session import Session
from .stats import Stats

log = logging.getLogger("terrace")

DRAIN_POLL_S = 0.02
IDLE_SWEEP_S = 1.0
PROTOCOL_LOG_INTERVAL_S = 1.0  # one line a second, however many clients send nonsense


def terrace_version() -> str:
    try:
        return package_version("redis-terrace")
    except PackageNotFoundError:
        return "0+source"


class Terrace:
    """One worker: everything its sessions share."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.clock = clock
        self.version = terrace_version()
        self.stats = Stats()
        self.stack = TieredCache(config.l2, l1=config.l1, l3=config.l3, clock=clock)
        self.dispatch = dispatch
        self.started_at = clock()
        self.sessions: dict[int, Session] = {}
        self.draining = False
        self._connections: set[Connection] = set()
        self._dirty: list[Connection] = []
        self._task_of: dict[Session, asyncio.Task[Any]] = {}
        self._tasks = TaskSet("proxy")
        self._next_ident = 1
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_protocol_log = -PROTOCOL_LOG_INTERVAL_S

    def __repr__(self) -> str:
        return f"<Terrace {len(self.sessions)} clients, {self.stack!r}>"

    # Life

    async def start(self) -> None:
        """Listen. Redis and Postgres may be down: that shows in readiness, not here.

        Raises OSError when the address cannot be bound.
        """
        self._loop = loop = asyncio.get_running_loop()
        await self.stack.start()
        listen = self.config.listen
        self._server = await loop.create_server(
            lambda: Connection(self), listen.host, listen.port, backlog=listen.backlog
        )
        if listen.idle_timeout_s:
            self._tasks.start("idle sweep", self._sweep_idle())

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def ready(self) -> bool:
        """Whether commands can be answered in full: accepting, and L2 is there."""
        return self._server is not None and not self.draining and self.stack.l2.ready

    async def drain(self, deadline_s: float) -> None:
        """Stop accepting, let what is in flight finish, then close everything."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        until = self.clock() + deadline_s
        while self.clock() < until:
            open_now = [c for c in list(self._connections) if not c.close_when_drained()]
            if not open_now:
                break
            await asyncio.sleep(DRAIN_POLL_S)
        for connection in list(self._connections):
            connection.abort("shutting down")
        await self._tasks.close()
        await self.stack.close()

    async def _sweep_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SWEEP_S)
            oldest = self.clock() - self.config.listen.idle_timeout_s
            for session in list(self.sessions.values()):
                waits = session.blocked or session.pin is not None or session.slots
                if session.active_at < oldest and not waits:
                    session.on_close_request("idle longer than listen.idle_timeout")

    # Clients

    def refusal_for(self, address: str) -> bytes | None:
        """Why a new client must be turned away, as the reply it gets."""
        if len(self.sessions) >= self.config.listen.max_clients:
            return errors.MAX_CLIENTS
        listen = self.config.listen
        if listen.protected_mode and not listen.password and not _is_loopback(address):
            return errors.PROTECTED
        return None

    def open_session(self, address: str, local_address: str) -> Session:
        session = Session(self, self._next_ident, address, local_address)
        self.sessions[session.ident] = session
        self._next_ident += 1
        self.stats.connections_accepted += 1
        return session

    def close_session(self, session: Session) -> None:
        self.sessions.pop(session.ident, None)
        session.close()

    def attach(self, connection: Connection) -> None:
        self._connections.add(connection)

    def detach(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def mark_dirty(self, connection: Connection) -> None:
        """This client has replies to send: once per tick, after all that came in."""
        if not self._dirty:
            assert self._loop is not None
            self._loop.call_soon(self._flush_dirty)
        self._dirty.append(connection)

    def _flush_dirty(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dict.fromkeys(dirty):
            connection.proceed()

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
            session.reply(errors.tier_failed(failure))
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

    # Log lines about clients: bounded, printable, without what they sent as values

    def log_protocol_error(self, session: Session, text: str) -> None:
        now = self.clock()
        if now - self._last_protocol_log >= PROTOCOL_LOG_INTERVAL_S:
            self._last_protocol_log = now
            log.warning("client %s: protocol error: %s", session.address, ascii(text)[:120])

    def log_closed(self, session: Session, reason: str) -> None:
        log.info("client %s closed: %s", session.address, reason)


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "unix":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process' exit code."""
    import uvloop

    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    from .http import AdminServer

    stop = asyncio.Event()
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    terrace = Terrace(config)
    admin = AdminServer(terrace)
    try:
        await terrace.start()
        await admin.start()
    except OSError as failure:
        log.error("cannot listen: %s", failure.strerror or failure)
        await terrace.drain(0)
        return 1
    listen = config.listen
    log.info(
        "terrace %s serves %s:%s (L2 %s)",
        terrace.version, listen.host, terrace.port, terrace.stack.l2.endpoint,
    )  # fmt: skip
    await stop.wait()
    log.info("draining for at most %g s", config.shutdown.deadline_s)
    tasks = TaskSet("shutdown")
    drained = tasks.start("drain", terrace.drain(config.shutdown.deadline_s))
    hurried = tasks.start("second signal", hurry.wait())
    await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
    await tasks.close()
    await admin.close()
    log.info("stopped")
    return 0
