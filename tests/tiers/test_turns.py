"""Work over many things leaves the loop to others between two portions."""

from __future__ import annotations

import asyncio

from tests.tiers.manual_clock import Clock
from tiers.tasks import TaskSet
from tiers.turns import PORTION_S, in_turns


async def test_others_have_their_turn_between_two_portions() -> None:
    clock = Clock()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    tasks = TaskSet("test")
    tasks.start("other", count_turns())
    seen = []
    async for thing in in_turns(range(1000), check_every=10, clock=clock):
        seen.append(thing)
        clock.now += PORTION_S / 25
    assert seen == list(range(1000))
    assert 25 <= turns <= 50
    await tasks.close()


async def test_what_is_little_takes_one_turn() -> None:
    other = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(other.set_result, None)
    assert [thing async for thing in in_turns("abc", check_every=1)] == ["a", "b", "c"]
    assert not other.done()
    await other
