"""How many clients the open files of this process allow (`ulimit -n`), as Redis does it.

The soft limit is raised as far as the hard one lets us. Should that not do for
`listen.max_clients`, fewer are taken: a client who is told so is better off than one
that took the descriptor of the next connection to Redis.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("terrace")

OWN = 64  # listeners, shared connections, the log, the links between processes


def raise_limit(max_clients: int, upstream: int) -> int:
    """The clients that fit beside `upstream` connections of our own, at most `max_clients`."""
    wanted = max_clients + upstream + OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        attainable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (attainable, hard))
            soft = attainable
        except (OSError, ValueError):  # macOS has a limit of its own
            pass
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_clients
    # Where files are very few, clients and tiers share them.
    fitting = max(soft - upstream - OWN, soft // 2)
    log.warning(
        "listen.max_clients is %d, but only %d fit into the %d files that this process may open; "
        "raise `ulimit -n` to %d",
        max_clients, fitting, soft, wanted,
    )  # fmt: skip
    return fitting
