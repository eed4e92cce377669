"""Every arena that a test of the tiers builds is checked when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tiers.twins import built
from tiers.l1._arena_py import Arena


@pytest.fixture(autouse=True)
def structural_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    build = Arena.__init__

    def collect(arena: Arena, *args: Any, **kwargs: Any) -> None:
        build(arena, *args, **kwargs)
        built.append(arena)

    monkeypatch.setattr(Arena, "__init__", collect)
    built.clear()
    yield
    for arena in built:
        arena.check()
    built.clear()
