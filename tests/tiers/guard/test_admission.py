"""The adaptive limit towards Postgres: what lowers it, what raises it, whose turn it is."""

from __future__ import annotations

from tests.tiers.manual_clock import Clock
from tiers.guard.admission import Admission


class Postgres:
    """Batches one after another, or so many at once, each taking `took_s`."""

    def __init__(self, most: int) -> None:
        self.clock = Clock()
        self.admission = Admission(most, self.clock)

    def serve(self, took_s: float, *, failed: bool = False, full: bool = True) -> None:
        """One generation: as many batches as may go (or one), all answered."""
        admission = self.admission
        count = 0
        while admission.begin(lambda: None):
            count += 1
            if not full:
                break
        self.clock.now += took_s
        for _ in range(count):
            admission.observe(took_s, failed=failed)
        for _ in range(count):
            admission.end()


def test_failures_halve_it_once_per_generation_down_to_one() -> None:
    postgres = Postgres(8)
    limits = []
    for _ in range(5):
        postgres.serve(2.0, failed=True)
        limits.append(postgres.admission.limit)
    assert limits == [4, 2, 1, 1, 1]


def test_it_comes_back_batch_by_batch() -> None:
    postgres = Postgres(4)
    for _ in range(3):
        postgres.serve(2.0, failed=True)
    limits = []
    for _ in range(6):
        postgres.serve(0.001)
        limits.append(postgres.admission.limit)
    assert limits[0] == 2
    assert limits == sorted(limits)
    assert limits[-1] == 4


def test_an_idle_system_learns_nothing_about_a_higher_limit() -> None:
    postgres = Postgres(8)
    postgres.serve(2.0, failed=True)
    for _ in range(50):
        postgres.serve(0.001, full=False)
    assert postgres.admission.limit == 4


def test_slower_than_usual_takes_a_tenth_off() -> None:
    postgres = Postgres(10)
    for _ in range(20):
        postgres.serve(0.005)
    assert postgres.admission.limit == 10
    postgres.serve(0.019)  # nearly four times the usual, but below the floor
    assert postgres.admission.limit == 10
    postgres.serve(0.2)
    assert postgres.admission.limit == 9
    assert postgres.admission.statistics().decreases == 1


def test_what_became_usual_is_no_reason_to_shrink_for_ever() -> None:
    postgres = Postgres(10)
    for _ in range(20):
        postgres.serve(0.005)
    for _ in range(300):
        postgres.serve(0.1)
    assert postgres.admission.limit == 10


def test_the_first_in_line_goes_first_and_each_is_called_once() -> None:
    admission = Admission(1, Clock())
    called: list[str] = []

    def come(name: str) -> None:
        called.append(name)
        admission.begin(lambda: called.append(f"{name} again"))

    assert admission.begin(lambda: None)
    for name in ("a", "b"):
        resume = {"a": lambda: come("a"), "b": lambda: come("b")}[name]
        assert not admission.begin(resume)
        assert not admission.begin(resume)
    assert admission.statistics().waiting == 2
    admission.end()
    assert called == ["a"]
    admission.end()
    assert called == ["a", "b"]


def test_one_that_has_nothing_left_to_send_lets_the_next_go() -> None:
    admission = Admission(1, Clock())
    called: list[str] = []
    assert admission.begin(lambda: None)
    admission.begin(lambda: called.append("nothing left"))
    admission.begin(lambda: called.append("next"))
    admission.end()
    assert called == ["nothing left", "next"]


def test_an_estimate_of_the_wait() -> None:
    postgres = Postgres(2)
    for _ in range(50):
        postgres.serve(0.1)
    assert 0.19 < postgres.admission.wait_s(4) < 0.21
    assert Postgres(2).admission.wait_s(100) == 0
