"""The L1 store in readable Python: raw replies under S3-FIFO, with coherence tokens.

Policy
  S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
  SOSP 2023): a small FIFO takes 10 % of the budget and filters keys that are read
  only once; a main FIFO keeps touched keys; a ghost remembers the keys that small
  evicted, and a key found there goes straight into main. A hit only counts a touch
  (0..3); nothing moves on a hit. Until the store is full for the first time, new keys
  go straight into main: filtering starts when there is something to protect
  (libCacheSim does the same; it matters for the first fill).

Shape
  One node per key name; the different reads of a key (GET k, HGETALL k, GET k in
  another database, ...) are variants of its node, so that one invalidation drops
  them all. Redis' tracking knows no databases, and neither does the node. An
  invalidated node stays in its queue as a hole until the head reaches it or holes
  outnumber live nodes.

Coherence tables (the rules are in coherence.py)
  `tokens[slot]` changes whenever a key of that slot may have changed: an entry is
  served only while its slot still has the token of its fill. Tokens are unique and
  stored whole, never incremented, so that no lost update can restore an old one.
  `writes[slot]` counts writes in flight; no fill commits meanwhile. Two keys in one
  slot only cost each other a miss.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from math import inf

SLOTS = 1 << 16
_MASK = SLOTS - 1

SMALL_SHARE = 0.10  # of the byte budget, as in the paper
PROMOTE_TOUCHES = 2  # touches in small that earn a place in main (libCacheSim's threshold)
MAX_TOUCHES = 3
PART_KEYS = 1024  # per part: a check of each key fits into a turn of the loop
HOLES_MIN = 1024  # holes tolerated before queues are compacted
GARBAGE_PER_COMMIT = 16  # nodes of a flushed store freed with each insert: no pause, bounded lag

# The cost beyond the key and reply bytes, measured with tracemalloc on CPython 3.11
# with a million-entry shape (index and queue shares included): 370 for a key with its GET
# entry, 170 for each further variant, 224 once for the dict that holds variants.
NODE_BYTES = 200
VARIANT_BYTES = 180
VARIANTS_DICT_BYTES = 224

Entry = tuple[bytes, float, int, int]
"""Reply, deadline, token, epoch."""


_NONE: frozenset[bytes] = frozenset()


class Node:
    """One key: its plain GET entry, its other variants, its place in the policy."""

    __slots__ = ("entry", "in_main", "key", "size", "slot", "touches", "unasked", "variants")

    def __init__(self, key: bytes, slot: int) -> None:
        self.key: bytes | None = key  # None: a hole
        self.slot = slot
        self.entry: Entry | None = None
        self.variants: dict[bytes, Entry] | None = None
        self.size = 0
        self.touches = 0
        self.in_main = False
        self.unasked: frozenset[bytes] = _NONE  # unread variants that a refresh filled


class Arena:
    """Bounded store of raw replies by (key, variant). Not thread-safe; sync only.

    `variant` is b"" for GET in database 0, else any bytes that name the read.
    """

    def __init__(self, max_bytes: int, *, max_variants: int = 16, worker: int = 0) -> None:
        self.max_bytes = max_bytes
        self.max_variants = max_variants
        self.epoch = 1
        self.evictions = 0
        self.invalidations = 0
        # Only in the compiled twin, which can be shared, do other workers read these.
        self.worker, self.workers = worker, 1
        self.live, self.asof, self.wanted_at = False, 0.0, 0.0
        self.max_staleness_s, self.floor = inf, 0.0
        self._fresh = itertools.count((worker << 48) + 1)
        self._tokens = [next(self._fresh)] * SLOTS
        self._writes = [0] * SLOTS
        self._garbage: list[dict[bytes, Node] | deque[Node]] = []
        self._clear()

    def _clear(self) -> None:
        self._index: dict[bytes, Node] = {}
        self._small: deque[Node] = deque()
        self._main: deque[Node] = deque()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0
        self._holes = 0
        self._was_full = False

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        used = f"{self.used_bytes}/{self.max_bytes} bytes"
        return f"<Arena {len(self)} keys, {used}, epoch {self.epoch}>"

    @property
    def used_bytes(self) -> int:
        return self._small_bytes + self._main_bytes

    @property
    def writes_in_flight(self) -> int:
        return sum(self._writes)

    # Reading

    def get(self, key: bytes, variant: bytes, now: float) -> bytes | None:
        """The current reply, or None. The caller has checked that the watermark allows hits."""
        node = self._index.get(key)
        if node is None:
            return None
        if not variant:
            entry = node.entry
        elif node.variants is not None:
            entry = node.variants.get(variant)
        else:
            return None
        if (
            entry is not None
            and entry[2] == self._tokens[node.slot]
            and now < entry[1]
            and entry[3] == self.epoch
        ):
            if node.touches < MAX_TOUCHES:
                node.touches += 1
            if node.unasked:
                node.unasked -= {variant}
            return entry[0]
        return None

    def is_hot(self, key: bytes, variant: bytes, now: float) -> bool:
        """Whether `get` would find a reply that a client has read; counts no touch."""
        entry = self.peek(key, variant)
        return (
            entry is not None
            and now < entry[1]
            and entry[3] == self.epoch
            and variant not in self._index[key].unasked
        )

    def peek(self, key: bytes, variant: bytes) -> Entry | None:
        """The entry, with any epoch and deadline, if its token is current; counts no touch.

        For serving suspect entries while Redis is down, and for TIER.EXPLAIN.
        """
        node = self._index.get(key)
        if node is None:
            return None
        entry = node.entry if not variant else (node.variants or {}).get(variant)
        if entry is None or entry[2] != self._tokens[node.slot]:
            return None
        return entry

    def peek_other(self, key: bytes, variant: bytes) -> tuple[bytes, float, float] | None:
        """An entry of another worker: this twin has none."""
        return None

    def raise_floor(self, instant: float) -> None:
        """Any key may have changed before `instant`; other workers may not know it yet."""
        self.floor = max(self.floor, instant)

    def variants(self, key: bytes) -> int:
        node = self._index.get(key)
        if node is None:
            return 0
        return (node.entry is not None) + len(node.variants or ())

    def size_bytes(self, key: bytes) -> int:
        node = self._index.get(key)
        return 0 if node is None else node.size

    def snapshot(self) -> list[bytes]:
        """The keys held now."""
        return list(self._index)

    def parts(self) -> Iterator[list[bytes]]:
        """The keys held now, some at a time; it may omit keys that are filled meanwhile."""
        keys = self.snapshot()
        for at in range(0, len(keys), PART_KEYS):
            yield keys[at : at + PART_KEYS]

    # Filling

    def begin_fill(self, key: bytes) -> int:
        """The token for `commit_fill`; 0 (do not fill) if a write to the slot is in flight."""
        slot = hash(key) & _MASK
        return 0 if self._writes[slot] else self._tokens[slot]

    def commit_fill(
        self, key: bytes, variant: bytes, reply: bytes, token: int, epoch: int, deadline: float,
        unasked: bool = False,
    ) -> bool:  # fmt: skip
        """Store a reply read since `begin_fill` gave `token`; False if it may be outdated.

        `unasked`: no client asked for it, see `is_hot`.
        """
        slot = hash(key) & _MASK
        if token != self._tokens[slot] or self._writes[slot] or epoch != self.epoch:
            return False
        self._free_garbage()
        node = self._index.get(key)
        size = len(reply) + VARIANT_BYTES
        if size + len(key) + NODE_BYTES > self.max_bytes * SMALL_SHARE:
            return False
        if node is None:
            node = self._insert(key, slot)
        entry = (reply, deadline, token, epoch)
        if unasked:
            node.unasked |= {variant}
        elif node.unasked:
            node.unasked -= {variant}
        if not variant:
            if node.entry is not None:
                size -= len(node.entry[0]) + VARIANT_BYTES
            node.entry = entry
        else:
            if node.variants is None:
                node.variants = {}
                size += VARIANTS_DICT_BYTES
            old = node.variants.pop(variant, None)
            if old is not None:
                size -= len(old[0]) + VARIANT_BYTES + len(variant)
            elif len(node.variants) >= self.max_variants:
                oldest = next(iter(node.variants))
                size -= len(node.variants.pop(oldest)[0]) + VARIANT_BYTES + len(oldest)
                node.unasked -= {oldest}
            node.variants[variant] = entry
            size += len(variant)
        self._grow(node, size)
        while self._small_bytes + self._main_bytes > self.max_bytes:
            self._evict()
        return True

    def _insert(self, key: bytes, slot: int) -> Node:
        node = Node(key, slot)
        self._index[key] = node
        if not self._was_full or hash(key) in self._ghost:
            self._ghost.pop(hash(key), None)
            node.in_main = True
            self._main.append(node)
        else:
            self._small.append(node)
        self._grow(node, len(key) + NODE_BYTES)
        return node

    def _grow(self, node: Node, size: int) -> None:
        node.size += size
        if node.in_main:
            self._main_bytes += size
        else:
            self._small_bytes += size

    # Evicting

    def _evict(self) -> None:
        self._was_full = True
        if self._small_bytes > self.max_bytes * SMALL_SHARE or not self._main_bytes:
            self._evict_from_small()
        else:
            self._evict_from_main()
        self._trim_ghost()

    def _evict_from_small(self) -> None:
        node = self._small.popleft()
        if node.key is None:
            self._holes -= 1
        elif node.touches >= PROMOTE_TOUCHES:
            node.touches = 0
            node.in_main = True
            self._small_bytes -= node.size
            self._main_bytes += node.size
            self._main.append(node)
        else:
            self._small_bytes -= node.size
            self._ghost[hash(node.key)] = None
            self._drop(node)

    def _evict_from_main(self) -> None:
        node = self._main.popleft()
        if node.key is None:
            self._holes -= 1
        elif node.touches:
            node.touches -= 1
            self._main.append(node)
        else:
            self._main_bytes -= node.size
            self._drop(node)

    def _drop(self, node: Node) -> None:
        assert node.key is not None
        self.evictions += 1
        del self._index[node.key]

    def _trim_ghost(self) -> None:
        """Keep as many fingerprints as main has keys (the paper's size)."""
        while len(self._ghost) > len(self._main) + 1:
            self._ghost.popitem(last=False)

    # Invalidating

    def invalidate(self, key: bytes) -> None:
        """The key may have changed: drop its entries and refuse its fills under way."""
        self._tokens[hash(key) & _MASK] = next(self._fresh)
        node = self._index.pop(key, None)
        if node is None:
            return
        self.invalidations += 1
        if node.in_main:
            self._main_bytes -= node.size
            self._ghost[hash(key)] = None  # a refill returns to main
        else:
            self._small_bytes -= node.size
        node.key, node.entry, node.variants, node.size = None, None, None, 0
        self._holes += 1
        if self._holes > HOLES_MIN + len(self._index):
            self._compact()

    def _compact(self) -> None:
        self._small = deque(n for n in self._small if n.key is not None)
        self._main = deque(n for n in self._main if n.key is not None)
        self._holes = 0
        self._trim_ghost()

    def begin_write(self, key: bytes) -> None:
        self._writes[hash(key) & _MASK] += 1
        self.invalidate(key)

    def end_write(self, key: bytes) -> None:
        self.invalidate(key)
        self._writes[hash(key) & _MASK] -= 1

    def begin_writes(self, keys: Iterable[bytes]) -> None:
        """One command may write a million keys: the compiled twin saves a call for each."""
        for key in keys:
            self.begin_write(key)

    def end_writes(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.end_write(key)

    def flush(self) -> None:
        """Drop everything, O(slots): each insert then frees a few entries of the old store."""
        self._tokens[:] = [next(self._fresh)] * SLOTS
        self._garbage += (pile for pile in (self._index, self._small, self._main) if pile)
        self._clear()

    def bump_epoch(self) -> int:
        """Coherence was lost: entries become suspect (see `peek`), fills under way fail."""
        self.epoch += 1
        return self.epoch

    @property
    def reserve_bytes(self) -> int:
        """The largest budget that `resize` takes."""
        return sys.maxsize

    def resize(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        while self.used_bytes > max_bytes:
            self._evict()

    def _free_garbage(self) -> None:
        garbage = self._garbage
        for _ in range(GARBAGE_PER_COMMIT if garbage else 0):
            if not garbage:
                return
            pile = garbage[-1]
            if not pile:
                garbage.pop()
            elif isinstance(pile, dict):
                pile.popitem()
            else:
                pile.pop()

    # Self-check

    def check(self) -> None:
        """Verify every structural invariant. Raises AssertionError with the broken one."""
        for queue, in_main, counted in (
            (self._small, False, self._small_bytes),
            (self._main, True, self._main_bytes),
        ):
            live = [n for n in queue if n.key is not None]
            assert all(n.in_main is in_main for n in live), "node in the wrong queue"
            assert sum(n.size for n in live) == counted, "queue bytes do not add up"
            assert all(self._index.get(n.key or b"") is n for n in live), "queue and index differ"
            assert len({id(n) for n in queue}) == len(queue), "a node is queued twice"
        queued = len(self._small) + len(self._main)
        assert queued - self._holes == len(self._index), "holes are miscounted"
        assert self.used_bytes <= self.max_bytes, "over the byte budget"
        assert len(self._ghost) <= len(self._main) + len(self._index) + HOLES_MIN + 1, "ghost grew"
        assert all(w >= 0 for w in self._writes), "a write ended twice"
        for key, node in self._index.items():
            entries = dict(node.variants or {})
            assert len(entries) <= self.max_variants, "too many variants"
            if node.entry is not None:
                entries[b""] = node.entry
            assert entries, "a node without entries"
            size = len(key) + NODE_BYTES
            size += sum(len(v) + len(e[0]) + VARIANT_BYTES for v, e in entries.items())
            size += VARIANTS_DICT_BYTES if node.variants is not None else 0
            assert size == node.size, "node size is wrong"
            assert node.slot == hash(key) & _MASK, "node in the wrong slot"
