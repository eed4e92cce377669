"""Iterates over many things in portions that fit into a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic
from typing import TypeVar

PORTION_S = 0.005  # per turn; then all other tasks get theirs
CHECK_EVERY = 16  # things between two reads of the clock

Thing = TypeVar("Thing")


async def in_turns(
    things: Iterable[Thing],
    *,
    check_every: int = CHECK_EVERY,
    clock: Callable[[], float] = monotonic,
) -> AsyncIterator[Thing]:
    """Yield these things; after a portion the loop makes a turn. Their source must not change
    meanwhile. Use `check_every` = 1 if one of them may take long."""
    until = clock() + PORTION_S
    for number, thing in enumerate(things, start=1):
        yield thing
        if number % check_every == 0 and clock() > until:
            await asyncio.sleep(0)
            until = clock() + PORTION_S
