"""From a configuration to an exit code: event loop, signals, start, drain."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from tiers import CORE_TEXT, CertificateError, TaskSet

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

ADMIN_BACKLOG = 128  # who asks before the admin port is loaded waits for it
YOUNG_OBJECTS = 20_000  # allocated between two looks for cycles: below a millisecond each


def run(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until a successor does; the process' exit code."""
    import uvloop

    # A busy proxy has thousands of young objects that die with their replies: looking for
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
    stop = asyncio.Event()
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        leave_unserved()
        if stop.is_set():
            hurry.set()
        stop.set()

    def on_orphaned() -> None:
        if not stop.is_set():
            log.error("the supervisor is gone: this worker drains")
            leave_unserved()
            stop.set()

    def leave_unserved() -> None:
        """A worker that still waits for Redis must not begin to accept clients."""
        if worker is not None and not stop.is_set() and not terrace.listeners.is_open:
            os._exit(0)

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    if worker is None:  # else a terminal's is for the supervisor
        loop.add_signal_handler(signal.SIGINT, on_signal)
    terrace = Terrace(config, read=read, worker=worker)
    loop.add_signal_handler(signal.SIGHUP, terrace.reload)
    admin: AdminServer | None = None

    def on_taken() -> None:
        log.info("a new process serves; this one drains")
        terrace.listeners.hand_over()
        stop.set()

    terrace.siblings.on_orphaned = on_orphaned
    terrace.siblings.on_taken = on_taken
    offers = worker is None and bool(config.listen.handover)  # else a parent does
    offer = Offer(config, lambda: terrace.listeners.sockets() | (admin.sockets() if admin else {}))
    offering = Offering(offer, on_taken)
    try:
        takeover = handover.take(config) if offers else None
        if worker is not None:
            inherited = worker.inherited
        elif takeover is not None:
            inherited = takeover.inherited
        else:
            inherited = from_systemd(config, os.environ, os.getpid())
        if config.admin.enabled and not inherited.has("admin"):
            # First: nobody is to be served by a process that ends because this port is taken.
            inherited.add(
                "admin",
                bind("admin.port", config.admin.host, config.admin.port, backlog=ADMIN_BACKLOG),
            )
        await terrace.start(inherited)
        if config.admin.enabled:
            admin = await _open_admin(terrace, inherited.take("admin"))
        inherited.close()
        if offers:
            offering.open()
        if takeover is not None:
            takeover.confirm()
    except CertificateError as failure:
        for problem in str(failure).splitlines():
            log.error("cannot listen: %s", problem)
        await terrace.drain(0)
        return 1
    except OSError as failure:
        log.error("cannot listen: %s", failure.strerror or failure)
        await terrace.drain(0)
        return 1
    log.info(
        "terrace %s serves %s (L2 %s; %s)",
        terrace.version, terrace.addresses, terrace.stack.l2.endpoint, CORE_TEXT,
    )  # fmt: skip
    terrace.siblings.tell_ready()
    await stop.wait()
    deadline_s = terrace.config.shutdown.deadline_s
    terrace.siblings.tell_draining(deadline_s)
    log.info("draining for at most %g s", deadline_s)
    await offering.close()
    if terrace.listeners.handed_over and admin is not None:
        await admin.close()  # its successor answers there
    tasks = TaskSet("shutdown")
    drained = tasks.start("drain", terrace.drain(deadline_s))
    hurried = tasks.start("second signal", hurry.wait())
    await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
    await tasks.close()
    if admin is not None:
        await admin.close()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # One more, while the loop is being closed, must not change the exit code.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    log.info("stopped")
    return 0


async def _open_admin(terrace: Terrace, sockets: list[socket.socket]) -> AdminServer:
    """Loaded in a thread, and after the clients' ports are open: aiohttp is a third of all
    there is to load at the start, and no client needs it."""
    loaded = await asyncio.to_thread(importlib.import_module, "proxy.http")
    admin: AdminServer = loaded.AdminServer(terrace)
    await admin.start(sockets)
    return admin
