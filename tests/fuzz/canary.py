"""A client on another connection that must not notice what hostile ones do."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Self

from tests.e2e.wire import Argument, Wire

PATIENCE_S = 3.0  # generous: the machine may be busy, a hang is longer
PAUSE_S = 0.002


class Canary:
    """Asks in a thread, all the time; leaving the `with` block raises what it found wrong.

    `asks` are requests with the one reply each must get.
    """

    def __init__(
        self, port: int, asks: list[tuple[tuple[Argument, ...], bytes]], password: str = ""
    ) -> None:
        self._wire = Wire(port, timeout_s=PATIENCE_S)
        if password:
            assert self._wire.ask("AUTH", password) == b"+OK\r\n"
        self._asks = asks
        self._stop = threading.Event()
        self._wrong: list[str] = []
        self.rounds = 0
        self.slowest_s = 0.0
        self._thread = threading.Thread(target=self._sing, name="canary")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._wire.close()
        if error is None:
            assert not self._wrong, self._wrong[0]
            assert self.rounds > 10, "it hardly came to ask"

    def _sing(self) -> None:
        while not self._stop.wait(PAUSE_S):
            began = time.monotonic()
            for ask, expected in self._asks:
                try:
                    reply = self._wire.ask(*ask)
                except OSError as error:
                    self._wrong.append(f"{ask}: {type(error).__name__} {error}")
                    return
                if reply != expected:
                    self._wrong.append(f"{ask}: {reply!r}")
                    return
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.rounds += 1


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


FORBIDDEN = ("Traceback", "unexpectedly", " error ")


def assert_log_is_harmless(
    log: str, began: float, secret: str, forbidden: tuple[str, ...] = FORBIDDEN
) -> None:
    """Bounded printable lines, at most one a second about what clients sent."""
    lines = [line for line in log.splitlines() if "serves" not in line]
    complaints = [line for line in lines if "protocol error" in line]
    assert len(complaints) <= time.monotonic() - began + 2, complaints[:3]
    for line in lines:
        assert line.isprintable(), line
        assert len(line) < 4200, line[:100]
    for word in forbidden:
        assert word not in log, next(line for line in lines if word in line)
    assert secret not in log


SECRET = "correct-horse-battery" + os.environ.get("FUZZ_SEED", "")
