"""The L1 store: S3-FIFO behaviour, its byte budget, tokens, variants, epochs."""

from __future__ import annotations

import pytest

from tiers import _arena_py
from tiers._arena_py import GARBAGE_PER_COMMIT, HOLES_MIN, NODE_BYTES, VARIANT_BYTES, Arena

NOW = 100.0
LATER = 200.0
COST_BYTES = 1000  # of every entry that `put` stores
REPLY = b"$" + bytes(COST_BYTES - NODE_BYTES - VARIANT_BYTES - 5 - 1)


def key(number: int) -> bytes:
    return b"k%04d" % number


def put(arena: Arena, name: bytes, reply: bytes = REPLY, variant: bytes = b"") -> bool:
    return arena.commit_fill(name, variant, reply, arena.begin_fill(name), arena.epoch, LATER)


def has(arena: Arena, name: bytes) -> bool:
    """Without touching it."""
    return arena.peek(name, b"") is not None


def full(entries: int = 100) -> Arena:
    """An arena of so many entries, filled and asked for one more."""
    arena = Arena(entries * COST_BYTES)
    for number in range(entries + 1):
        assert put(arena, key(number))
    return arena


def touch(arena: Arena, name: bytes, times: int = 1) -> None:
    for _ in range(times):
        assert arena.get(name, b"", NOW) is not None


# Policy


def test_the_first_fill_keeps_everything() -> None:
    arena = Arena(100 * COST_BYTES)
    for number in range(100):
        put(arena, key(number))
    assert all(has(arena, key(number)) for number in range(100))
    assert (arena.used_bytes, arena.evictions) == (100 * COST_BYTES, 0)
    put(arena, key(100))
    assert (len(arena), arena.evictions) == (100, 1)


def test_a_scan_does_not_wash_out_what_is_asked_for() -> None:
    arena = full()
    hot = [key(number) for number in range(50, 100)]
    for number in range(1000, 4000):
        put(arena, key(number))
        if number % 50 == 0:
            for name in hot:
                touch(arena, name)
    assert all(has(arena, name) for name in hot)
    assert len(arena) == 100


def test_two_touches_in_small_earn_a_place_in_main() -> None:
    arena = full()
    put(arena, b"once!")
    put(arena, b"twice")
    touch(arena, b"once!", 1)
    touch(arena, b"twice", 2)
    for number in range(1000, 1100):
        put(arena, key(number))
    assert not has(arena, b"once!")
    assert has(arena, b"twice")


def test_who_comes_back_soon_goes_into_main() -> None:
    arena = full()
    put(arena, b"again")
    for number in range(1000, 1015):
        put(arena, key(number))
    assert not has(arena, b"again"), "not thrown out of small yet"
    put(arena, b"again")
    for number in range(2000, 2050):
        put(arena, key(number))
    assert has(arena, b"again"), "the ghost did not remember it"


def test_main_gives_touched_entries_another_round() -> None:
    arena = full(10)
    kept = key(5)
    touch(arena, kept)
    for number in range(20, 27):  # each is promoted, so that main has to give way
        put(arena, key(number))
        touch(arena, key(number), 2)
    assert has(arena, kept)
    assert not has(arena, key(4))
    assert not has(arena, key(6))


def test_touches_are_capped() -> None:
    arena = full(10)
    touch(arena, key(5), 50)
    for number in range(20, 80):
        put(arena, key(number))
        touch(arena, key(number), 2)
    assert not has(arena, key(5)), "fifty touches must not last for ever"


def test_a_refill_after_an_invalidation_keeps_its_place() -> None:
    arena = full()
    arena.invalidate(key(50))
    put(arena, key(50))
    for number in range(1000, 1030):
        put(arena, key(number))
    assert has(arena, key(50))


# Budget


def test_what_is_too_big_for_small_is_refused() -> None:
    arena = Arena(100 * COST_BYTES)
    assert not put(arena, b"big", bytes(10 * COST_BYTES))
    assert put(arena, b"big", bytes(9 * COST_BYTES))
    assert not put(Arena(0), b"k", b"")


def test_a_bigger_value_in_place_is_charged() -> None:
    arena = full()
    for number in range(50, 60):
        assert put(arena, key(number), bytes(9 * COST_BYTES))
    assert arena.used_bytes <= arena.max_bytes
    arena.check()


def test_a_key_whose_variants_outgrow_the_store_leaves_it() -> None:
    arena = Arena(100 * COST_BYTES)
    for number in range(16):
        put(arena, b"k", bytes(9 * COST_BYTES), b"v%d" % number)
        arena.check()
    assert arena.used_bytes <= arena.max_bytes


def test_resize_evicts_at_once_and_grows_at_will() -> None:
    arena = full()
    arena.resize(10 * COST_BYTES)
    assert len(arena) == 10
    arena.check()
    arena.resize(50 * COST_BYTES)
    for number in range(1000, 1300):
        put(arena, key(number))
    assert len(arena) == 50


def test_the_ghost_shrinks_with_the_store() -> None:
    arena = full(4000)
    for number in range(5000, 12_000):
        put(arena, key(number))
    arena.resize(10 * COST_BYTES)
    arena.check()


def test_holes_do_not_pile_up() -> None:
    arena = Arena(100 * COST_BYTES)
    put(arena, key(0))
    for _ in range(5 * HOLES_MIN):  # nothing is evicted meanwhile
        put(arena, key(1))
        arena.invalidate(key(1))
        queued = len(arena._main) + len(arena._small)
        assert queued <= HOLES_MIN + 3
    arena.check()


