"""All keys of a view leave L1, some in each turn of the loop."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from tiers.l1.arena import Arena
from tiers.l1.memory import L1Memory
from tiers.l1.namespaces import Namespaces
from tiers.l2.redis import L2Redis
from tiers.load.view_changes import ViewChanges
from tiers.options import L1Options, ViewOptions
from tiers.tasks import TaskSet
from tiers.views import ViewMapping

KEYS = 20_000


def filled() -> tuple[L1Memory, ViewMapping]:
    options = L1Options(max_bytes=32 << 20)
    l1 = L1Memory(options, time.monotonic, Namespaces([], options))
    mapping = ViewMapping(ViewOptions(keys="item:{id}", view="items"))
    return l1, mapping


def fill(l1: L1Memory, prefix: bytes, count: int) -> None:
    arena = cast(Arena, l1.arena)
    for n in range(count):
        key = b"%b%d" % (prefix, n)
        token = arena.begin_fill(key)
        arena.commit_fill(key, b"", b"$1\r\nx\r\n", token, arena.epoch, float("inf"))


async def test_a_flush_notice_leaves_the_loop_to_others() -> None:
    l1, mapping = filled()
    fill(l1, b"item:", KEYS)
    fill(l1, b"other:", 100)
    assert len(l1.arena.snapshot()) > KEYS // 2
    tasks = TaskSet("test")
    changes = ViewChanges(l1, cast(L2Redis, None), tasks)
    changes.on_change(mapping, 2, None)
    changes.on_change(mapping, 3, None)
    turns = 0
    while len(tasks):
        turns += 1
        await asyncio.sleep(0)
    assert not [key for key in l1.arena.snapshot() if key.startswith(b"item:")]
    assert len(l1.arena.snapshot()) > 50, "keys of others stay"
    assert turns > 3
