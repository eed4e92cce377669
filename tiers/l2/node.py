"""Detects that another server is behind the address of L2, and moves all connections there.

A failover behind one address (a DNS name, a service IP) may leave the old primary running,
as a replica, with all our connections. So every handshake asks for the server's run id, and
a probe resolves the address anew: every PROBE_S, and soon after a reply that only a replica
gives. If a new connection finds another server than older connections have, these are closed,
shared and private ones, and reconnect. A server that is a replica on purpose is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any

from ..base import L2_REDIS
from ..errors import ProtocolError, TierUnavailable
from ..guard.connect_gate import ConnectGate
from ..options import L2Options
from ..wire.resp import decode
from .upstream import Endpoint, Upstream

log = logging.getLogger("terrace.l2")

WHO = [b"INFO", b"server"]
_ROLE = [b"INFO", b"replication"]
PROBE_S = 10.0
SUSPECT_PAUSE_MIN_S, SUSPECT_PAUSE_MAX_S = 0.05, 2.0  # between probes after such replies
# Between moves: an address may lead to several servers, to each in turn.
MOVE_PAUSE_MIN_S, MOVE_PAUSE_MAX_S = 0.2, 60.0
MOVED = "its address leads to another server now"
_FIELD = re.compile(r"^([a-z_]+):([^\r\n]*)", re.MULTILINE)


def run_id_of(info: Any) -> str:
    """The run id in the decoded reply to WHO; "" if the server does not report it."""
    return _fields(info).get("run_id", "")


def _fields(info: Any) -> dict[str, str]:
    return dict(_FIELD.findall(info.decode("latin-1"))) if isinstance(info, bytes) else {}


class Node:
    """`others(run_id)`: whether connections reach another server than this one; `move` closes
    such connections."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: L2Options,
        gate: ConnectGate,
        clock: Callable[[], float],
        *,
        others: Callable[[str], bool],
        move: Callable[[str], None],
    ) -> None:
        self.role = ""  # as the server calls it; "" not known
        self.moves = 0
        self._endpoint = endpoint
        self._options = options
        self._gate = gate
        self._clock = clock
        self._others = others
        self._move = move
        self._suspected = asyncio.Event()
        self._moved_at = float("-inf")
        self._move_pause_s = MOVE_PAUSE_MIN_S

    def __repr__(self) -> str:
        return f"<Node {self._endpoint} {self.role or 'role unknown'}, {self.moves} moves>"

    def suspect(self, error: bytes) -> None:
        """A reply that a primary does not give."""
        self._suspected.set()

    def found(self, run_id: str) -> None:
        """A new connection has reached this server."""
        now = self._clock()
        if not run_id or now - self._moved_at < self._move_pause_s or not self._others(run_id):
            return
        if now - self._moved_at < MOVE_PAUSE_MAX_S:
            self._move_pause_s = min(2 * self._move_pause_s, MOVE_PAUSE_MAX_S)
        else:
            self._move_pause_s = MOVE_PAUSE_MIN_S
        self._moved_at = now
        self.moves += 1
        log.warning("%s %s leads to another server now: reconnecting", L2_REDIS, self._endpoint)
        self._move(run_id)

    async def keep(self) -> None:
        """Probe again and again until cancelled."""
        pause_s = SUSPECT_PAUSE_MIN_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await self._suspected.wait()
            is_suspected, moves = self._suspected.is_set(), self.moves
            self._suspected.clear()
            if self._gate.breaker.is_closed:
                with contextlib.suppress(TierUnavailable, ProtocolError):
                    await self.probe()
            if is_suspected and moves == self.moves:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, SUSPECT_PAUSE_MAX_S)
            else:
                pause_s = SUSPECT_PAUSE_MIN_S

    async def probe(self) -> dict[str, str]:
        """Read the server's role over a new connection.

        Raises TierUnavailable or ProtocolError.
        """
        upstream = Upstream(self._clock)
        await self._gate.pace()
        try:
            commands = [*self._endpoint.login_commands(2), WHO, _ROLE]
            replies = await upstream.open(self._endpoint, commands, self._options.connect_timeout_s)
        finally:
            upstream.abort("it was a probe")
        who, replication = map(decode, replies[-2:])
        fields = _fields(replication)
        role = fields.get("role", "")
        if role and role != self.role:
            if self.role:
                log.warning("%s %s: its role is %s now, was %s", L2_REDIS, self._endpoint, role,
                            self.role)  # fmt: skip
            self.role = role
        self.found(run_id_of(who))
        return fields
