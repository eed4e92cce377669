"""How the Python twin of the L1 store keeps its memory: holes in queues, garbage of flushes."""

from __future__ import annotations

from tiers.l1._arena_py import GARBAGE_PER_COMMIT, HOLES_MIN, Arena

NOW = 100.0
LATER = 200.0
ENTRY_BYTES = 1000  # at least what `put` stores costs


def key(number: int) -> bytes:
    return b"k%04d" % number


def put(arena: Arena, name: bytes) -> None:
    assert arena.commit_fill(name, b"", bytes(500), arena.begin_fill(name), arena.epoch, LATER)


def filled(entries: int) -> Arena:
    arena = Arena(entries * ENTRY_BYTES)
    for number in range(entries):
        put(arena, key(number))
    return arena


def test_holes_do_not_pile_up() -> None:
    arena = Arena(100 * ENTRY_BYTES)
    put(arena, key(0))
    for _ in range(5 * HOLES_MIN):  # nothing is evicted meanwhile
        put(arena, key(1))
        arena.invalidate(key(1))
        queued = len(arena._main) + len(arena._small)
        assert queued <= HOLES_MIN + 3
    arena.check()


def test_a_flush_forgets_at_once_and_frees_in_the_background() -> None:
    arena = filled(2000)
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
    arena = filled(100)
    arena.flush()
    lagging = len(arena._garbage)
    for _ in range(500):
        arena.flush()
    assert len(arena._garbage) == lagging <= 3
