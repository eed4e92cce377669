"""Dialogues with a proxy that has mapped keys; L3 is played by the test as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.proxy.session_play import NOWHERE, Play, command
from tests.proxy.step_play import name_steps_alike
from tiers import Kind, Outcome, Value
from tiers.proxy_door import HeldRow, ViewMapping
from tiers.wire.resp import bulk, integer

DOWN = Outcome(Kind.UNAVAILABLE, tier="L3", reason="connection refused")


Held = tuple[list[HeldRow], Outcome | None]


class Loads:
    """L3 as the stack offers it: loads are noted, and answered when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Callable[[Outcome], None]]] = []
        self.absent: set[bytes] = set()  # known to be, until the test says that it changed
        self.held: list[tuple[list[bytes], asyncio.Future[Held]]] = []

    async def hold(self, pairs: Sequence[tuple[ViewMapping, bytes]]) -> Held:
        future: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self.held.append(([key for _, key in pairs], future))
        return await future

    def show(self, keys: str, rows: Sequence[HeldRow], failure: Outcome | None = None) -> None:
        """The rows that were asked for, without being stored."""
        (names, future), *self.held = self.held
        assert names == keys.encode().split()
        future.set_result((list(rows), failure))

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
        monkeypatch.setattr(self.terrace.stack.fault_in, "hold", self.loads.hold)
        name_steps_alike()

    def row(self, key: str, value: Value | None) -> HeldRow:
        stack = self.terrace.stack
        assert stack.l3 is not None
        mapping = stack.l3.mappings.match(key.encode())
        assert mapping is not None
        return HeldRow(key.encode(), mapping, b"7", value, 10.0)

    async def show(self, key: str, value: Value | None, failure: Outcome | None = None) -> HeldRow:
        """The row of a key; None for no row."""
        await self.settle()
        row = self.row(key, value)
        self.loads.show(key, [row] if value is not None else [], failure)
        await self.settle()
        return row

    async def renew(self, *views: str, epoch: bytes = b"7") -> None:
        """EXEC asks whether rows are those of the newest refresh."""
        await self.settle()
        for view in views:
            self.plain3 << command("HGET", "__terrace:epochs", view)
            self.plain3 >> bulk(epoch)
        await self.settle()

    async def fault_in(self, key: str, outcome: Outcome | Value | None) -> None:
        """A command that needs this key in L2: asked for there, missing, then loaded."""
        await self.settle()
        self.plain3 << command("EXISTS", key)
        self.plain3 >> integer(0)
        await self.settle()
        self.loads.answer(key, outcome)
        await self.settle()
