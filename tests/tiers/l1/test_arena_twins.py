"""The twins of the L1 store side by side: while nothing is evicted they answer alike."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiers.twins import Arena, CArena, built, few_slots, new_arena

pytestmark = pytest.mark.skipif(CArena is None, reason="no compiled core here")

ROOMY_BYTES = 8 * 1024**2
KEYS = (b"", b"a", b"key:2", b"a long key " * 20, bytes(range(256)))
VARIANTS = (b"", b"1", b"3:0:HGETALL", bytes(600))
REPLIES = (b"", b"_\r\n", b"$1\r\nv\r\n", bytes(200), bytes(range(256)) * 300)

key = st.sampled_from(KEYS)
variant = st.sampled_from(VARIANTS)
operation = st.one_of(
    st.tuples(st.just("begin"), key),
    st.tuples(
        st.just("commit"), key, variant, st.sampled_from(REPLIES), st.integers(1, 40), st.booleans()
    ),
    st.tuples(st.sampled_from(["invalidate", "begin_write", "end_write"]), key),
    st.tuples(st.sampled_from(["flush", "bump_epoch"])),
    st.tuples(st.sampled_from(["get", "is_hot"]), key, variant, st.integers(0, 40)),
    st.tuples(st.sampled_from(["peek"]), key, variant),
)


class Run:
    """One store, and the fills that are under way in it."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.fills: dict[bytes, tuple[int, int]] = {}
        self.writing: defaultdict[bytes, int] = defaultdict(int)

    def answer(self, name: str, *args: Any) -> Any:
        arena = self.arena
        match name, args:
            case "begin", (key,):
                self.fills[key] = arena.begin_fill(key), arena.epoch
                return bool(self.fills[key][0])
            case "commit", (key, variant, reply, deadline, unasked):
                fill = self.fills.get(key)
                return fill and arena.commit_fill(key, variant, reply, *fill, deadline, unasked)
            case "begin_write", (key,):
                self.writing[key] += 1
                return arena.begin_writes((key,))
            case "end_write", (key,):
                if self.writing[key]:
                    self.writing[key] -= 1
                    arena.end_writes(iter((key,)))
                return None
            case (("get" | "is_hot"), (key, variant, now)):
                return getattr(arena, name)(key, variant, float(now))
            case "peek", (key, variant):
                entry = arena.peek(key, variant)
                return entry and (entry[0], entry[1], entry[3])
        return getattr(arena, name)(*args)

    def state(self) -> dict[str, Any]:
        arena = self.arena
        return {
            "keys": set(arena.snapshot()),
            "len": len(arena),
            "variants": [arena.variants(key) for key in KEYS],
            "epoch": arena.epoch,
            "evictions": arena.evictions,
            "invalidations": arena.invalidations,
            "writes": arena.writes_in_flight,
            "writing": [arena.begin_fill(key) == 0 for key in KEYS],
        }


def apart(arena: Arena) -> bool:
    """Whether no two keys share a slot, by what an invalidation of one does to the others."""
    for number, key in enumerate(KEYS):
        others = KEYS[:number] + KEYS[number + 1 :]
        before = [arena.begin_fill(other) for other in others]
        arena.invalidate(key)
        if before != [arena.begin_fill(other) for other in others]:
            return False
    return True


def test_each_variant_that_a_refresh_filled_waits_for_its_own_reader() -> None:
    for core in ("py", "c"):
        run = Run(new_arena(core, ROOMY_BYTES, max_variants=2))
        for variant in (b"", b"1"):
            run.answer("begin", b"k")
            assert run.answer("commit", b"k", variant, b"v", 9, True)
        assert not run.answer("is_hot", b"k", b"", 1), core
        assert not run.answer("is_hot", b"k", b"1", 1), core
        run.answer("get", b"k", b"1", 1)
        assert not run.answer("is_hot", b"k", b"", 1), core
        assert run.answer("is_hot", b"k", b"1", 1), core


@pytest.mark.parametrize("sharing", [False, True], ids=["a slot each", "one slot"])
@settings(max_examples=150)
@given(st.lists(operation, max_size=60))
def test_the_twins_answer_alike(sharing: bool, operations: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if sharing:
            few_slots(1, monkeypatch)
        py = Run(new_arena("py", ROOMY_BYTES, max_variants=2))
        c = Run(new_arena("c", ROOMY_BYTES, max_variants=2, slots=1 if sharing else 0))
        if not sharing and not (apart(py.arena) and apart(c.arena)):
            return  # the seeds of this run put two keys into one slot
        for step in operations:
            assert c.answer(*step) == py.answer(*step), step
            assert c.state() == py.state(), step
        c.arena.check()
        for key, count in py.writing.items():
            for _ in range(count):
                py.arena.end_write(key)
        py.arena.check()
        built.clear()  # no check holds any more when the slots are as many as ever
