"""When views are due: the schedule, and what refresh = "auto" makes of costs and changes. No IO."""

from __future__ import annotations

import pytest

from tiers.refresh.schedule import (
    BUSY_SHARE,
    INTERVAL_JITTER,
    LONGEST_S,
    SHORTEST_S,
    Pace,
    Schedule,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_schedule_goes_by_the_age_of_the_last_refresh() -> None:
    clock = Clock()
    schedule = Schedule(clock, chance=lambda: 0.0)
    schedule.plan("fresh", 60.0, age_s=10.0)
    schedule.plan("old", 60.0, age_s=59.0)
    schedule.plan("overdue", 60.0, age_s=600.0)
    assert schedule.next_due() == "overdue"
    schedule.plan("overdue", 60.0)
    assert schedule.next_due() is None
    assert schedule.wait_s(2.0) == 1.0
    clock.now += 1.0
    assert (schedule.next_due(), schedule.wait_s(2.0)) == ("old", 0.0)
    schedule.plan("old", 60.0)
    assert schedule.wait_s(2.0) == 2.0


def test_jitter_only_shortens_the_wait() -> None:
    schedule = Schedule(Clock(), chance=lambda: 1.0)
    assert schedule.plan("v", 60.0) == pytest.approx(60.0 * (1 - INTERVAL_JITTER))
    assert schedule.wait_s(100.0) == pytest.approx(60.0 * (1 - INTERVAL_JITTER))


def test_a_view_is_brought_forward_never_put_off_and_only_if_planned() -> None:
    schedule = Schedule(Clock(), chance=lambda: 0.0)
    schedule.plan("v", 60.0)
    schedule.bring_forward("v", 5.0)
    assert schedule.wait_s(100.0) == 5.0
    schedule.bring_forward("v", 50.0)
    assert schedule.wait_s(100.0) == 5.0
    schedule.bring_forward("manual", 0.0)
    assert schedule.next_due() is None


def test_auto_is_the_cheapest_interval() -> None:
    """At the formula's interval the sum of both costs is lower than at any other."""
    pace = Pace(duration_s=0.5, changes_per_s=0.4)

    def cost(interval_s: float) -> float:
        outdated_keys = interval_s * pace.changes_per_s / 2
        return outdated_keys / 1000.0 + pace.duration_s / interval_s

    assert pace.shortest_s < pace.best_s < LONGEST_S
    assert all(cost(pace.best_s) < cost(pace.best_s * f) for f in (0.5, 0.9, 1.1, 2.0))


@pytest.mark.parametrize(
    ("duration_s", "changes_per_s", "expected_s"),
    [
        (0.01, 1000.0, SHORTEST_S),  # cheap and lively
        (2.0, 1000.0, 2.0 / BUSY_SHARE),  # dear and lively: a twentieth of the time
        (0.01, 0.0, LONGEST_S),  # nothing ever changes
        (60.0, 0.0, 60.0 / BUSY_SHARE),  # so dear that even ten minutes are too short
        (0.05, 1.0, 10.0),
    ],
)
def test_auto_is_bounded(duration_s: float, changes_per_s: float, expected_s: float) -> None:
    assert Pace(duration_s, changes_per_s).best_s == pytest.approx(expected_s)


def test_auto_follows_the_changes_within_some_refreshes() -> None:
    pace = Pace(0.05, changes_per_s=0.0)
    for _ in range(6):
        pace = pace.observed(changed=100, elapsed_s=10.0, duration_s=0.05)
    assert pace.changes_per_s == pytest.approx(10.0, rel=0.05)
    lively_s = pace.best_s
    for _ in range(20):
        pace = pace.observed(changed=0, elapsed_s=lively_s, duration_s=0.05)
    assert pace.best_s == LONGEST_S
