"""The upstream pipe: replies to their waiters in order, databases, pushes, the watermark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers.splits import cut
from tests.tiers.twin_modules import twins
from tiers.errors import ProtocolError
from tiers.wire._pipe_py import TOO_LARGE
from tiers.wire.pipe import DISCARD, UpstreamPipe
from tiers.wire.resp import OK, pack

PING = pack([b"PING"])
PUSH = b">2\r\n+invalidate\r\n*1\r\n+k\r\n"


@pytest.fixture(
    autouse=True, scope="module", params=twins("tiers.wire._pipe_py", "tiers.wire._pipe")
)
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests of this module run with each twin."""
    module: ModuleType = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "UpstreamPipe", module.UpstreamPipe)
        yield


class Recorder:
    """A waiter that notes what it was told."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, float]] = []
        self.losses: list[tuple[str, bool]] = []

    def on_reply(self, reply: bytes, sent_at: float) -> None:
        self.replies.append((reply, sent_at))

    def on_lost(self, reason: str, sent: bool) -> None:
        self.losses.append((reason, sent))


def test_the_oldest_request_says_since_when_is_waited() -> None:
    """Deadlines are per request: neither bytes nor later requests put one off (rule 14)."""
    pipe, first, second = UpstreamPipe(), Recorder(), Recorder()
    pipe.queue(PING, first, 0)
    pipe.take_output(1.0)
    pipe.queue(PING, second, 0)
    pipe.take_output(2.0)
    assert pipe.waiting_since() == 1.0
    pipe.feed(b"$1000\r\na trickle")
    pipe.feed(b" of bytes")
    assert pipe.waiting_since() == 1.0
    pipe.feed(b"." * 982 + b"\r\n")
    assert len(first.replies) == 1
    assert pipe.waiting_since() == 2.0


def test_replies_go_to_their_waiters_with_the_time_of_their_sending() -> None:
    pipe, a, b, c = UpstreamPipe(), Recorder(), Recorder(), Recorder()
    pipe.queue(PING, a, 0)
    pipe.queue(PING, b, 0)
    assert pipe.waiting_since() is None, "nothing was sent yet"
    assert pipe.take_output(1.0) == PING * 2
    assert not pipe.has_output
    pipe.queue(PING, c, 0)
    assert pipe.take_output(2.0) == PING
    assert (len(pipe), pipe.last_sent_at, pipe.waiting_since()) == (3, 2.0, 1.0)
    assert pipe.feed(b"+1\r\n+2") == 1.0
    assert pipe.feed(b"\r\n+3\r\n") == 2.0
    assert [r.replies for r in (a, b, c)] == [
        [(b"+1\r\n", 1.0)], [(b"+2\r\n", 1.0)], [(b"+3\r\n", 2.0)],
    ]  # fmt: skip
    assert (len(pipe), pipe.waiting_since()) == (0, None)


def test_the_database_is_switched_where_it_differs() -> None:
    pipe, waiter = UpstreamPipe(), Recorder()
    for db in (0, 12, 12, 0):
        pipe.queue(PING, waiter, db)
    to_12, to_0 = pack([b"SELECT", b"12"]), pack([b"SELECT", b"0"])
    assert pipe.take_output(1.0) == PING + to_12 + PING * 2 + to_0 + PING
    pipe.feed(b"+0\r\n" + OK + b"+1\r\n+2\r\n" + OK + b"+3\r\n")
    assert [reply for reply, _ in waiter.replies] == [b"+0\r\n", b"+1\r\n", b"+2\r\n", b"+3\r\n"]


BUSY = b"-BUSY a script runs\r\n"


def test_what_comes_behind_a_refused_select_is_replaced_by_the_refusal() -> None:
    """Those requests ran in the database that was selected before."""
    pipe, before, behind, after = UpstreamPipe(), Recorder(), Recorder(), Recorder()
    pipe.queue(PING, before, 0)
    pipe.queue(PING * 2, behind, 3, 2)
    pipe.queue(PING, after, 5)
    pipe.take_output(1.0)
    pipe.feed(b"+1\r\n" + BUSY + b"+2\r\n+3\r\n" + OK + b"+4\r\n")
    assert before.replies == [(b"+1\r\n", 1.0)]
    assert behind.replies == [(BUSY, 1.0)] * 2
    assert after.replies == [(b"+4\r\n", 1.0)]
    assert pipe.fits(5)


def test_after_a_refused_select_the_next_request_selects_its_own() -> None:
    pipe, waiter = UpstreamPipe(), Recorder()
    pipe.queue(PING, DISCARD, 3)
    pipe.take_output(1.0)
    pipe.feed(BUSY + b"+1\r\n")
    assert not any(map(pipe.fits, (0, 3)))
    pipe.queue(PING, waiter, 0)
    assert pipe.take_output(2.0) == pack([b"SELECT", b"0"]) + PING
    pipe.feed(OK + b"+2\r\n")
    assert waiter.replies == [(b"+2\r\n", 2.0)]
    assert pipe.fits(0)


def test_it_fits_where_the_database_is_confirmed() -> None:
    pipe = UpstreamPipe()
    assert pipe.fits(0)
    assert not pipe.fits(3)
    pipe.queue(PING, DISCARD, 3)
    assert not any(map(pipe.fits, (0, 3))), "selected, and not confirmed"
    pipe.queue(PING, DISCARD, 0)
    pipe.take_output(1.0)
    pipe.feed(OK + b"+1\r\n")
    assert not any(map(pipe.fits, (0, 3)))
    pipe.feed(OK + b"+2\r\n")
    assert pipe.fits(0)
    pipe.queue(PING, DISCARD, 3)
    pipe.fail_all("gone")
    assert pipe.fits(0), "a fresh connection"


@pytest.mark.parametrize("reply", [b"-READONLY You can't write\r\n", b"-MASTERDOWN Link\r\n"])
def test_a_reply_that_only_a_replica_gives_is_told(reply: bytes) -> None:
    pipe, waiter, told = UpstreamPipe(), Recorder(), []
    pipe.alarm = told.append
    pipe.queue(PING * 2, waiter, 0, 2)
    pipe.take_output(1.0)
    pipe.feed(b"-ERR READONLY\r\n" + reply)
    assert told == [reply]
    assert waiter.replies[1] == (reply, 1.0)


def test_pushes_are_nobodys_replies_and_come_in_stream_order() -> None:
    story: list[bytes] = []

    class Teller(Recorder):
        def on_reply(self, reply: bytes, sent_at: float) -> None:
            story.append(reply)

    def tap(frame: bytes) -> bool:
        story.append(frame)
        return True

    pipe = UpstreamPipe(tap)
    pipe.queue(PING * 2, Teller(), 0, replies=2)
    pipe.take_output(1.0)
    assert pipe.feed(PUSH) == 0.0, "a push answers nothing: it moves no watermark"
    pipe.feed(b"+1\r\n" + PUSH + b"+2\r\n" + PUSH)
    assert story == [PUSH, b"+1\r\n", PUSH, b"+2\r\n", PUSH]


def test_a_tap_may_decline_and_sees_everything_when_asked() -> None:
    seen: list[bytes] = []

    def tap(frame: bytes) -> bool:
        seen.append(frame)
        return frame.startswith(b"*3")

    pipe, waiter = UpstreamPipe(tap), Recorder()
    pipe.queue(PING, waiter, 0, replies=2)
    pipe.take_output(1.0)
    message = b"*3\r\n+message\r\n+ch\r\n+hi\r\n"
    pipe.feed(PUSH)
    assert waiter.replies == [(PUSH, 1.0)], "declined: a reply"
    pipe.tap_all = True
    pipe.feed(message + b"+PONG\r\n" + message)
    assert waiter.replies[1:] == [(b"+PONG\r\n", 1.0)]
    assert seen == [PUSH, message, b"+PONG\r\n", message]


def test_a_request_with_many_replies_and_one_that_forgoes_the_rest() -> None:
    pipe, many, after = UpstreamPipe(), Recorder(), Recorder()
    pipe.queue(PING, many, 0, replies=3)
    pipe.queue(PING, after, 0)
    pipe.take_output(1.0)
    pipe.feed(b"-ERR no\r\n")
    pipe.forgo(many)
    pipe.feed(b"+PONG\r\n")
    assert [reply for reply, _ in many.replies] == [b"-ERR no\r\n"]
    assert [reply for reply, _ in after.replies] == [b"+PONG\r\n"]
    assert pipe.waiting_since() is None


def test_a_frame_that_nobody_asked_for_is_dropped() -> None:
    pipe, waiter = UpstreamPipe(), Recorder()
    assert pipe.feed(b"+huh\r\n") == 0.0
    pipe.queue(PING, waiter, 0)
    pipe.take_output(1.0)
    pipe.feed(b"+PONG\r\n")
    assert waiter.replies == [(b"+PONG\r\n", 1.0)]


def test_losing_the_connection_tells_everybody_once_and_what_was_sent() -> None:
    pipe, answered, sent, unsent = UpstreamPipe(), Recorder(), Recorder(), Recorder()
    pipe.queue(PING, answered, 0)
    pipe.queue(PING, sent, 3, replies=2)
    pipe.take_output(1.0)
    pipe.feed(b"+PONG\r\n")
    pipe.queue(PING, unsent, 5)
    pipe.fail_all("gone")
    assert answered.losses == []
    assert sent.losses == [("gone", True)] * 2
    assert unsent.losses == [("gone", False)]
    assert (len(pipe), pipe.db, pipe.has_output, pipe.waiting_since()) == (0, 0, False, None)


def test_half_a_reply_does_not_survive_the_connection() -> None:
    pipe, waiter = UpstreamPipe(), Recorder()
    pipe.queue(PING, waiter, 0)
    pipe.take_output(1.0)
    pipe.feed(b"$100\r\nhalf")
    pipe.fail_all("gone")
    pipe.queue(PING, waiter, 0)
    pipe.take_output(2.0)
    pipe.feed(b"+PONG\r\n")
    assert waiter.replies == [(b"+PONG\r\n", 2.0)]


def test_a_waiter_may_queue_again_from_within() -> None:
    pipe = UpstreamPipe()

    class Again(Recorder):
        def on_reply(self, reply: bytes, sent_at: float) -> None:
            super().on_reply(reply, sent_at)
            if len(self.replies) == 1:
                pipe.queue(PING, self, 0)

        def on_lost(self, reason: str, sent: bool) -> None:
            super().on_lost(reason, sent)
            pipe.queue(PING, DISCARD, 0)

    again = Again()
    pipe.queue(PING, again, 0)
    pipe.take_output(1.0)
    pipe.feed(b"+1\r\n")
    assert pipe.take_output(2.0) == PING
    pipe.fail_all("gone")
    assert again.losses == [("gone", True)]
    assert len(pipe) == 1


def test_bytes_that_are_not_resp_end_the_stream() -> None:
    pipe = UpstreamPipe()
    with pytest.raises(ProtocolError):
        pipe.feed(b"HTTP/1.1 400\r\n")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=20),
    st.lists(st.integers(min_value=0), max_size=8),
)
def test_every_waiter_gets_its_own_reply(
    requests: list[tuple[int, bool]], places: list[int]
) -> None:
    """Whatever databases, flushes and cuts there are."""
    pipe = UpstreamPipe(tap=lambda frame: True)
    waiters, sent = [], b""
    for number, (db, flush) in enumerate(requests):
        waiters.append(Recorder())
        pipe.queue(pack([b"ECHO", b"%d" % number]), waiters[-1], db)
        if flush:
            sent += pipe.take_output(float(number))
    if pipe.has_output:
        sent += pipe.take_output(99.0)
    stream = b""
    for command in sent.split(b"*2\r\n")[1:]:
        stream += OK if b"SELECT" in command else command.removeprefix(b"$4\r\nECHO\r\n") + PUSH
    for chunk in cut(stream, places):
        pipe.feed(chunk)
    answers = [[reply for reply, _ in waiter.replies] for waiter in waiters]
    assert answers == [[b"$%d\r\n%d\r\n" % (len(str(n)), n)] for n in range(len(requests))]
    assert len(pipe) == 0


def test_nothing_is_handed_out_after_a_waiter_ended_the_connection() -> None:
    class Ender(Recorder):
        def on_reply(self, reply: bytes, sent_at: float) -> None:
            super().on_reply(reply, sent_at)
            pipe.fail_all("ended")

    pipe, ender, behind = UpstreamPipe(), Ender(), Recorder()
    pipe.queue(PING, ender, 0)
    pipe.queue(PING, behind, 0)
    pipe.take_output(1.0)
    pipe.feed(b"+1\r\n+2\r\n")
    assert ender.replies == [(b"+1\r\n", 1.0)]
    assert (behind.replies, behind.losses) == ([], [("ended", True)])


def test_output_is_announced_once_until_it_is_taken() -> None:
    calls: list[int] = []
    pipe = UpstreamPipe()
    pipe.on_output = lambda: calls.append(len(pipe))
    for _ in range(2):
        pipe.queue(PING, DISCARD, 0)
        pipe.queue(PING, DISCARD, 3)
        pipe.take_output(1.0)
    assert len(calls) == 2


@pytest.mark.parametrize("error", [ValueError, ProtocolError])
def test_a_reply_that_its_waiter_cannot_read_ends_the_stream(error: type[Exception]) -> None:
    """And the waiter hears of it, like those behind it."""

    class Reader(Recorder):
        def on_reply(self, reply: bytes, sent_at: float) -> None:
            raise error("does not fit")

    pipe, first, second = UpstreamPipe(), Reader(), Recorder()
    pipe.queue(PING, first, 0)
    pipe.queue(PING, second, 0)
    pipe.take_output(1.0)
    with pytest.raises(ProtocolError, match="does not fit"):
        pipe.feed(b"+x\r\n+y\r\n")
    assert [sent for _, sent in first.losses] == [True]
    pipe.fail_all("closed")
    assert second.losses == [("closed", True)]


def test_whose_reply_comes_next() -> None:
    """Also while `tap` looks at the frame: it tells a reply from a message by it."""
    pipe, first, second = UpstreamPipe(), Recorder(), Recorder()
    seen: list[object] = []
    pipe.tap, pipe.tap_all = lambda frame: bool(seen.append(pipe.next_waiter)), True
    assert pipe.next_waiter is None
    pipe.queue(PING, first, 0)
    pipe.queue(PING, second, 0)
    pipe.take_output(1.0)
    pipe.feed(b"+1\r\n+2\r\n+3\r\n")
    assert seen == [first, second, None]


def test_requests_beyond_the_bound_or_in_front_of_a_full_socket_are_not_taken() -> None:
    pipe = UpstreamPipe(max_in_flight=2)
    pipe.queue(PING, DISCARD, 0)
    assert pipe.takes_more
    pipe.congested = True
    assert not pipe.takes_more
    pipe.congested = False
    pipe.queue(PING, DISCARD, 0)
    assert not pipe.takes_more


class Knowing(Recorder):
    """A waiter that can do without its reply."""

    def __init__(self, knows: bool = True) -> None:
        super().__init__()
        self.asked = 0
        self._knows = knows

    def answer_early(self) -> bool:
        self.asked += 1
        return self._knows


def test_who_can_do_without_its_reply_does_not_get_it() -> None:
    """The replies that come in the end still find their waiters."""
    pipe = UpstreamPipe()
    patient, knowing, unknowing, last = Recorder(), Knowing(), Knowing(knows=False), Recorder()
    pipe.queue(PING, patient, 0)
    pipe.queue(PING + PING, knowing, 0, 2)
    pipe.queue(PING, unknowing, 3)
    pipe.queue(PING, last, 0)
    pipe.take_output(1.0)
    pipe.answer_early()
    assert (knowing.asked, unknowing.asked) == (1, 1)
    pipe.feed(b":1\r\n:2\r\n:3\r\n+OK\r\n:4\r\n+OK\r\n:5\r\n")
    assert patient.replies == [(b":1\r\n", 1.0)]
    assert knowing.replies == []
    assert unknowing.replies == [(b":4\r\n", 1.0)]
    assert last.replies == [(b":5\r\n", 1.0)]
    assert len(pipe) == 0


def test_who_was_answered_early_is_not_told_of_the_loss() -> None:
    pipe, knowing, patient = UpstreamPipe(), Knowing(), Recorder()
    pipe.queue(PING, knowing, 0)
    pipe.queue(PING, patient, 0)
    pipe.take_output(1.0)
    pipe.answer_early()
    pipe.fail_all("gone")
    assert knowing.losses == []
    assert patient.losses == [("gone", True)]


# Replies that are larger than wanted


class Bounded(Recorder):
    def __init__(self, reply_max_bytes: int) -> None:
        super().__init__()
        self.reply_max_bytes = reply_max_bytes


LARGE = b"$3000000\r\n" + b"x" * 3_000_000 + b"\r\n"


def feed_in_pieces(pipe: UpstreamPipe, data: bytes) -> None:
    for at in range(0, len(data), 100_000):
        pipe.feed(data[at : at + 100_000])


def test_a_reply_larger_than_its_waiter_wants_is_replaced() -> None:
    pipe = UpstreamPipe()
    waiters = [Bounded(2_000_000), Bounded(4_000_000), Bounded(0), Recorder(), Bounded(2_000_000)]
    for waiter in waiters:
        pipe.queue(PING, waiter, 0)
    pipe.take_output(1.0)
    feed_in_pieces(pipe, LARGE * 4 + OK)
    assert waiters[0].replies == [(TOO_LARGE, 1.0)]
    assert [waiter.replies for waiter in waiters[1:4]] == [[(LARGE, 1.0)]] * 3
    assert waiters[4].replies == [(OK, 1.0)]


def test_what_is_no_reply_is_not_replaced() -> None:
    """Under RESP2 a message is an array, and may come while a reply is awaited."""
    seen: list[bytes] = []
    pipe = UpstreamPipe(tap=lambda frame: not seen.append(frame))  # type: ignore[func-returns-value]
    pipe.tap_all = True
    waiter = Bounded(2_000_000)
    pipe.queue(PING, waiter, 0)
    pipe.take_output(1.0)
    feed_in_pieces(pipe, LARGE)
    assert seen == [LARGE]
