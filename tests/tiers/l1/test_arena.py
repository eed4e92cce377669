"""The L1 store, either twin: S3-FIFO behaviour, its byte budget, tokens, variants, epochs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from tests.tiers.twins import TWINS, Arena, few_slots, new_arena
from tiers.l1._arena_py import HOLES_MIN, NODE_BYTES, VARIANT_BYTES

NOW = 100.0
LATER = 200.0
COST_BYTES = 1000  # of every entry that `put` stores, about
# What the twins need beside the reply, for a key of five bytes.
OVERHEAD_BYTES = {"py": NODE_BYTES + VARIANT_BYTES + 5, "c": 22 + 5 + 11}
REPLY = b""  # of the twin under test

Build = Callable[..., Arena]


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    monkeypatch.setitem(globals(), "REPLY", b"$" + bytes(COST_BYTES - OVERHEAD_BYTES[name] - 1))
    return name


@pytest.fixture
def build(twin: str) -> Build:
    def build(max_bytes: int, **options: Any) -> Arena:
        return new_arena(twin, max_bytes, **options)

    return build


def key(number: int) -> bytes:
    return b"k%04d" % number


def put(arena: Arena, name: bytes, reply: bytes | None = None, variant: bytes = b"") -> bool:
    reply = REPLY if reply is None else reply
    return arena.commit_fill(name, variant, reply, arena.begin_fill(name), arena.epoch, LATER)


def has(arena: Arena, name: bytes) -> bool:
    """Without touching it."""
    return arena.peek(name, b"") is not None


def full(build: Build, entries: int = 100) -> Arena:
    """An arena for so many entries, filled until it had to evict one."""
    arena = build(entries * COST_BYTES)
    number = 0
    while not arena.evictions:
        assert put(arena, key(number))
        number += 1
    assert number == pytest.approx(entries + 1, abs=2, rel=0.05)
    return arena


def touch(arena: Arena, name: bytes, times: int = 1) -> None:
    for _ in range(times):
        assert arena.get(name, b"", NOW) is not None


# Policy


def test_the_first_fill_keeps_everything(build: Build) -> None:
    arena = build(103 * COST_BYTES)
    for number in range(100):
        put(arena, key(number))
    assert all(has(arena, key(number)) for number in range(100))
    assert (len(arena), arena.evictions) == (100, 0)
    assert arena.used_bytes == pytest.approx(100 * COST_BYTES, rel=0.02)
    for number in range(100, 105):
        put(arena, key(number))
    assert 0 < arena.evictions < 5
    assert len(arena) + arena.evictions == 105


def test_a_scan_does_not_wash_out_what_is_asked_for(build: Build) -> None:
    arena = full(build)
    hot = [key(number) for number in range(50, 100)]
    for number in range(1000, 4000):
        put(arena, key(number))
        if number % 50 == 0:
            for name in hot:
                touch(arena, name)
    assert all(has(arena, name) for name in hot)
    assert len(arena) == pytest.approx(100, abs=4)


def test_two_touches_in_small_earn_a_place_in_main(build: Build) -> None:
    arena = full(build)
    put(arena, b"once!")
    put(arena, b"twice")
    touch(arena, b"once!", 1)
    touch(arena, b"twice", 2)
    for number in range(1000, 1100):
        put(arena, key(number))
    assert not has(arena, b"once!")
    assert has(arena, b"twice")


def test_who_comes_back_soon_goes_into_main(build: Build) -> None:
    arena = full(build)
    put(arena, b"again")
    for number in range(1000, 1015):
        put(arena, key(number))
    assert not has(arena, b"again"), "not thrown out of small yet"
    put(arena, b"again")
    for number in range(2000, 2050):
        put(arena, key(number))
    assert has(arena, b"again"), "the ghost did not remember it"


def test_main_gives_touched_entries_another_round(build: Build) -> None:
    arena = full(build, 12)
    kept = key(5)
    touch(arena, kept)
    for number in range(20, 27):  # each is promoted, so that main has to give way
        put(arena, key(number))
        touch(arena, key(number), 2)
    assert has(arena, kept)
    assert not has(arena, key(4))
    assert not has(arena, key(6))


def test_hot_is_what_is_current_and_was_asked_for(build: Build) -> None:
    arena = build(100 * COST_BYTES)
    assert not arena.is_hot(b"k", b"", NOW)
    put(arena, b"k")
    assert arena.is_hot(b"k", b"", NOW), "somebody read it: that filled it"
    assert not arena.is_hot(b"k", b"", LATER)
    assert not arena.is_hot(b"k", b"variant", NOW)
    arena.invalidate(b"k")
    assert not arena.is_hot(b"k", b"", NOW)
    token = arena.begin_fill(b"k")
    assert arena.commit_fill(b"k", b"", REPLY, token, arena.epoch, LATER, unasked=True)
    assert not arena.is_hot(b"k", b"", NOW), "nobody has read it since"
    assert not arena.is_hot(b"k", b"", NOW), "asking is not reading"
    assert arena.get(b"k", b"", NOW) == REPLY
    assert arena.is_hot(b"k", b"", NOW)
    arena.bump_epoch()
    assert not arena.is_hot(b"k", b"", NOW)


def test_touches_are_capped(build: Build) -> None:
    arena = full(build, 12)
    touch(arena, key(5), 50)
    for number in range(20, 80):
        put(arena, key(number))
        touch(arena, key(number), 2)
    assert not has(arena, key(5)), "fifty touches must not last for ever"


def test_a_refill_after_an_invalidation_keeps_its_place(build: Build) -> None:
    arena = full(build)
    arena.invalidate(key(50))
    put(arena, key(50))
    for number in range(1000, 1030):
        put(arena, key(number))
    assert has(arena, key(50))


# Budget


def test_what_is_too_big_for_small_is_refused(build: Build) -> None:
    arena = build(100 * COST_BYTES)
    assert not put(arena, b"big", bytes(10 * COST_BYTES))
    assert put(arena, b"big", bytes(9 * COST_BYTES))
    assert not put(build(0), b"k", b"")


def test_a_bigger_value_in_place_is_charged(build: Build) -> None:
    arena = full(build)
    for number in range(50, 60):
        assert put(arena, key(number), bytes(9 * COST_BYTES))
    assert arena.used_bytes <= arena.max_bytes
    arena.check()


def test_a_key_whose_variants_outgrow_the_store_leaves_it(build: Build) -> None:
    arena = build(100 * COST_BYTES)
    for number in range(16):
        put(arena, b"k", bytes(9 * COST_BYTES), b"v%d" % number)
        arena.check()
    assert arena.used_bytes <= arena.max_bytes


def test_resize_evicts_at_once_and_grows_at_will(build: Build) -> None:
    arena = full(build)
    arena.resize(10 * COST_BYTES)
    assert len(arena) == pytest.approx(10, abs=2)
    assert arena.used_bytes <= arena.max_bytes == 10 * COST_BYTES
    arena.check()
    arena.resize(50 * COST_BYTES)
    for number in range(1000, 1300):
        put(arena, key(number))
    assert len(arena) == pytest.approx(50, abs=3)


def test_the_ghost_shrinks_with_the_store(build: Build) -> None:
    arena = full(build, 4000)
    for number in range(5000, 12_000):
        put(arena, key(number))
    arena.resize(10 * COST_BYTES)
    arena.check()


def test_what_is_invalidated_again_and_again_takes_no_room(build: Build) -> None:
    arena = build(100 * COST_BYTES)
    for number in range(20):
        put(arena, key(number))
    for _ in range(5 * HOLES_MIN):
        for name in (key(1), key(2)):
            arena.invalidate(name)
            put(arena, name)
            touch(arena, name, 3)
        for number in range(20):
            if has(arena, key(number)):
                touch(arena, key(number))
            else:
                put(arena, key(number))
    assert len(arena) == 20
    arena.check()


# Tokens, writes, epochs


def fill_survives(arena: Arena, *between: tuple[str, bytes]) -> bool:
    """Whether a fill of `k` commits when these happen while it is under way."""
    token, epoch = arena.begin_fill(b"k"), arena.epoch
    for method, name in between:
        getattr(arena, method)(*([name] if name else []))
    return arena.commit_fill(b"k", b"", b"+v\r\n", token, epoch, LATER)


def test_a_fill_that_was_overtaken_is_refused(build: Build) -> None:
    assert fill_survives(build(10**6))
    assert fill_survives(build(10**6), ("invalidate", b"another"))
    assert not fill_survives(build(10**6), ("invalidate", b"k"))
    assert not fill_survives(build(10**6), ("begin_write", b"k"))
    assert not fill_survives(build(10**6), ("begin_write", b"k"), ("end_write", b"k"))
    assert not fill_survives(build(10**6), ("flush", b""))
    assert not fill_survives(build(10**6), ("bump_epoch", b""))


def test_no_fill_while_any_write_is_in_flight(build: Build) -> None:
    arena = build(10**6)
    arena.begin_write(b"k")
    arena.begin_write(b"k")
    arena.end_write(b"k")
    assert arena.begin_fill(b"k") == 0
    assert not put(arena, b"k")
    arena.end_write(b"k")
    assert put(arena, b"k")


def test_a_write_drops_what_was_cached_at_both_its_ends(build: Build) -> None:
    arena = build(10**6)
    put(arena, b"k")
    arena.begin_write(b"k")
    assert arena.get(b"k", b"", NOW) is None
    arena.end_write(b"k")
    assert arena.get(b"k", b"", NOW) is None


def test_tokens_are_never_given_twice_and_carry_their_worker(build: Build) -> None:
    arena = build(10**6, worker=3)
    arena.invalidate(b"k")
    seen = {arena.begin_fill(b"k")}
    for number in range(100):
        [arena.invalidate, arena.begin_write, arena.end_write][number % 3](b"k")
        if token := arena.begin_fill(b"k"):
            assert token not in seen
            seen.add(token)
    for _ in range(300):
        arena.flush()
        assert arena.begin_fill(b"k") not in seen
        seen.add(arena.begin_fill(b"k"))
    assert {token >> 48 for token in seen} == {3}


def test_keys_of_one_slot_cost_each_other_only_misses(
    twin: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_slots(1, monkeypatch)
    arena = build(10**6) if twin == "py" else build(10**6, slots=1)
    put(arena, b"a", b"+a\r\n")
    arena.invalidate(b"b")
    assert arena.get(b"a", b"", NOW) is None
    put(arena, b"a", b"+a\r\n")
    put(arena, b"b", b"+b\r\n")
    assert arena.get(b"a", b"", NOW) == b"+a\r\n"


def test_an_ended_epoch_leaves_suspects(build: Build) -> None:
    arena = build(10**6)
    put(arena, b"k", b"+v\r\n")
    put(arena, b"changed", b"+v\r\n")
    ended = arena.epoch
    assert arena.bump_epoch() == arena.epoch == ended + 1
    arena.invalidate(b"changed")
    assert arena.get(b"k", b"", NOW) is None
    assert arena.peek(b"k", b"") is not None
    assert arena.peek(b"changed", b"") is None
    put(arena, b"k", b"+new\r\n")
    assert arena.get(b"k", b"", NOW) == b"+new\r\n"


def test_deadlines_are_exclusive(build: Build) -> None:
    arena = build(10**6)
    put(arena, b"k")
    assert arena.get(b"k", b"", LATER - 1e-6) is not None
    assert arena.get(b"k", b"", LATER) is None


# Variants


def test_variants_are_separate_and_fall_together(build: Build) -> None:
    arena = build(10**6)
    for variant in (b"", b"3:0:HLEN", b"1"):
        put(arena, b"k", b"+" + variant, variant)
    assert [arena.get(b"k", v, NOW) for v in (b"", b"3:0:HLEN", b"1", b"2")] == [
        b"+", b"+3:0:HLEN", b"+1", None,
    ]  # fmt: skip
    assert arena.variants(b"k") == 3
    assert arena.snapshot() == [b"k"]
    assert [*chain(*arena.parts())] == [b"k"]
    arena.invalidate(b"k")
    assert arena.variants(b"k") == arena.size_bytes(b"k") == len(arena) == 0
    assert arena.get(b"k", b"3:0:HLEN", NOW) is None


def test_variants_per_key_are_bounded_the_oldest_leaves(build: Build) -> None:
    arena = build(10**6, max_variants=4)
    put(arena, b"k", b"+plain")
    for number in range(6):
        put(arena, b"k", b"+v", b"%d" % number)
        arena.check()
    put(arena, b"k", b"+again", b"2")  # filled anew: the youngest now
    put(arena, b"k", b"+v", b"6")
    present = [n for n in range(7) if arena.get(b"k", b"%d" % n, NOW)]
    assert present == [2, 4, 5, 6]
    assert arena.get(b"k", b"", NOW) == b"+plain"


# Flush


def test_a_flush_forgets_at_once(build: Build) -> None:
    arena = full(build, 2000)
    arena.invalidate(key(1500))
    arena.flush()
    assert len(arena) == 0
    assert arena.snapshot() == []
    assert [*chain(*arena.parts())] == []
    assert arena.used_bytes <= arena.max_bytes // 20, "what stays is an index without entries"
    assert arena.get(key(100), b"", NOW) is None
    arena.check()
    for number in range(1900):
        assert put(arena, key(number))
    assert len(arena) == 1900


def test_flushes_in_a_row_and_a_fill_between(build: Build) -> None:
    arena = build(10**6)
    for _ in range(3):
        put(arena, b"k")
        arena.flush()
        arena.flush()
    assert arena.get(b"k", b"", NOW) is None
    put(arena, b"k", b"+v\r\n")
    assert arena.get(b"k", b"", NOW) == b"+v\r\n"
