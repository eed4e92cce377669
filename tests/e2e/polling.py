"""Waiting for a state that only the other side can report."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_S = 0.005
PATIENCE_S = 30.0


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> float:
    """Ask until it holds; the seconds that took. AssertionError naming `what` otherwise."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience_s, f"not within {patience_s:g} s: {what}"
        time.sleep(PAUSE_S)
    return time.monotonic() - began
