"""The circuit breaker: its table, its pauses, its probes, and who is told."""

from __future__ import annotations

import itertools

import pytest

from tests.tiers.manual_clock import Clock
from tiers.guard.breaker import TRANSITIONS, Breaker, Event, State


class Story:
    """A breaker without jitter, and the transitions it told."""

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.told: list[tuple[State, State]] = []
        self.breaker = Breaker(
            self.clock, draw=lambda: 1.0,
            on_transition=lambda old, new: self.told.append((old, new)), **options,
        )  # type: ignore[arg-type]  # fmt: skip

    def bring_to(self, state: State) -> None:
        if state is not State.CLOSED:
            self.breaker.on_hard_failure("refused")
        if state is State.HALF_OPEN:
            self.clock.now += 1.0
            assert self.breaker.admits()
        assert self.breaker.state is state
        self.told.clear()

    def happen(self, event: Event) -> None:
        match event:
            case Event.SUCCESS:
                self.breaker.on_success()
            case Event.SOFT:
                self.breaker.on_soft_failure("no answer")
            case Event.TRIPPED:
                for _ in range(3):
                    self.breaker.on_soft_failure("no answer")
            case Event.HARD:
                self.breaker.on_hard_failure("refused")
            case Event.DUE:
                self.clock.now += 1.0
                self.breaker.admits()


# TRIPPED exists in CLOSED only: elsewhere a soft failure is enough.
CELLS = [
    (state, event)
    for state, event in itertools.product(State, Event)
    if event is not Event.TRIPPED or state is State.CLOSED
]


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_every_cell_of_the_table(state: State, event: Event) -> None:
    story = Story()
    story.bring_to(state)
    story.happen(event)
    expected = TRANSITIONS.get((state, event), state)
    assert story.breaker.state is expected
    assert story.told == ([(state, expected)] if expected is not state else [])


def test_a_hard_failure_opens_and_one_probe_is_let_through() -> None:
    story = Story(pause_min_s=0.5)
    breaker = story.breaker
    assert breaker.admits()
    breaker.on_hard_failure("refused")
    assert not breaker.admits()
    assert breaker.wait_s() == 0.5
    story.clock.now += 0.5
    assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.on_success()
    assert [breaker.admits(), breaker.admits()] == [True, True]
    assert breaker.statistics().opened == 1
    assert breaker.statistics().probes == 1


def test_failed_probes_double_the_pause_up_to_its_bound() -> None:
    story = Story(pause_min_s=0.1, pause_max_s=0.5)
    story.breaker.on_hard_failure("refused")
    pauses = []
    for _ in range(5):
        pauses.append(round(story.breaker.wait_s(), 6))
        story.clock.now += story.breaker.wait_s()
        assert story.breaker.admits()
        story.breaker.on_hard_failure("refused")
    assert pauses == [0.1, 0.2, 0.4, 0.5, 0.5]
    story.clock.now += 1
    assert story.breaker.admits()
    story.breaker.on_success()
    story.breaker.on_hard_failure("refused")
    assert round(story.breaker.wait_s(), 6) == 0.1
    assert story.breaker.statistics().opened == 2


def test_pauses_are_shortened_at_random() -> None:
    clock = Clock()
    shortest = Breaker(clock, pause_min_s=1.0, draw=lambda: 0.0)
    shortest.on_hard_failure("refused")
    assert shortest.wait_s() == 0.5


def test_soft_failures_open_only_when_they_come_thick() -> None:
    story = Story(soft_limit=3, soft_of=5, soft_window_s=10.0)
    breaker = story.breaker
    for _ in range(2):
        breaker.on_soft_failure("no answer")
    for _ in range(4):
        breaker.on_success()  # 3 of the last 5 would be too many; 1 is left
    breaker.on_soft_failure("no answer")
    assert breaker.is_closed
    story.clock.now += 11.0  # out of the window
    breaker.on_soft_failure("no answer")
    breaker.on_soft_failure("no answer")
    assert breaker.is_closed
    breaker.on_soft_failure("no answer")
    assert breaker.state is State.OPEN
    assert breaker.reason == "no answer"


def test_a_silent_probe_does_not_hold_up_the_next() -> None:
    story = Story(pause_min_s=0.1, probe_patience_s=0.5)
    story.bring_to(State.HALF_OPEN)
    assert not story.breaker.admits()
    story.clock.now += 0.5
    assert story.breaker.admits()
    assert not story.breaker.admits()
    assert story.told == []


def test_what_it_says_of_itself() -> None:
    story = Story()
    assert repr(story.breaker) == "<Breaker closed>"
    story.breaker.on_hard_failure("refused")
    assert repr(story.breaker) == "<Breaker open: refused>"
    story.breaker.on_success()
    assert story.breaker.reason == ""
