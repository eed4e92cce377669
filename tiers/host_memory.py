"""How much memory this process may use: that of the host, or less where a container limits it."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMITS = (
    "sys/fs/cgroup/memory.max",  # version 2
    "sys/fs/cgroup/memory/memory.limit_in_bytes",  # version 1; "none" is a number beyond any host
)


def host_memory_bytes(root: Path = Path("/")) -> int:
    """0 where the system does not tell."""
    limits = [_physical_bytes()]
    for name in _CGROUP_LIMITS:
        try:
            text = (root / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():  # "max": no limit
            limits.append(int(text))
    return min((limit for limit in limits if limit > 0), default=0)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
