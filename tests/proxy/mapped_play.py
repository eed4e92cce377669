"""Dialogues with a proxy that has mapped keys; L3 is played by the test as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.proxy.session_play import NOWHERE, Play, command
from tiers import Kind, Outcome, Value, ViewMapping
from tiers.resp import integer

DOWN = Outcome(Kind.UNAVAILABLE, tier="L3", reason="connection refused")


class Loads:
    """L3 as the stack offers it: loads are noted, and answered when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Callable[[Outcome], None]]] = []
        self.absent: set[bytes] = set()  # known to be, until the test says that it changed

    def load(self, mapping: ViewMapping, key: bytes, on_done: Callable[[Outcome], None]) -> None:
        self.waiting.append((key, on_done))

    def absence_s(self, key: bytes) -> float:
        return 5.0 if key in self.absent else 0.0

    def answer(self, key: str, outcome: Outcome | Value | None, *, overtaken: bool = False) -> None:
        """A row, None for no row, or any other outcome; `overtaken` by a change of the view."""
        if not isinstance(outcome, Outcome):
            kind = Kind.NEGATIVE if outcome is None else Kind.HIT
            outcome = Outcome(kind, value=outcome, tier="L3")
        (name, on_done), *self.waiting = self.waiting
        assert name == key.encode()
        if outcome.kind is Kind.NEGATIVE and not overtaken:
            self.absent.add(name)
        on_done(outcome)


class L3Play(Play):
    """A proxy whose keys m:* (strings) and h:* (hashes) are mapped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **l3: Any) -> None:
        views = [
            {"keys": "m:{id}", "view": "strings", "reply": "string:text"},
            {"keys": "h:{id}", "view": "hashes", "reply": "hash"},
            {"keys": "t:{id}", "view": "tombs", "on_delete": "tombstone", "ttl": "10s"},
        ]
        super().__init__(l2={"url": NOWHERE}, l3={"dsn": "host=/nonexistent", "view": views, **l3})
        self.loads = Loads()
        monkeypatch.setattr(self.terrace.stack.fault_in, "load", self.loads.load)
        monkeypatch.setattr(self.terrace.stack, "absence_s", self.loads.absence_s)

    async def fault_in(self, key: str, outcome: Outcome | Value | None) -> None:
        """A command that needs this key in L2: asked for there, missing, then loaded."""
        await self.settle()
        self.plain3 << command("EXISTS", key)
        self.plain3 >> integer(0)
        await self.settle()
        self.loads.answer(key, outcome)
        await self.settle()
