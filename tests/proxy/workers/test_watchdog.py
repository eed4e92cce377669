"""A worker that makes no turn of its loop is hung; one that was stopped with everybody is not."""

from __future__ import annotations

import os

from proxy.workers.watchdog import BEAT_S, HUNG_S, Watchdog

ME = os.getpid()  # its /proc can be read
LOOKS = round(HUNG_S / BEAT_S)


class Workers:
    def __init__(self) -> None:
        self.now = 1000.0
        self.beats = {0: 5, 1: 5}
        self.dog = Watchdog(lambda number: self.beats[number])

    def look(self, *beating: int, after_s: float = BEAT_S) -> list[int]:
        self.now += after_s
        for number in beating:
            self.beats[number] += 1
        return [pid for pid, _ in self.dog.hung(self.now, [(0, ME), (1, 99_999_999)])]


def test_a_silent_one_is_found_after_its_time_and_no_other() -> None:
    workers = Workers()
    found = [workers.look(1) for _ in range(LOOKS + 1)]
    assert found == [[]] * LOOKS + [[ME]]
    assert workers.look(0, 1) == [], "it is alive after all"


def test_a_beat_now_and_then_is_enough() -> None:
    workers = Workers()
    for look in range(10 * LOOKS):
        assert workers.look(*((0, 1) if look % (LOOKS - 1) == 0 else ())) == []


def test_a_stop_of_everybody_is_nobodys_fault() -> None:
    """The machine slept, or the supervisor was stopped: it did not look."""
    workers = Workers()
    workers.look(0, 1)
    for _ in range(LOOKS // 3):
        assert workers.look(after_s=3600) == []
        assert workers.look(0, 1) == []


def test_a_new_process_begins_anew() -> None:
    workers = Workers()
    for _ in range(LOOKS):
        workers.look(1)
    workers.now += BEAT_S
    assert list(workers.dog.hung(workers.now, [(0, ME + 1)])) == []


def test_it_is_looked_at_in_time_only() -> None:
    workers = Workers()
    workers.look()
    for _ in range(100 * LOOKS):
        assert workers.look(after_s=BEAT_S / 1000) == []
    assert workers.dog.look_at > workers.now - BEAT_S


def test_what_it_did_is_told() -> None:
    workers = Workers()
    while not (found := list(workers.dog.hung(workers.now, [(0, ME)]))):
        workers.now += BEAT_S
    assert found[0][1].startswith(f"its loop has not run for {HUNG_S:.0f} s, ")
    assert "of processor time" in found[0][1]
