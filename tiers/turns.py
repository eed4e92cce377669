"""Work over many things, in portions that fit into a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic
from typing import TypeVar

PORTION_S = 0.005  # of one turn; then all others have theirs
LOOK_EVERY = 16  # things between two looks at the clock

Thing = TypeVar("Thing")


async def in_turns(
    things: Iterable[Thing], *, look_every: int = LOOK_EVERY, clock: Callable[[], float] = monotonic
) -> AsyncIterator[Thing]:
    """These things; after a portion the loop makes a turn. What they are taken from must
    not change meanwhile. `look_every` is 1 where one of them may take long."""
    until = clock() + PORTION_S
    for number, thing in enumerate(things, start=1):
        yield thing
        if number % look_every == 0 and clock() > until:
            await asyncio.sleep(0)
            until = clock() + PORTION_S
