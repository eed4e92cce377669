"""Chooses the core: the compiled modules if they were built, else their readable Python twins.

`TERRACE_CORE=c` or `py` forces one; a forced core that cannot be loaded is an error, not a
silent fallback. All modules with twins use this choice, so a process never mixes them.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

COMPILED = (
    "tiers.l1._arena",
    "tiers.wire._pipe", "tiers.wire._replies", "tiers.wire._requests", "tiers.wire._window",
    "proxy.client._pipe", "proxy.client._in_flight", "proxy.client._lane",
    "proxy.client._reply_ring",
)  # fmt: skip
"""All of them run, or none: each depends on the others. (A wheel has no sources to list.)"""


def choose(wanted: str) -> str:
    """ "c" or "py". Raises ImportError, naming the option, if the wanted core is missing."""
    if wanted not in ("", "c", "py"):
        raise ImportError(f"TERRACE_CORE={wanted}: the cores are c (compiled) and py (Python)")
    if wanted == "py":
        return "py"
    missing = [name for name in COMPILED if not _is_built(name)]
    if missing and wanted == "c":
        raise ImportError(
            f"TERRACE_CORE=c: the compiled core was not built ({', '.join(missing)}); run "
            "`make build` with a C compiler and Python's headers installed, or unset TERRACE_CORE"
        )
    if missing:
        return "py"
    return "c"


def _is_built(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # even its package is missing
        return False


CORE = choose(os.environ.get("TERRACE_CORE", ""))

CORE_TEXT = {
    "c": "compiled core",
    "py": "Python core, as TERRACE_CORE says"
    if os.environ.get("TERRACE_CORE")
    else "Python core: the compiled one was not built here, which takes a C compiler",
}[CORE]
"""For `terrace --version` and the log: the core, and the reason if it is not the fast one."""
