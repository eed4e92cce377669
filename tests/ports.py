"""Free ports, of which no two test processes are given the same.

They lie below the range from which the kernel takes the local ports of connections: one of
those could be in the way when a server begins to listen. A block of ports belongs to the
process that has a UDP socket on its first one.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

FIRST, LAST, BLOCK = 10_000, 32_000, 50

_claims: list[socket.socket] = []  # held for as long as this process lives


def free_port() -> int:
    """One that nobody listens on, and that was not given to anybody before."""
    return next(_ports)


def _free() -> Iterator[int]:
    starts = list(range(FIRST, LAST, BLOCK))
    random.shuffle(starts)
    for start in starts:
        if _claimed(start):
            yield from (port for port in range(start + 1, start + BLOCK) if _is_free(port))


def _claimed(start: int) -> bool:
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", start))
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


_ports = _free()
