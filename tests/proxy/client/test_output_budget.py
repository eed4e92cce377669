"""The bound on what all clients leave unread: exact when it matters, the largest goes."""

import pytest

from proxy.client.output_budget import OutputBudget


class Reader:
    def __init__(self, unread_bytes: int = 0) -> None:
        self.unread_bytes = unread_bytes
        self.asked = 0


class CountedReader(Reader):
    @property
    def unread_bytes(self) -> int:
        self.asked += 1
        return self._unread_bytes

    @unread_bytes.setter
    def unread_bytes(self, value: int) -> None:
        self._unread_bytes = value


@pytest.fixture
def budget() -> OutputBudget[Reader]:
    return OutputBudget(100)


def test_nobody_has_to_go_below_the_bound(budget: OutputBudget[Reader]) -> None:
    first, second = Reader(40), Reader(60)
    budget.begin(first)
    budget.begin(second)
    assert budget.largest_over(0) is None
    assert budget.count_bytes() == 100


def test_the_largest_goes_whoever_was_written_to(budget: OutputBudget[Reader]) -> None:
    first, second = Reader(60), Reader(40)
    budget.begin(first)
    budget.begin(second)
    second.unread_bytes += 1
    assert budget.largest_over(1) is first
    budget.end(first)
    assert budget.largest_over(1) is None
    assert budget.count_bytes() == 41


def test_what_was_read_meanwhile_counts_no_more(budget: OutputBudget[Reader]) -> None:
    reader = Reader(90)
    budget.begin(reader)
    for _ in range(50):  # written to and read from at the same pace
        assert budget.largest_over(20) is None


def test_the_exact_count_is_not_taken_at_every_write() -> None:
    budget: OutputBudget[CountedReader] = OutputBudget(1000)
    reader = CountedReader()
    budget.begin(reader)
    reader.asked = 0
    for _ in range(1000):
        assert budget.largest_over(1) is None
    assert reader.asked == 0
    assert budget.largest_over(1) is None
    assert reader.asked == 1


def test_with_nobody_behind_the_count_begins_anew(budget: OutputBudget[Reader]) -> None:
    reader = Reader(100)
    budget.begin(reader)
    budget.end(reader)
    assert repr(budget) == "<OutputBudget 0 clients behind, 0 bytes>"
    budget.end(reader)  # gone as well: no harm
