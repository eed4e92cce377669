"""Published replacement policies, as a comparison for L1's policy: they count hits.

All entries have the same size, and the store starts empty. SIEVE (Zhang et al., NSDI
24), S3-FIFO (Yang et al., SOSP 23) and W-TinyLFU (Einziger et al., ACM TOS 17) follow
their papers, except that W-TinyLFU here counts exactly instead of in a sketch, with a
window of 1 % and counts halved every ten times the capacity.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

Policy = Callable[[Sequence[bytes], int], int]
"""Keys in access order, and the capacity in entries -> the number of hits."""

_SMALL_SHARE = 0.10  # of S3-FIFO's entries
_MOST_FREQUENCY = 3  # maximum count of S3-FIFO
_WINDOW_SHARE, _PROTECTED_SHARE = 0.01, 0.80  # of W-TinyLFU's entries; of its main entries
_SAMPLE_FACTOR = 10  # W-TinyLFU halves its counts after so many accesses per entry


def fifo_hits(keys: Sequence[bytes], entries: int) -> int:
    held: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
        else:
            if len(held) >= entries:
                held.popitem(last=False)
            held[key] = None
    return hits


def lru_hits(keys: Sequence[bytes], entries: int) -> int:
    held: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
            held.move_to_end(key)
        else:
            if len(held) >= entries:
                held.popitem(last=False)
            held[key] = None
    return hits


def sieve_hits(keys: Sequence[bytes], entries: int) -> int:
    """One queue in insertion order; a hand moves from the oldest entry and skips visited ones."""
    visited: dict[bytes, bool] = {}
    newer: dict[bytes, bytes | None] = {}  # the queue, linked both ways
    older: dict[bytes, bytes | None] = {}
    oldest: bytes | None = None
    newest: bytes | None = None
    hand: bytes | None = None
    hits = 0
    for key in keys:
        if key in visited:
            visited[key] = True
            hits += 1
            continue
        if len(visited) >= entries:
            victim = hand or oldest
            while victim is not None and visited[victim]:
                visited[victim] = False
                victim = newer[victim] or oldest
            assert victim is not None
            after, before = newer.pop(victim), older.pop(victim)
            hand = after
            del visited[victim]
            if before is None:
                oldest = after
            else:
                newer[before] = after
            if after is None:
                newest = before
            else:
                older[after] = before
        visited[key] = False
        newer[key], older[key] = None, newest
        if newest is None:
            oldest = key
        else:
            newer[newest] = key
        newest = key
    return hits


def s3_fifo_hits(keys: Sequence[bytes], entries: int) -> int:
    """A small queue for new keys, a main queue for repeated keys, and ghosts of evicted keys."""
    small_room = max(1, int(entries * _SMALL_SHARE))
    main_room = max(1, entries - small_room)
    frequency: dict[bytes, int] = {}
    small: deque[bytes] = deque()
    main: deque[bytes] = deque()
    ghosts: OrderedDict[bytes, None] = OrderedDict()
    hits = 0

    def evict_main() -> None:
        while True:
            key = main.popleft()
            if not frequency[key]:
                del frequency[key]
                return
            frequency[key] -= 1
            main.append(key)

    def evict_small() -> None:
        while small:
            key = small.popleft()
            if frequency[key] <= 1:
                del frequency[key]
                ghosts[key] = None
                if len(ghosts) > main_room:
                    ghosts.popitem(last=False)
                return
            frequency[key] = 0
            main.append(key)
            if len(main) > main_room:
                evict_main()

    for key in keys:
        count = frequency.get(key)
        if count is not None:
            hits += 1
            frequency[key] = min(count + 1, _MOST_FREQUENCY)
            continue
        if len(frequency) >= entries:
            if len(small) >= small_room or not main:
                evict_small()
            else:
                evict_main()
        frequency[key] = 0
        if key in ghosts:
            del ghosts[key]
            main.append(key)
        else:
            small.append(key)
    return hits


def w_tinylfu_hits(keys: Sequence[bytes], entries: int) -> int:
    """A small LRU window; a key enters the main part if it is more frequent than the victim."""
    window_room = max(1, int(entries * _WINDOW_SHARE))
    main_room = max(1, entries - window_room)
    protected_room = int(main_room * _PROTECTED_SHARE)
    window: OrderedDict[bytes, None] = OrderedDict()
    probation: OrderedDict[bytes, None] = OrderedDict()
    protected: OrderedDict[bytes, None] = OrderedDict()
    counts: dict[bytes, int] = {}
    counted = hits = 0
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
        counted += 1
        if counted >= _SAMPLE_FACTOR * entries:
            counts = {key: count // 2 for key, count in counts.items() if count > 1}
            counted //= 2
        if key in window:
            window.move_to_end(key)
        elif key in protected:
            protected.move_to_end(key)
        elif key in probation:
            del probation[key]
            protected[key] = None
            if len(protected) > protected_room:
                probation[protected.popitem(last=False)[0]] = None
        else:
            window[key] = None
            if len(window) > window_room:
                candidate = window.popitem(last=False)[0]
                if len(probation) + len(protected) < main_room:
                    probation[candidate] = None
                else:
                    victim = next(iter(probation or protected))
                    if counts.get(candidate, 0) > counts.get(victim, 0):
                        (probation or protected).popitem(last=False)
                        probation[candidate] = None
            continue
        hits += 1
    return hits
