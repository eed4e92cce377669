"""Fits the number of clients to the limit of open files (`ulimit -n`), as Redis does.

The soft limit is raised up to the hard limit. If that is too low for
`listen.max_clients`, Terrace accepts fewer clients: to refuse a client is better than
to run out of descriptors for connections to Redis.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("terrace")

OWN = 64  # listeners, shared connections, the log, the links between processes


def raise_limit(max_clients: int, upstream: int) -> int:
    """The number of clients, at most `max_clients`, that fit beside `upstream` connections."""
    wanted = max_clients + upstream + OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        attainable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (attainable, hard))
            soft = attainable
        except (OSError, ValueError):  # macOS has its own limit
            pass
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_clients
    # With very few files, clients and tiers share them.
    fitting = max(soft - upstream - OWN, soft // 2)
    log.warning(
        "listen.max_clients is %d, but only %d clients fit into the limit of %d open files; "
        "raise `ulimit -n` to %d",
        max_clients, fitting, soft, wanted,
    )  # fmt: skip
    return fitting
