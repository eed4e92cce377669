"""From a configuration to an exit code: event loop, signals, start, drain."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiers import CertificateError
from tiers.proxy_door import CORE_TEXT, TaskSet

from .addresses import bind
from .config.model import Config
from .server import Terrace
from .workers import handover
from .workers.handover import Offer, Offering
from .workers.inherited import from_systemd
from .workers.worker import Worker

if TYPE_CHECKING:
    from .http import AdminServer

log = logging.getLogger("terrace")

ADMIN_BACKLOG = 128  # requests before the admin server is loaded wait for it
YOUNG_OBJECTS = 20_000  # allocations between two searches for cycles: each below a millisecond


def run(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until a successor serves; return the exit code."""
    import uvloop

    # A busy proxy has thousands of young objects that die with their replies: a search for
    # cycles among them every 700 allocations took 8 % of the time of a load from L3.
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if config.workers == 1:
        return uvloop.run(_serve(config, read))

    if config.admin.enabled:
        from . import http  # noqa: F401 (loaded once, before the workers are forked)
    from .workers.supervisor import supervise

    return supervise(config, lambda worker: uvloop.run(_serve(config, read, worker)))


async def _serve(
    config: Config, read: Callable[[], Config] | None, worker: Worker | None = None
) -> int:
    return await _Service(config, read, worker).run()


class _Service:
    """One process that serves alone, or one worker: from its start to its exit code."""

    def __init__(
        self, config: Config, read: Callable[[], Config] | None, worker: Worker | None
    ) -> None:
        self._config = config
        self._worker = worker
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        if worker is None:  # else the supervisor handles that of a terminal
            loop.add_signal_handler(signal.SIGINT, self._on_signal)
        self._terrace = terrace = Terrace(config, read=read, worker=worker)
        loop.add_signal_handler(signal.SIGHUP, terrace.reload)
        self._admin: AdminServer | None = None
        terrace.siblings.on_orphaned = self._on_orphaned
        terrace.siblings.on_taken = self._on_taken
        self._offers = worker is None and bool(config.listen.handover)  # else the parent does
        self._offering = Offering(
            Offer(config, self._sockets),
            self._on_taken,
            watch=loop.add_reader,
            unwatch=loop.remove_reader,
        )

    async def run(self) -> int:
        try:
            await self._open()
        except CertificateError as failure:
            return await self._give_up(str(failure).splitlines())
        except OSError as failure:
            return await self._give_up([failure.strerror or str(failure)])
        terrace = self._terrace
        log.info(
            "terrace %s serves %s (L2 %s; %s)",
            terrace.version, terrace.addresses, terrace.stack.l2.endpoint, CORE_TEXT,
        )  # fmt: skip
        terrace.siblings.report_ready()
        await self._stop.wait()
        await self._drain()
        _ignore_signals()
        log.info("stopped")
        return 0

    # Reasons to stop

    def _on_signal(self) -> None:
        self._leave_unserved()
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _on_orphaned(self) -> None:
        if not self._stop.is_set():
            log.error("the supervisor has ended: this worker drains")
            self._leave_unserved()
            self._stop.set()

    def _on_taken(self) -> None:
        log.info("a new process serves; this one drains")
        self._terrace.listeners.hand_over()
        self._stop.set()

    def _leave_unserved(self) -> None:
        """Leave: a worker that still waits for Redis must not start to accept clients."""
        is_first = not self._stop.is_set()
        if self._worker is not None and is_first and not self._terrace.listeners.is_open:
            os._exit(0)

    # Start

    async def _open(self) -> None:
        """Open all ports. Raises CertificateError or OSError."""
        config = self._config
        takeover = handover.take(config) if self._offers else None
        if self._worker is not None:
            inherited = self._worker.inherited
        elif takeover is not None:
            inherited = takeover.inherited
        else:
            inherited = from_systemd(config, os.environ, os.getpid())
        if config.admin.enabled and not inherited.has("admin"):
            # First: a process that ends because this port is in use must not serve a client.
            inherited.add(
                "admin",
                bind("admin.port", config.admin.host, config.admin.port, backlog=ADMIN_BACKLOG),
            )
        await self._terrace.start(inherited)
        if config.admin.enabled:
            self._admin = await _open_admin(self._terrace, inherited.take("admin"))
        inherited.close()
        if self._offers:
            self._offering.open()
        if takeover is not None:
            takeover.confirm()

    def _sockets(self) -> dict[str, list[socket.socket]]:
        """The sockets for a successor, by role."""
        admin = self._admin.sockets() if self._admin is not None else {}
        return self._terrace.listeners.sockets() | admin

    async def _give_up(self, problems: Iterable[str]) -> int:
        for problem in problems:
            log.error("cannot listen: %s", problem)
        await self._terrace.drain(0)
        return 1

    # Shutdown

    async def _drain(self) -> None:
        """Drain within `shutdown.deadline`, or until a second signal."""
        terrace, admin = self._terrace, self._admin
        deadline_s = terrace.config.shutdown.deadline_s
        terrace.siblings.report_draining(deadline_s)
        log.info("draining for at most %g s", deadline_s)
        self._offering.close()
        if terrace.listeners.handed_over and admin is not None:
            await admin.close()  # the successor answers there
        tasks = TaskSet("shutdown")
        drained = tasks.start("drain", terrace.drain(deadline_s))
        hurried = tasks.start("second signal", self._hurry.wait())
        await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
        await tasks.close()
        if admin is not None:
            await admin.close()


def _ignore_signals() -> None:
    """Another signal, while the loop closes, must not change the exit code."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


async def _open_admin(terrace: Terrace, sockets: list[socket.socket]) -> AdminServer:
    """Load the server in a thread, after the clients' ports are open: aiohttp is a third of the
    start time, and no client needs it."""
    loaded = await asyncio.to_thread(importlib.import_module, "proxy.http")
    admin: AdminServer = loaded.AdminServer(terrace)
    await admin.start(sockets)
    return admin
