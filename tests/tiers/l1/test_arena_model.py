"""The L1 store against a model: it may lose entries, but never returns what was invalidated."""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.tiers.twins import CArena, new_arena
from tiers.l1 import _arena_py

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
VARIANTS = st.sampled_from([b"", b"1", b"x", b"y"])
PADDING = st.sampled_from([0, 0, 0, 100, 700])
SLOTS = 4  # fewer than keys: they collide

Fill = tuple[bytes, int, int, int]
"""Key, token, epoch, and the version of the value that is on its way."""


class ArenaModel(RuleBasedStateMachine):
    """`version[key]` moves whenever the key changes; a value carries the version it was read at."""

    fills = Bundle("fills")
    twin: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._patches = patch.multiple(_arena_py, SLOTS=SLOTS, _MASK=SLOTS - 1)
        self._patches.start()
        options = {"slots": SLOTS, "reserve_bytes": 40_000} if self.twin == "c" else {}
        self.arena = new_arena(self.twin, 12_000, max_variants=3, **options)
        self.version: defaultdict[bytes, int] = defaultdict(int)
        self.writing: defaultdict[bytes, int] = defaultdict(int)
        self.now = 0.0

    def teardown(self) -> None:
        self.arena.flush()  # its slots mean nothing without the patches
        self._patches.stop()

    @rule(target=fills, key=KEYS)
    def begin_fill(self, key: bytes) -> Fill:
        token = self.arena.begin_fill(key)
        assert not (token and self.writing[key]), "a fill began during a write"
        return key, token, self.arena.epoch, self.version[key]

    @rule(fill=fills, variant=VARIANTS, padding=PADDING, age_s=st.integers(1, 3))
    def commit_fill(self, fill: Fill, variant: bytes, padding: int, age_s: int) -> None:
        key, token, epoch, version = fill
        deadline = self.now + age_s
        reply = b"%b %d %d %b" % (key, version, deadline, bytes(padding))
        if self.arena.commit_fill(key, variant, reply, token, epoch, deadline):
            assert version == self.version[key], "an overtaken fill was taken"

    @rule(key=KEYS)
    def change(self, key: bytes) -> None:
        self.version[key] += 1
        self.arena.invalidate(key)

    @rule(key=KEYS)
    def begin_write(self, key: bytes) -> None:
        self.writing[key] += 1
        self.version[key] += 1
        self.arena.begin_write(key)

    @rule(key=KEYS)
    def end_write(self, key: bytes) -> None:
        if self.writing[key]:
            self.writing[key] -= 1
            self.version[key] += 1
            self.arena.end_write(key)

    @rule()
    def flush(self) -> None:
        self._all_change()
        self.arena.flush()

    @rule()
    def lose_the_stream(self) -> None:
        self._all_change()
        self.arena.bump_epoch()

    def _all_change(self) -> None:
        for key in b"abcdef":
            self.version[bytes([key])] += 1

    @rule(max_bytes=st.sampled_from([3_000, 6_000, 12_000, 40_000]))
    def resize(self, max_bytes: int) -> None:
        self.arena.resize(max_bytes)

    @rule()
    def wait(self) -> None:
        self.now += 1

    @rule(key=KEYS, variant=VARIANTS)
    def get(self, key: bytes, variant: bytes) -> None:
        reply = self.arena.get(key, variant, self.now)
        if reply is None:
            return
        owner, version, deadline, _ = reply.split(b" ", 3)
        assert owner == key
        assert int(version) == self.version[key], "an invalidated value came back"
        assert self.now < int(deadline), "served after its deadline"
        assert not self.writing[key], "a hit during a write"

    @invariant()
    def structure_holds(self) -> None:
        self.arena.check()


class PyModel(ArenaModel):
    twin = "py"


class CModel(ArenaModel):
    twin = "c"


LIMITS = settings(max_examples=80, stateful_step_count=60)
TestPyModel = PyModel.TestCase
TestPyModel.settings = LIMITS
TestCModel = pytest.mark.skipif(CArena is None, reason="no compiled core here")(CModel.TestCase)
TestCModel.settings = LIMITS
