"""Coherence of several workers over one L1: whose word counts, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiers.twins import CArena
from tiers.l1.coherence import Coherence
from tiers.l1.namespaces import Namespaces, ungated
from tiers.l1.variants import Read
from tiers.l2.redis import L2Redis
from tiers.options import L2Options, NamespaceOptions
from tiers.watch.watermark_notes import WatermarkNotes

BOUND_S = 0.06
NOW = 100.0
LATER = 200.0

needs_compiled = pytest.mark.skipif(CArena is None, reason="no compiled core here")


class Workers:
    """Coherence of each of two workers; `be(n)` makes this process number n."""

    def __init__(self) -> None:
        self.arena: Any = CArena(10**6, workers=2)
        self.arena.max_staleness_s = BOUND_S
        self.of = [self._new(), self._new()]

    def _new(self) -> Coherence:
        return Coherence(self.arena, max_staleness_s=BOUND_S, stale_on_error_s=10.0)

    def be(self, number: int) -> Coherence:
        self.arena.attach(number)
        return self.of[number]

    def fill(self, key: bytes) -> bool:
        token = self.arena.begin_fill(key)
        return bool(self.arena.commit_fill(key, b"", b"+v", token, self.arena.epoch, LATER))


@pytest.fixture
def workers() -> Workers:
    both = Workers()
    for number in (1, 0):
        both.be(number).on_connect(NOW)
    assert both.fill(b"of 0")
    both.be(1)
    assert both.fill(b"of 1")
    return both


@needs_compiled
class TestHits:
    def test_the_watermark_that_counts_is_the_fillers(self, workers: Workers) -> None:
        workers.be(0).on_reply(NOW + 0.1)
        coherence = workers.be(1)
        coherence.on_reply(NOW + 0.1)
        assert workers.arena.get(b"of 0", b"", NOW + 0.15) == b"+v"
        assert workers.arena.get(b"of 0", b"", NOW + 0.17) is None
        assert workers.arena.get(b"of 1", b"", NOW + 0.17) == b"+v", "the caller looks at its own"

    def test_a_filler_that_lost_its_stream_vouches_for_nothing(self, workers: Workers) -> None:
        workers.be(0).on_loss()
        workers.be(1)
        assert workers.arena.get(b"of 0", b"", NOW) is None
        workers.be(0).on_connect(NOW)
        workers.be(1)
        assert workers.arena.get(b"of 0", b"", NOW) is None, "that is another stream"

    def test_after_an_opaque_write_streams_have_to_catch_up_first(self, workers: Workers) -> None:
        workers.be(1).end_opaque_write(NOW + 0.01)
        assert workers.arena.get(b"of 0", b"", NOW + 0.01) is None
        assert workers.arena.get(b"of 1", b"", NOW + 0.01) is None
        workers.be(0).on_reply(NOW + 0.005)
        workers.be(1).on_reply(NOW + 0.011)
        assert workers.arena.get(b"of 0", b"", NOW + 0.02) is None, "that was asked too early"
        assert workers.arena.get(b"of 1", b"", NOW + 0.02) == b"+v"
        workers.be(0).on_reply(NOW + 0.011)
        workers.be(1)
        assert workers.arena.get(b"of 0", b"", NOW + 0.02) == b"+v"

    def test_the_floor_never_sinks(self, workers: Workers) -> None:
        workers.arena.raise_floor(NOW + 1)
        workers.arena.raise_floor(NOW)
        assert workers.arena.floor == NOW + 1

    def test_alone_a_worker_raises_no_floor(self) -> None:
        coherence = Coherence(CArena(10**6), max_staleness_s=BOUND_S, stale_on_error_s=0.0)
        coherence.on_connect(NOW)
        coherence.end_opaque_write(NOW + 1)
        assert coherence.arena.floor == 0.0

    def test_a_write_through_one_worker_ends_what_another_filled(self, workers: Workers) -> None:
        workers.be(1).begin_write([b"of 0"])
        workers.be(0)
        assert workers.arena.get(b"of 0", b"", NOW) is None
        assert workers.arena.begin_fill(b"of 0") == 0


@needs_compiled
class TestSuspects:
    def test_others_are_as_of_their_fillers_last_watermark(self, workers: Workers) -> None:
        filler = workers.be(0)
        filler.on_reply(NOW + 1)
        filler.on_loss()
        coherence = workers.be(1)
        assert coherence.get_suspect(b"of 0", b"", NOW + 11) == b"+v"
        assert coherence.get_suspect(b"of 0", b"", NOW + 11.1) is None

    def test_of_a_filler_that_is_stalled_as_well(self, workers: Workers) -> None:
        assert workers.be(1).get_suspect(b"of 0", b"", NOW + 9) == b"+v"

    def test_none_once_the_filler_came_back(self, workers: Workers) -> None:
        filler = workers.be(0)
        filler.on_loss()
        filler.on_connect(NOW + 5)
        assert workers.be(1).get_suspect(b"of 0", b"", NOW + 5) is None

    def test_of_a_worker_that_died(self, workers: Workers) -> None:
        workers.be(1)
        workers.arena.clear_worker(0)
        assert workers.of[1].get_suspect(b"of 0", b"", NOW + 9) == b"+v"
        assert workers.arena.get(b"of 0", b"", NOW) is None

    def test_none_from_before_an_opaque_write(self, workers: Workers) -> None:
        coherence = workers.be(1)
        coherence.end_opaque_write(NOW + 0.01)
        coherence.on_loss()
        assert coherence.get_suspect(b"of 0", b"", NOW + 1) is None
        assert coherence.get_suspect(b"of 1", b"", NOW + 1) is None

    def test_own_entries_are_told_from_those_of_others(self, workers: Workers) -> None:
        workers.be(1)
        assert workers.arena.peek(b"of 0", b"") is None
        assert workers.arena.peek_other(b"of 1", b"") is None
        assert workers.arena.peek(b"of 1", b"")[:2] == (b"+v", LATER)
        assert workers.arena.peek_other(b"of 0", b"") == (b"+v", LATER, NOW)


@needs_compiled
def test_a_worker_asks_redis_once_for_each_note(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(L2Redis, "catch_up", lambda l2, since: asked.append(since))
    filler = workers.be(0)
    l2 = L2Redis(L2Options(), clock=lambda: NOW, coherence=filler)
    notes = WatermarkNotes(l2, filler, lambda: NOW)
    notes.check()
    assert not asked
    workers.be(1)
    workers.arena.get(b"of 0", b"", NOW + 0.03)
    workers.be(0)
    notes.check()
    notes.check()
    assert asked == [NOW + 0.03]


def test_gated_entries_of_workers_are_kept_apart() -> None:
    table = NamespaceOptions(match="s:*", consistency="strict", max_staleness_s=0.01)
    names = set()
    for worker in (0, 1, 2, 12):
        space = Namespaces((table,), worker=worker).find(b"s:k")
        assert space is not None
        for variant in (b"", b"2", b"2:0:*2\r\n$7\r\nHGETALL"):
            assert ungated(space.variant(variant)) == variant
            names.add(space.variant(variant))
            assert Read(b"s:k", space.variant(variant)).db == (2 if variant == b"2" else 0)
    assert len(names) == 12
