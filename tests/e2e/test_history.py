"""The checker itself: it must see what is wrong, and only that."""

from __future__ import annotations

from tests.e2e.history import Findings, History, Read, Write


def checked(*events: Write | Read) -> Findings:
    history = History()
    history.writes += [event for event in events if isinstance(event, Write)]
    history.reads += [event for event in events if isinstance(event, Read)]
    return history.check()


A = Write("w", "k", b"a", 0.0, 1.0)
B = Write("w", "k", b"b", 2.0, 3.0)


def test_current_values_are_not_stale() -> None:
    findings = checked(A, B, Read("r", "k", b"a", 1.5, 1.6), Read("r", "k", b"b", 3.5, 3.6))
    assert (findings.worst_s, findings.crossed, findings.own_writes_missed) == (0, [], [])


def test_while_a_write_is_under_way_both_values_are_right() -> None:
    findings = checked(A, B, Read("r", "k", b"a", 2.9, 3.1), Read("r", "k", b"b", 2.1, 2.2))
    assert findings.worst_s == 0


def test_staleness_counts_from_the_end_of_the_overwriting_write() -> None:
    assert checked(A, B, Read("r", "k", b"a", 3.25, 3.3)).worst_s == 0.25


def test_own_writes() -> None:
    read = Read("w", "k", b"a", 3.1, 3.2)
    assert checked(A, B, read).own_writes_missed == [(read, B)]
    assert not checked(A, B, Read("r", "k", b"a", 3.1, 3.2)).own_writes_missed


def test_a_concurrent_write_of_another_may_have_come_last() -> None:
    other = Write("x", "k", b"x", 1.9, 2.5)
    assert not checked(A, B, other, Read("w", "k", b"x", 3.1, 3.2)).own_writes_missed


def test_a_deletion_overwrites() -> None:
    gone = Write("w", "k", None, 2.0, 3.0)
    assert checked(A, gone, Read("r", "k", b"a", 3.5, 3.6)).worst_s == 0.5


def test_an_unknown_outcome_overwrites_nothing_for_sure() -> None:
    unknown = Write("w", "k", b"b", 2.0, float("inf"))
    assert checked(A, unknown, Read("r", "k", b"a", 9.0, 9.1)).worst_s == 0
    assert checked(A, unknown, Read("r", "k", b"b", 9.0, 9.1)).worst_s == 0


def test_a_value_of_another_key_is_crossed() -> None:
    read = Read("r", "k", b"other:1", 1.0, 1.1)
    assert checked(A, read).crossed == [read]
