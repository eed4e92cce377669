"""Periodic work: one janitor per owner calls its jobs, each at its own interval.

A job is a plain function or a coroutine function. Each runs in a task of its own, so a slow job
does not delay another one, and the interval begins when the job has ended. A job that raises is
logged and called again after its interval.

Work that waits for an event with a timeout is no job of the janitor: the connections with their
back-off, the refresher, and the watches of SWAPDB and of the store's lineage have loops of their
own, because an event must not wait for the interval to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .tasks import TaskSet

log = logging.getLogger("terrace.tasks")


class Janitor:
    """The periodic jobs of the owner of `tasks`; they end when the owner closes that set.

    `sleep` waits for a number of seconds.
    """

    def __init__(
        self, tasks: TaskSet, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._tasks = tasks
        self._sleep = sleep
        self._names: list[str] = []

    def __repr__(self) -> str:
        return f"<Janitor {self._names}>"

    def register(
        self,
        name: str,
        interval_s: float | Callable[[], float],
        work: Callable[[], Awaitable[None] | None],
        *,
        at_once: bool = False,
    ) -> None:
        """Call `work` every `interval_s` from now on; `at_once`: the first time without delay.

        A callable `interval_s` is called before each interval.
        """
        delay_s = interval_s if callable(interval_s) else lambda: interval_s
        self._names.append(name)
        self._tasks.start(name, self._keep(name, delay_s, work, at_once=at_once))

    async def _keep(
        self,
        name: str,
        delay_s: Callable[[], float],
        work: Callable[[], Awaitable[None] | None],
        *,
        at_once: bool,
    ) -> None:
        if not at_once:
            await self._sleep(delay_s())
        while True:
            try:
                under_way = work()
                if under_way is not None:
                    await under_way
            except Exception:
                log.exception("%s failed; it runs again after its interval", name)
            await self._sleep(delay_s())
