"""Both twins of the L1 store, for the tests that hold for either."""

from __future__ import annotations

import importlib
from collections import deque
from typing import Any, TypeAlias

import pytest

from tiers.l1 import _arena_py
from tiers.l1._arena_py import Arena as PyArena

Arena: TypeAlias = PyArena  # what tests may use of either twin
ARENAS_CHECKED = 16  # the last ones: a test that builds hundreds checks each itself
built: deque[Any] = deque(maxlen=ARENAS_CHECKED)


def _compiled() -> Any:
    try:
        base: Any = importlib.import_module("tiers.l1._arena").Arena
    except ImportError:
        return None

    class CArena(base):  # type: ignore[misc]  # whose methods a test may replace
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            built.append(self)

    return CArena


CArena = _compiled()
TWINS = [
    pytest.param("py"),
    pytest.param("c", marks=pytest.mark.skipif(CArena is None, reason="no compiled core here")),
]


def few_slots(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the Python twin, whose slots are not an argument."""
    monkeypatch.setattr(_arena_py, "SLOTS", slots)
    monkeypatch.setattr(_arena_py, "_MASK", slots - 1)


def new_arena(twin: str, max_bytes: int, *, reserve_bytes: int = 0, **options: Any) -> Arena:
    if twin == "py":
        return PyArena(max_bytes, **options)
    arena: Arena = CArena(max_bytes, reserve_bytes=reserve_bytes, **options)
    return arena
