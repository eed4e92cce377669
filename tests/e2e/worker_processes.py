"""`terrace serve` with several workers, seen from outside: which worker, and its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.terrace_process import START_S, TerraceProcess, running_terrace
from tests.e2e.wire import Wire
from tiers.proxy_door import CORE
from tiers.wire.resp import decode

needs_workers = [
    pytest.mark.skipif(CORE != "c", reason="several workers need the compiled core"),
    pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="looks into /proc"),
]


def worker_of(wire: Wire, workers: int) -> int:
    """Which one serves this connection: ids of clients tell."""
    return (int(decode(wire.ask("CLIENT", "ID"))) - 1) % workers


def worker_pids(terrace: TerraceProcess) -> list[int]:
    pid = terrace.process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def wire_to_each(terrace: TerraceProcess, workers: int, proto: int = 2) -> Iterator[list[Wire]]:
    """One connection to every worker; the kernel chooses, so it takes some attempts, and a worker
    that was killed is replaced after a while."""
    with ExitStack() as stack:
        found: dict[int, Wire] = {}

        def find() -> bool:
            with ExitStack() as attempt:
                wire = attempt.enter_context(Wire(terrace.port, proto))
                number = worker_of(wire, workers)
                if number not in found:
                    found[number] = wire
                    stack.push(attempt.pop_all())
            return len(found) == workers

        def found_all() -> bool:
            try:
                return find()
            except ConnectionError:  # it waited in the queue of one that was killed
                return False

        wait_until(found_all, "every worker answers", START_S)
        yield [found[number] for number in range(workers)]


@contextlib.contextmanager
def running_workers(
    redis_url: str, workers: int, *arguments: str, **options: Any
) -> Iterator[TerraceProcess]:
    with running_terrace(redis_url, *arguments, workers=workers, **options) as terrace:
        wait_until(lambda: terrace.log().count(" serves ") >= workers, "all workers serve", START_S)
        wait_tracking(terrace, workers)
        yield terrace


def wait_tracking(terrace: TerraceProcess, workers: int) -> None:
    """Until every worker feeds L1."""
    with wire_to_each(terrace, workers) as wires:
        for wire in wires:
            wait_until(
                lambda wire=wire: b"l1_mode:tracking" in wire.ask("INFO", "tiers"),  # type: ignore[misc]
                "it tracks", 10.0,
            )  # fmt: skip
