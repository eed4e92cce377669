"""The number of cores for this process: its CPU affinity, or less if a control group limits it."""

from __future__ import annotations

import os
from pathlib import Path

from .cgroups import limits_of


def host_cores(root: Path = Path("/")) -> int:
    """The number of cores, at least one. A part of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = [cores or 1]
    for text in limits_of("cpu", {2: ("cpu.max",), 1: ()}, root):
        shares += _share(text.split())
    quotas = limits_of("cpu", {2: (), 1: ("cpu.cfs_quota_us",)}, root)
    periods = limits_of("cpu", {2: (), 1: ("cpu.cfs_period_us",)}, root)
    for quota, period in zip(quotas, periods, strict=False):
        shares += _share([quota, period])
    return max(1, min(shares))


def _share(words: list[str]) -> list[int]:
    """The cores that a quota per period amounts to; "max" and -1 are no limit."""
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit() and int(words[1])):
        return []
    return [-(-int(words[0]) // int(words[1]))]