# Tokens, writes, epochs


def fill_survives(arena: Arena, *between: tuple[str, bytes]) -> bool:
    """Whether a fill of `k` commits when these happen while it is under way."""
    token, epoch = arena.begin_fill(b"k"), arena.epoch
    for method, name in between:
        getattr(arena, method)(*([name] if name else []))
    return arena.commit_fill(b"k", b"", b"+v\r\n", token, epoch, LATER)


def test_a_fill_that_was_overtaken_is_refused() -> None:
    assert fill_survives(Arena(10**6))
    assert fill_survives(Arena(10**6), ("invalidate", b"another"))
    assert not fill_survives(Arena(10**6), ("invalidate", b"k"))
    assert not fill_survives(Arena(10**6), ("begin_write", b"k"))
    assert not fill_survives(Arena(10**6), ("begin_write", b"k"), ("end_write", b"k"))
    assert not fill_survives(Arena(10**6), ("flush", b""))
    assert not fill_survives(Arena(10**6), ("bump_epoch", b""))


def test_no_fill_while_any_write_is_in_flight() -> None:
    arena = Arena(10**6)
    arena.begin_write(b"k")
    arena.begin_write(b"k")
    arena.end_write(b"k")
    assert arena.begin_fill(b"k") == 0
    assert not put(arena, b"k")
    arena.end_write(b"k")
    assert put(arena, b"k")


def test_a_write_drops_what_was_cached_at_both_its_ends() -> None:
    arena = Arena(10**6)
    put(arena, b"k")
    arena.begin_write(b"k")
    assert arena.get(b"k", b"", NOW) is None
    arena.end_write(b"k")
    assert arena.get(b"k", b"", NOW) is None


def test_tokens_are_never_given_twice_and_carry_their_worker() -> None:
    arena = Arena(10**6, worker=3)
    seen = {arena.begin_fill(b"k")}
    for number in range(100):
        [arena.invalidate, arena.begin_write, arena.end_write][number % 3](b"k")
        if token := arena.begin_fill(b"k"):
            assert token not in seen
            seen.add(token)
    arena.flush()
    assert arena.begin_fill(b"k") not in seen
    assert {token >> 48 for token in seen} == {3}


def test_keys_of_one_slot_cost_each_other_only_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arena_py, "_MASK", 0)
    arena = Arena(10**6)
    put(arena, b"a", b"+a\r\n")
    arena.invalidate(b"b")
    assert arena.get(b"a", b"", NOW) is None
    put(arena, b"a", b"+a\r\n")
    put(arena, b"b", b"+b\r\n")
    assert arena.get(b"a", b"", NOW) == b"+a\r\n"


def test_an_ended_epoch_leaves_suspects() -> None:
    arena = Arena(10**6)
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


def test_deadlines_are_exclusive() -> None:
    arena = Arena(10**6)
    put(arena, b"k")
    assert arena.get(b"k", b"", LATER - 1e-6) is not None
    assert arena.get(b"k", b"", LATER) is None


# Variants


def test_variants_are_separate_and_fall_together() -> None:
    arena = Arena(10**6)
    for variant in (b"", b"3:0:HLEN", b"1"):
        put(arena, b"k", b"+" + variant, variant)
    assert [arena.get(b"k", v, NOW) for v in (b"", b"3:0:HLEN", b"1", b"2")] == [
        b"+", b"+3:0:HLEN", b"+1", None,
    ]  # fmt: skip
    assert arena.variants(b"k") == 3
    assert arena.snapshot() == [b"k"]
    arena.invalidate(b"k")
    assert arena.variants(b"k") == arena.size_bytes(b"k") == len(arena) == 0
    assert arena.get(b"k", b"3:0:HLEN", NOW) is None


def test_variants_per_key_are_bounded_the_oldest_leaves() -> None:
    arena = Arena(10**6, max_variants=4)
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


def test_a_flush_forgets_at_once_and_frees_in_the_background() -> None:
    arena = full(2000)
    arena.invalidate(key(1500))
    arena.flush()
    assert len(arena) == arena.used_bytes == 0
    assert arena.get(key(100), b"", NOW) is None
    arena.check()

    def garbage() -> int:
        return sum(map(len, arena._garbage))

    lagging = garbage()
    assert lagging >= 2000, "freeing it all at once is a pause"
    commits = 0
    while garbage():
        put(arena, key(commits % 100))
        commits += 1
        assert garbage() < lagging or not lagging
        lagging = garbage()
    assert commits <= 5 * 2000 / GARBAGE_PER_COMMIT


def test_flushes_of_an_empty_store_leave_nothing_behind() -> None:
    """Nothing frees it as long as nobody fills: clients may flush again and again."""
    arena = full(100)
    arena.flush()
    lagging = len(arena._garbage)
    for _ in range(500):
        arena.flush()
    assert len(arena._garbage) == lagging <= 3


def test_flushes_in_a_row_and_a_fill_between() -> None:
    arena = Arena(10**6)
    for _ in range(3):
        put(arena, b"k")
        arena.flush()
        arena.flush()
    assert arena.get(b"k", b"", NOW) is None
    put(arena, b"k", b"+v\r\n")
    assert arena.get(b"k", b"", NOW) == b"+v\r\n"
