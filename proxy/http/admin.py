"""The admin HTTP server: read-only, on its own port, on the loopback address by default."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..figures.metrics import TerraceCollector

if TYPE_CHECKING:
    from ..client.host import Host

log = logging.getLogger("terrace.admin")

CLOSE_TIMEOUT_S = 1.0


class AdminServer:
    """GET /metrics, /healthz and /readyz for one Terrace."""

    def __init__(self, terrace: Host) -> None:
        self._terrace = terrace
        self._collector = TerraceCollector(terrace)
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)
        self._runner: web.AppRunner | None = None

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Listen on bound sockets. Raises OSError if that fails."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def sockets(self) -> dict[str, list[socket.socket]]:
        """The listening sockets by role."""
        sites = self._runner.sites if self._runner is not None else ()
        servers = [site._server for site in sites]  # aiohttp offers no other access
        found = [sock for server in servers for sock in getattr(server, "sockets", ())]
        return {"admin": found} if found else {}

    @property
    def port(self) -> int:
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._collector.measure()
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.Response:
        """The process is alive: its event loop answers. Independent of the tiers."""
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """200 if Redis is up and clients are accepted, else 503; the state of the tiers as JSON."""
        terrace = self._terrace
        l3 = terrace.stack.l3
        state = {
            "ready": terrace.ready,
            "draining": terrace.draining,
            "l1": terrace.stack.l2.l1_mode,
            "l2": terrace.stack.l2.state,
            "l3": l3.state if l3 is not None else "off",
        }
        text = json.dumps(state) + "\n"
        status = 200 if terrace.ready else 503
        return web.Response(text=text, status=status, content_type="application/json")
