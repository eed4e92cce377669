"""How long fuzzing goes on and from which seed: FUZZ_SECONDS per test, FUZZ_SEED."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def within_budget(cases: Iterator[bytes], at_least: int) -> Iterator[bytes]:
    """Cases until the time is up; `at_least` so many however slow the machine is."""
    until = time.monotonic() + SECONDS
    for number, case in enumerate(cases):
        if number >= at_least and time.monotonic() > until:
            return
        yield case
