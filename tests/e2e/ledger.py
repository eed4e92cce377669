"""Writers that keep account of what was acknowledged, and the check that nothing of it is lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter

from tests.e2e.wire import Wire

SHARED = 4  # counters that all writers increment


class Ledger:
    """What writers sent, and which of it was acknowledged; keys begin with `prefix`.

    `looks`: what was acknowledged has to be read at once, too.
    """

    def __init__(self, prefix: str, *, looks: bool = True) -> None:
        self._prefix, self._looks = prefix, looks
        self.acknowledged: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.deleted: dict[str, bool] = {}
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def write(self, ports: list[int], number: int) -> None:
        """One writer: a key of its own that only grows, and counters shared with the others."""
        chance = random.Random(number)
        own = f"{self._prefix}own:{number}"
        while not self.stop.is_set():
            with contextlib.suppress(OSError), Wire(chance.choice(ports)) as wire:
                while not self.stop.is_set():
                    shared = f"{self._prefix}shared:{chance.randrange(SHARED)}"
                    self.step(wire, own, "SET", own, self.sent[own] + 1)
                    self.step(wire, shared, "INCR", shared)
                    if self._looks:
                        self.look(wire, own)

    def step(self, wire: Wire, key: str, *command: str | int) -> None:
        with self._lock:
            self.sent[key] += 1
        reply = wire.ask(*command)
        if reply.startswith(b"-"):
            with self._lock:
                self.errors[reply.split(b":")[1 if b":" in reply else 0].decode().strip()] += 1
            time.sleep(0.005)  # a client that backs off
        else:
            with self._lock:
                self.acknowledged[key] = (
                    self.sent[key] if command[0] == "SET" else self.acknowledged[key] + 1
                )

    def look(self, wire: Wire, own: str) -> None:
        """Nobody else writes it: it is what was acknowledged last, or sent since."""
        reply = wire.ask("GET", own)
        if reply.startswith(b"-"):
            return
        if not reply.startswith(b"$"):
            self.wrong.append(f"GET {own} was answered {reply!r}")
            return
        value = 0 if reply == b"$-1\r\n" else int(reply.split(b"\r\n")[1])
        if not self.acknowledged[own] <= value <= self.sent[own]:
            self.wrong.append(f"{own} is {value}, acknowledged {self.acknowledged[own]}")

    def check(self, wire: Wire) -> None:
        assert self.wrong == [], self.wrong[:5]
        for key, sent in sorted(self.sent.items()):
            reply = wire.ask("GET", key)
            value = 0 if reply == b"$-1\r\n" else int(reply.split(b"\r\n")[1])
            known = (key, self.acknowledged[key], reply, sent, self.errors)
            assert self.acknowledged[key] <= value <= sent, known
