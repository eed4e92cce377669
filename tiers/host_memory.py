"""The memory for this process: that of the host, or less if a control group limits it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .cgroups import limits_of

# Above "high" a process is not killed but slowed down until it is useless. Version 1 reports for
# a group the lowest limit of its parents, too, even if these are not visible; "none" is a number
# beyond any host.
_FILES = {2: ("memory.max", "memory.high"), 1: ("memory.limit_in_bytes", "memory.stat")}
_BYTES = re.compile(r"(?:\A|^hierarchical_memory_limit )([0-9]+)$", re.MULTILINE)


def host_memory_bytes(root: Path = Path("/")) -> int:
    """The bytes; 0 if the system does not report them."""
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
