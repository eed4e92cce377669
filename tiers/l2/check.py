"""The checks of Redis for `terrace check`."""

from __future__ import annotations

import time

from ..errors import ProtocolError, TierUnavailable
from ..l1.coherence import Coherence
from ..options import L2Options
from .redis import L2Redis
from .tls import CertificateError


async def check_l2(
    options: L2Options, *, needs_tracking: bool = True
) -> tuple[list[str], list[str]]:
    """Problems (none if it works), and notes."""
    l2 = L2Redis(options, clock=time.monotonic, coherence=Coherence.detached())
    try:
        if l2.endpoint.tls is not None:
            l2.endpoint.tls.context()
    except CertificateError as failure:
        return str(failure).splitlines(), []
    await l2.start()
    try:
        await l2.wait_ready(options.connect_timeout_s + 0.5)
        if not l2.ready:
            where = "" if str(l2.endpoint) in l2.reason else f"{l2.endpoint}: "
            return [f"l2.url: {where}{l2.reason}; correct l2.url, or start Redis there"], []
        if needs_tracking and (l2.tracked is None or not l2.tracked.ready):
            return [
                f"l2.url: L1 would be {l2.l1_mode}; use Redis 6 or newer, or set "
                'l1.fallback="ttl" or l1.enabled=false'
            ], []
        return [], [await _role(l2)]
    finally:
        await l2.close()


async def _role(l2: L2Redis) -> str:
    try:
        fields = await l2.node.probe()
    except (TierUnavailable, ProtocolError):
        fields = {}
    role = fields.get("role", "")
    if not role:
        return (
            "L2: the server does not report its role and run id, which reveal a failover behind "
            "its address; the user of l2.url needs +info"
        )
    if role == "master":
        return "L2: the server is a primary"
    of = f"{fields.get('master_host')}:{fields.get('master_port')}"
    return f"L2: the server is a replica of {of}: it answers writes with READONLY"
