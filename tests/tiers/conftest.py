"""Every arena that a test of the tiers builds is checked when the test is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from tiers._arena_py import Arena

ARENAS_CHECKED = 16  # the last ones: a test that builds hundreds checks each itself


@pytest.fixture(autouse=True)
def structural_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    built: deque[Arena] = deque(maxlen=ARENAS_CHECKED)
    build = Arena.__init__

    def collect(arena: Arena, *args: Any, **kwargs: Any) -> None:
        build(arena, *args, **kwargs)
        built.append(arena)

    monkeypatch.setattr(Arena, "__init__", collect)
    yield
    for arena in built:
        arena.check()
