"""What the tests of connections to Redis share: waiting for what nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.tiers.scripted_redis import WAIT_S
from tests.tiers.wire.test_pipe import Recorder
from tiers.options import L2Options
from tiers.wire.resp import pack

SECRET = "hunter2-%40"
PING = pack([b"PING"])


def options(**changes: Any) -> L2Options:
    quick = {"backoff_min_s": 0.001, "backoff_max_s": 0.01, "connect_timeout_s": 2.0}
    return L2Options.model_validate(quick | changes)


async def until(condition: Callable[[], bool]) -> None:
    """For a state that nobody announces."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Waits(Recorder):
    """A recorder that can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        super().on_reply(reply, sent_at)
        self.told.set()

    def on_lost(self, reason: str, sent: bool) -> None:
        super().on_lost(reason, sent)
        self.told.set()

    async def wait(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.told.wait()
