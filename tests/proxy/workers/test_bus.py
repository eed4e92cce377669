"""What workers say to each other: frames out of a cut stream, and who is still waited for."""

from __future__ import annotations

import json
import struct

import pytest

from proxy.workers.bus import (
    ANSWER,
    ASK,
    BODY_MAX_BYTES,
    EVERYBODY,
    ROSTER,
    BusError,
    Calls,
    Frame,
    FrameReader,
)

FRAMES = [
    Frame(EVERYBODY, 2, ASK, 7, b'{"op": "x", "args": {}}'),
    Frame(2, 0, ANSWER, 7, b""),
    Frame(1, 2, ROSTER, 0, b"[0, 1, 2]"),
]


class Ends:
    """Counts how often a question was done."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def answer(asked: Frame, sender: int, result: object) -> Frame:
    return Calls(sender).answer(asked, result)


def fleet(*others: int) -> Calls:
    calls = Calls(0)
    calls.on_roster([0, *others])
    return calls


@pytest.mark.parametrize("size", [1, 2, 12, 13, 14, 1000])
def test_frames_of_a_stream_that_is_cut_anywhere(size: int) -> None:
    stream = b"".join(frame.encode() for frame in FRAMES)
    reader = FrameReader()
    found = []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    assert found == FRAMES


@pytest.mark.parametrize(
    "header",
    [struct.pack(">IHHBI", 2**32 - 1, 0, 0, ASK, 0), struct.pack(">IHHBI", 0, 0, 0, 99, 0)],
)
def test_nonsense_is_no_frame(header: bytes) -> None:
    with pytest.raises(BusError):
        FrameReader().feed(header)


def test_a_question_ends_with_the_last_answer() -> None:
    calls, done = fleet(1, 2), Ends()
    call, asked = calls.ask("figures", {"a": 1}, done)
    assert json.loads(asked.body) == {"op": "figures", "args": {"a": 1}}
    calls.on_answer(answer(asked, 2, "two"))
    assert done.count == 0
    calls.on_answer(answer(asked, 1, "one"))
    assert done.count == 1
    assert calls.end(call) == ["one", "two"], "in the order of the workers"


def test_whoever_dies_is_left_out() -> None:
    calls, done = fleet(1, 2), Ends()
    call, asked = calls.ask("figures", {}, done)
    calls.on_answer(answer(asked, 1, "one"))
    calls.on_roster([0, 1])
    assert done.count == 1
    assert calls.end(call) == ["one"]


def test_whoever_comes_meanwhile_is_not_waited_for() -> None:
    calls, done = fleet(1), Ends()
    call, asked = calls.ask("figures", {}, done)
    calls.on_roster([0, 1, 2])
    calls.on_answer(answer(asked, 2, "never asked"))
    calls.on_answer(answer(asked, 1, "one"))
    assert done.count == 1
    assert calls.end(call) == ["one"]


def test_one_who_could_not_answer_is_not_waited_for() -> None:
    calls, done = fleet(1, 2), Ends()
    call, asked = calls.ask("figures", {}, done)
    for number in (1, 2):
        calls.on_answer(answer(asked, number, None))
    assert (done.count, calls.end(call)) == (1, [])


def test_answers_that_come_twice_or_late_change_nothing() -> None:
    calls, done = fleet(1, 2), Ends()
    call, asked = calls.ask("figures", {}, done)
    calls.on_answer(answer(asked, 1, "one"))
    calls.on_answer(answer(asked, 1, "one again"))
    assert (done.count, calls.end(call)) == (0, ["one"])
    calls.on_answer(answer(asked, 2, "late"))
    calls.on_roster([0])
    assert done.count == 0


def test_questions_do_not_get_each_others_answers() -> None:
    calls, first_done, second_done = fleet(1), Ends(), Ends()
    first, first_asked = calls.ask("a", {}, first_done)
    second, second_asked = calls.ask("b", {}, second_done)
    calls.on_answer(answer(second_asked, 1, "b"))
    assert (first_done.count, second_done.count) == (0, 1)
    calls.on_answer(answer(first_asked, 1, "a"))
    assert (calls.end(first), calls.end(second)) == (["a"], ["b"])


def test_an_answer_that_is_too_long_is_none() -> None:
    """A reader would take it for garbage, and its worker would end."""
    calls, done = fleet(1), Ends()
    call, asked = calls.ask("clients", {}, done)
    calls.on_answer(answer(asked, 1, "x" * BODY_MAX_BYTES))
    assert (calls.end(call), done.count) == ([], 1)
