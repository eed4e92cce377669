"""Runs actors step by step in a given order, with real servers behind the steps.

A step is one operation on a server. Before each, the actor waits at a gate until the
order says that it is its turn; between two steps anything else may happen.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

SPINS = 12  # turns of the loop in which whatever follows from a step reaches its next gate

_actor: contextvars.ContextVar[str] = contextvars.ContextVar("actor", default="")


def orders(steps: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Every interleaving of actors that make so many steps each."""
    names = [name for name, count in steps.items() for _ in range(count)]
    places = range(len(names))

    def merge(left: dict[str, int], done: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if len(done) == len(places):
            yield done
        for name, count in left.items():
            if count:
                yield from merge({**left, name: count - 1}, (*done, name))

    return merge(dict(steps), ())


class Play:
    """One run."""

    def __init__(self) -> None:
        self._gates: dict[str, list[tuple[asyncio.Future[None], asyncio.Event]]] = {}
        self.trace: list[str] = []
        self.free = False  # at the end nobody waits any more

    def gated(self, name: str, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """The operation as a step of whichever actor calls it."""

        async def step(*args: Any, **kwargs: Any) -> Any:
            actor = _actor.get()
            if not actor or self.free:
                return await operation(*args, **kwargs)
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done = asyncio.Event()
            self._gates.setdefault(actor, []).append((gate, done))
            await gate
            self.trace.append(f"{actor}.{name}")
            within = _actor.set("")  # what it consists of are no steps
            try:
                return await operation(*args, **kwargs)
            finally:
                _actor.reset(within)
                done.set()

        return step

    async def run(self, order: tuple[str, ...], **actors: Coroutine[Any, Any, Any]) -> list[Any]:
        """What each actor returned or raised."""
        tasks = []
        for name, coroutine in actors.items():
            context = contextvars.copy_context()
            context.run(_actor.set, name)
            loop = asyncio.get_running_loop()
            tasks.append(loop.create_task(coroutine, context=context))
        async with asyncio.timeout(10):
            for name in order:
                await self._spin()
                await self._advance(name)
            self.free = True
            for name in list(self._gates):
                while self._gates[name]:
                    await self._advance(name)
            return list(await asyncio.gather(*tasks, return_exceptions=True))

    async def _advance(self, name: str) -> None:
        waiting = self._gates.get(name)
        if waiting:  # else it is done, or waits for what another actor does
            gate, done = waiting.pop(0)
            gate.set_result(None)
            await done.wait()

    async def _spin(self) -> None:
        for _ in itertools.repeat(None, SPINS):
            await asyncio.sleep(0)
