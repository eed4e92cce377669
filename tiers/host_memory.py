"""How much memory this process may use: that of the host, or less where a group limits it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .cgroups import limits_of

# Above "high" a process is not ended but held up until it is of no use. Version 1 says for a
# group what holds for all around it, too, also where these are not to be seen; "none" is a
# number beyond any host.
_FILES = {2: ("memory.max", "memory.high"), 1: ("memory.limit_in_bytes", "memory.stat")}
_BYTES = re.compile(r"(?:\A|^hierarchical_memory_limit )([0-9]+)$", re.MULTILINE)


def host_memory_bytes(root: Path = Path("/")) -> int:
    """0 where the system does not tell."""
    limits = [_physical_bytes()]
    for text in limits_of("memory", _FILES, root):
        if limit := _BYTES.search(text):  # not "max": no limit
            limits.append(int(limit[1]))
    return min((limit for limit in limits if limit > 0), default=0)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
