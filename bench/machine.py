"""Facts about the machine of a run, without its names and paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def facts(cores: int, **versions: str) -> dict[str, Any]:
    """The facts, with the `cores` that the run may use and the `versions` of the servers."""
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "terrace": _version_of("redis-terrace"),
        "uvloop": _version_of("uvloop"),
        "hiredis": _version_of("hiredis"),
        **versions,
    }


def load_average() -> float:
    """The load average of the last minute. The benchmarks themselves cause about two."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "source tree"
