"""Negative cache: keys that have no row, remembered for a short time.

An absence read from PostgreSQL may be outdated before it is entered here, if a refresh
inserted the row in between. So each view has a generation that every change increments: a
load reads it first, and its absences are entered only if the generation is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

MAX_ENTRIES = 65_536
# Longer keys are not remembered: any client may ask for any key, and this limit keeps the
# whole cache below about 20 MB.
MAX_KEY_BYTES = 256


class _ViewState:
    __slots__ = ("flushed", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.flushed = False


class NegativeCache:
    """Bounded map of absent keys to deadlines; the oldest entry leaves first.

    Dropping all keys of a view is O(1): its entries refer to a state object that is
    marked as flushed and replaced; each entry is removed at its next use.
    """

    def __init__(self, clock: Callable[[], float], *, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._entries: dict[bytes, tuple[float, _ViewState]] = {}
        self._views: dict[str, _ViewState] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<NegativeCache {len(self._entries)} keys>"

    def generation(self, view: str) -> int:
        return self._view(view).generation

    def remaining_s(self, key: bytes) -> float:
        """How long this key is still known to be absent; 0.0 if it is not known."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        deadline, view = entry
        remaining_s = deadline - self._clock()
        if view.flushed or remaining_s <= 0:
            del self._entries[key]
            return 0.0
        return remaining_s

    def add(self, view: str, keys: Iterable[bytes], ttl_s: float, generation: int) -> None:
        """Enter absences read since `generation` was sampled, unless the view has changed."""
        state = self._view(view)
        if state.generation != generation or ttl_s <= 0:
            return
        entry = (self._clock() + ttl_s, state)
        for key in keys:
            if len(key) > MAX_KEY_BYTES:
                continue
            self._entries.pop(key, None)  # to the end of the order
            if len(self._entries) >= self._max_entries:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry

    def on_change(self, view: str, keys: Sequence[bytes] | None) -> None:
        """These keys of the view may have rows now; None means any of its keys."""
        state = self._view(view)
        state.generation += 1
        if keys is None:
            state.flushed = True
            self._views[view] = _ViewState(state.generation)
        else:
            self._drop(keys)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Drop absences. Absences that are being read now will not be entered either."""
        for state in self._views.values():
            state.generation += 1
        self._drop(keys)

    def forget_matching(self, matches: Callable[[bytes], object]) -> None:
        self.forget([key for key in self._entries if matches(key)])

    def _drop(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._entries.pop(key, None)

    def _view(self, name: str) -> _ViewState:
        state = self._views.get(name)
        if state is None:
            state = self._views[name] = _ViewState(0)
        return state
