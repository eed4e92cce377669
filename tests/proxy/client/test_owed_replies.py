"""What one client is owed is bounded, wherever it waits: it is paused, and served when it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from proxy.client._pipe_py import FIRST_REPLY_BYTES, IN_FLIGHT_MAX_BYTES
from proxy.client.connection import WRITE_HIGH_WATER_BYTES, Connection
from proxy.client.pipe import FLOOD_FACTOR, SPILL_BYTES
from proxy.client.session import RESCUED_MAX_BYTES
from proxy.client.slots import Slot
from tests.proxy.client.test_connection import attach
from tests.proxy.session_play import PING, Play, Wire, command, confirmation
from tiers.l2 import script_lanes
from tiers.proxy_door import TOO_LARGE, with_pttl
from tiers.wire.resp import OK, PONG, bulk, integer

KiB, MiB = 1024, 1024**2
BOUND_BYTES = 4 * MiB
VALUE = bulk(b"x" * 64 * KiB)
GETS = 400  # 9 KiB that ask for 25 MiB
SLACK_BYTES = SPILL_BYTES + len(VALUE)


class SlowWire(Wire):
    """A transport whose peer reads when told to."""

    def __init__(self, play: Play) -> None:
        super().__init__()
        self.play = play
        self.unread: list[bytes] = []
        self.taken: list[bytes] = []
        self.most_bytes = 0
        self.reading = True
        self.connection: Connection = attach(play, self)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        was_bytes = self.get_write_buffer_size()
        self.unread.append(bytes(data))
        self.most_bytes = max(self.most_bytes, self.get_write_buffer_size())
        if was_bytes <= WRITE_HIGH_WATER_BYTES < self.get_write_buffer_size():
            self.connection.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.unread))

    def take_some(self) -> bool:
        """The peer reads one write; whether there was one."""
        was_bytes = self.get_write_buffer_size()
        if not self.unread:
            return False
        self.taken.append(self.unread.pop(0))
        if self.get_write_buffer_size() <= WRITE_HIGH_WATER_BYTES // 4 < was_bytes:
            self.connection.resume_writing()
        self.play.tick()
        return True

    def take_all(self) -> bytes:
        self.play.tick()
        while self.take_some():
            pass
        taken, self.taken = self.taken, []
        return b"".join(taken)

    @property
    def owed_bytes(self) -> int:
        assert self.connection.session is not None
        return self.connection.session.owed_bytes


def ask_for_small_replies(play: Play, wire: SlowWire) -> list[int]:
    """A thousand of them; how many of the commands were sent upstream at a time."""
    wire.connection.data_received(command("TTL", "k") * 1000)
    turns: list[int] = []
    while sum(turns) < 1000:
        play.tick()
        asked = play.plain2.wire.written.count(b"TTL")
        assert asked
        play.plain2 << command("TTL", "k") * asked
        play.plain2 >> integer(1) * asked
        turns.append(asked)
    assert wire.take_all() == integer(1) * 1000
    return turns


@pytest.fixture
def play() -> Any:
    limits = {"output_buffer_bytes": BOUND_BYTES, "bulk_bytes": MiB, "unread_timeout_s": 60.0}
    with Play(limits=limits) as play:
        play.cache("big", VALUE)
        yield play


def test_hits_that_nobody_reads_are_not_served_on_and_on(play: Play) -> None:
    wire = SlowWire(play)
    wire.connection.data_received(command("GET", "big") * GETS + command("PING"))
    play.tick()
    assert wire.most_bytes <= BOUND_BYTES + SLACK_BYTES
    assert wire.take_all() == VALUE * GETS + PONG
    assert wire.most_bytes <= BOUND_BYTES + SLACK_BYTES
    assert not wire.closed


def test_hits_behind_one_reply_that_is_long_in_coming(play: Play) -> None:
    wire = SlowWire(play)
    wire.connection.data_received(command("TTL", "k") + command("GET", "big") * GETS)
    play.plain2 << command("TTL", "k")
    assert wire.owed_bytes <= BOUND_BYTES + SLACK_BYTES
    wire.connection.data_received(command("GET", "big"))  # it is still read from
    assert wire.owed_bytes <= BOUND_BYTES + SLACK_BYTES
    play.plain2 >> integer(1)
    assert wire.take_all() == integer(1) + VALUE * (GETS + 1)


def test_many_large_arrays_of_hits(play: Play) -> None:
    wire = SlowWire(play)
    wire.connection.data_received(command("MGET", *["big"] * 20) * 40)
    play.tick()
    assert wire.most_bytes <= BOUND_BYTES + SPILL_BYTES + 20 * len(VALUE)
    assert wire.take_all() == (b"*20\r\n" + VALUE * 20) * 40


def test_reads_in_flight_count_as_what_their_replies_are_likely_to_take(play: Play) -> None:
    wire = SlowWire(play)
    turns = ask_for_small_replies(play, wire)
    assert turns[0] <= BOUND_BYTES // MiB + 1, "nothing is known of the replies yet"
    assert len(turns) < 10
    assert ask_for_small_replies(play, wire) == [1000], "small replies are known"


def test_large_replies_are_asked_for_as_they_are_read(play: Play) -> None:
    wire = SlowWire(play)
    value = bulk(b"x" * MiB)
    wire.connection.data_received(command("DUMP", "k") * 60)
    served = 0
    while served < 60 and not wire.closed:
        play.tick()
        asked = play.plain2.wire.written.count(b"DUMP")
        assert asked
        play.plain2 << command("DUMP", "k") * asked
        play.plain2 >> value * asked
        assert wire.owed_bytes <= BOUND_BYTES + 2 * MiB
        got = wire.take_all()
        assert got == value * asked
        served += asked
    assert not wire.closed


def test_who_is_owed_far_too_much_is_closed(play: Play) -> None:
    """What is in flight cannot be stopped; its replies need not be kept."""
    wire = SlowWire(play)
    ask_for_small_replies(play, wire)
    wire.connection.data_received(command("DUMP", "k") * 100)
    play.plain2 << command("DUMP", "k") * 100
    for _ in range(100):
        play.plain2 >> bulk(b"x" * MiB)
    assert wire.closed
    assert wire.most_bytes <= (FLOOD_FACTOR + 1) * BOUND_BYTES
    assert play.terrace.stats.output_limit_closed == 1


def test_far_too_much_behind_one_reply_is_not_kept(play: Play) -> None:
    """Not even until the end of the turn in which it comes."""
    wire = SlowWire(play)
    ask_for_small_replies(play, wire)
    session = wire.connection.session
    assert session is not None
    slow = Slot(session)  # a row from PostgreSQL, say
    session.add_slot(slow)
    wire.connection.data_received(command("DUMP", "k") * 100)
    play.plain2 << command("DUMP", "k") * 100
    play.plain2 >> bulk(b"x" * MiB) * 100
    assert wire.closed
    assert wire.owed_bytes == 0
    assert play.terrace.stats.output_limit_closed == 1
    slow.finish(integer(1))
    play.tick()
    assert wire.unread == []


def test_a_dropped_client_is_served_no_more(play: Play) -> None:
    wire = SlowWire(play)
    pipeline = command("TTL", "k") + command("GET", "big") * GETS + command("SET", "k", "v")
    wire.connection.data_received(pipeline)
    play.plain2 << command("TTL", "k")
    wire.connection.abort("a test drops it")
    assert wire.owed_bytes == 0
    play.plain2 >> integer(1)
    wire.connection.data_received(command("SET", "k", "w"))
    play.tick()
    wire.connection.resume_writing()
    play.tick()
    play.tracked << b""
    play.plain2 << b""
    assert wire.unread == []


def test_who_reads_nothing_for_long_while_commands_wait_is_closed(play: Play) -> None:
    wire, patient = SlowWire(play), SlowWire(play)
    wire.connection.data_received(command("GET", "big") * GETS)
    patient.connection.data_received(command("GET", "big") * 20)  # all of it is there to read
    play.tick()
    for _ in range(70):
        play.now += 1.0
        for connection in play.terrace.output.behind():
            connection.close_if_stuck(play.now)
        if play.now == 1050.0:
            wire.take_some()  # a little is enough, once
    assert not wire.closed
    play.now += 50.0
    for connection in play.terrace.output.behind():
        connection.close_if_stuck(play.now)
    assert wire.closed
    assert not patient.closed
    assert play.terrace.stats.output_limit_closed == 1
    wire.connection.connection_lost(None)
    assert play.terrace.output.behind() == [patient.connection]


def test_a_client_may_write_all_it_has_before_it_reads() -> None:
    """It is read from while it is full (rule 10), whatever limits.pipeline says."""
    limits = {"output_buffer_bytes": BOUND_BYTES, "bulk_bytes": MiB, "pipeline": 100}
    with Play(limits=limits) as play:
        play.cache("big", VALUE)
        wire = SlowWire(play)
        for _ in range(10):
            wire.connection.data_received(command("GET", "big") * 100)
            play.tick()
            assert wire.reading
        assert wire.take_all() == VALUE * 1000
        assert wire.reading


def test_muted_replies_are_owed_to_nobody(play: Play) -> None:
    wire = SlowWire(play)
    wire.connection.data_received(
        command("CLIENT", "REPLY", "SKIP") + command("TTL", "k") + command("TTL", "k")
    )
    play.plain2 << command("TTL", "k") * 2
    play.plain2 >> integer(1) * 2
    assert wire.take_all() == integer(1)
    assert wire.owed_bytes == 0
    wire.connection.data_received(command("CLIENT", "REPLY", "ON"))
    assert wire.take_all() == OK


# One reply


def test_one_array_of_hits_larger_than_all_that_may_be_owed(play: Play) -> None:
    wire = SlowWire(play)
    wire.connection.data_received(command("MGET", *["big"] * 1000) + command("GET", "big"))
    assert wire.take_all() == TOO_LARGE + VALUE
    assert wire.most_bytes < 2 * MiB


@pytest.mark.parametrize(
    "words", [("GET", "k"), ("MGET", "a", "b"), ("DUMP", "k"), ("EVAL", "", 0)]
)
def test_one_reply_of_redis_larger_than_all_that_may_be_owed(
    play: Play, monkeypatch: pytest.MonkeyPatch, words: tuple[str | int, ...]
) -> None:
    """It is not kept while it comes, fills nothing, and harms nobody else on that connection."""
    monkeypatch.setattr(script_lanes, "LANES_MAX", 1)
    wire = SlowWire(play)
    wire.connection.data_received(command(*words))
    play.client >> command(*words)
    play.tick()
    asked = [peer for peer in (play.plain2, play.scripts2, play.tracked) if peer.wire.written]
    asked[0].wire.written = b""
    head = b"*2\r\n" if words[0] == "MGET" else b""
    pttls = {"GET": integer(-1), "MGET": integer(-1) * 2}.get(str(words[0]), b"")
    size = 6 * MiB
    asked[0] >> pttls + head + b"$%d\r\n" % size
    for _ in range(6):
        asked[0] >> b"x" * MiB
    small = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n" if head else bulk("v")
    asked[0] >> b"\r\n" + (bulk("b") if head else b"") + pttls + small
    if words[0] == "EVAL":
        play.tracked << command("PING") * 2
        play.tracked >> PONG * 2
    assert wire.take_all() == TOO_LARGE
    play.client << small
    assert play.cached("k") in (None, small)


# What is kept for a state


def test_a_transaction_is_not_kept_without_end() -> None:
    limits = {"query_buffer_bytes": MiB, "bulk_bytes": 100 * KiB}
    with Play(limits=limits) as play:
        private, wire = play.private(), SlowWire(play)
        wire.connection.data_received(command("MULTI"))
        private << command("MULTI")
        private >> OK
        queued = command("DEL", *["key"] * 1000)
        for _ in range(30):
            if wire.closed:
                break
            wire.connection.data_received(queued)
            private << queued
            private >> b"+QUEUED\r\n"
            assert wire.connection.held_bytes <= 1.2 * MiB
        assert wire.closed
        assert play.terrace.stats.input_limit_closed == 1
        wire.connection.connection_lost(None)
        private << command("RESET")
        private >> b"+RESET\r\n"


def test_subscriptions_are_not_kept_without_end() -> None:
    limits = {"query_buffer_bytes": MiB, "bulk_bytes": 100 * KiB}
    with Play(limits=limits) as play:
        private, wire = play.private(), SlowWire(play)
        for number in range(30):
            if wire.closed:
                break
            names = [f"{number}:{each}" for each in range(1000)]
            wire.connection.data_received(command("SUBSCRIBE", *names))
            private << command("SUBSCRIBE", *names)
            for each, name in enumerate(names):
                private >> confirmation("subscribe", name, number * 1000 + each + 1, 2)
            wire.take_all()
            if number == 3:  # what was given up does not count
                wire.connection.data_received(command("UNSUBSCRIBE", *names))
                private << command("UNSUBSCRIBE", *names)
                for name in names:
                    private >> confirmation("unsubscribe", name, 3000, 2)
                assert wire.connection.session is not None
                assert wire.connection.session.private is not None
                assert wire.connection.session.private.kept_bytes < 3200 * 110
        assert wire.closed
        assert 8 < number < 12
        wire.connection.connection_lost(None)
        private.wire.written = b""


class TestOthersOnTheConnection:
    """What comes for one client is in the way of what comes for all others."""

    @pytest.mark.parametrize("asked", [("GET", "k"), ("DUMP", "k")])
    def test_large_replies(self, asked: tuple[str, str]) -> None:
        """The rest is asked for when half of it came; also behind small ones."""
        play = Play()
        wire = SlowWire(play)
        upstream = play.tracked if asked[0] == "GET" else play.plain2
        head = integer(-1) if upstream is play.tracked else b""
        one, small, large = command(*asked), b"-ERR not kept\r\n", bulk(b"x" * 2 * MiB)
        coming = 0

        def ask() -> int:
            nonlocal coming
            coming += upstream.wire.written.count(one)
            upstream.wire.written = b""
            return coming

        def answer(reply: bytes) -> None:
            nonlocal coming
            upstream >> head + reply
            coming -= 1
            assert wire.take_all() == reply

        wire.connection.data_received(command(*asked) * 700)
        play.tick()
        assert ask() == IN_FLIGHT_MAX_BYTES // FIRST_REPLY_BYTES + 1
        for _ in range(400):
            answer(small)
            ask()
        before = ask()
        assert before > 200
        while coming:
            answer(large)
            assert ask() <= max(before - 1, IN_FLIGHT_MAX_BYTES // len(large) + 1)
            before = coming
        wire.connection.data_received(one)
        ask()
        answer(small)


class TestRedisFallsSilent:
    """What L1 may answer then is copied for each read in flight, all in one turn."""

    VALUE = bulk(b"x" * 900_000)
    MAX_BYTES = RESCUED_MAX_BYTES + len(VALUE)

    @pytest.fixture
    def silent(self) -> Iterator[Play]:
        """Thirty reads each of six clients are in flight."""
        with Play() as play:
            play.client >> command("GET", "big")
            play.tracked << with_pttl(b"big", command("GET", "big"))
            play.tracked >> integer(-1) + self.VALUE
            play.client << self.VALUE
            play.now += 1.0
            for client in [play.client, *(play.connect() for _ in range(5))]:
                client >> command("GET", "big") * 30
            play.tracked << PING + with_pttl(b"big", command("GET", "big")) * 180
            play.tracked >> PONG
            yield play

    def copied_bytes(self, play: Play, happens: Callable[[], None]) -> int:
        """Out of L1; in the turn in which this happens."""
        l1 = play.l1
        assert l1 is not None
        suspect, sizes = l1.get_suspect, list[int]()

        def get_suspect(key: bytes, variant: bytes, now: float) -> bytes | None:
            reply = suspect(key, variant, now)
            sizes.append(len(reply or b""))
            return reply

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(l1, "get_suspect", get_suspect)
            happens()
        return sum(sizes)

    def test_for_long(self, silent: Play) -> None:
        """What there was no room for waits on."""
        stall = partial(silent.terrace.stack.l2._note_stall, True)
        assert self.copied_bytes(silent, stall) <= self.MAX_BYTES
        silent.tick()
        assert sum(client.session.slot_count for client in silent.clients) > 0
        silent.tracked >> (integer(-1) + self.VALUE) * 180
        for client in silent.clients:
            client << self.VALUE * 30

    def test_for_ever(self, silent: Play) -> None:
        """What there was no room for is told so."""
        assert self.copied_bytes(silent, silent.tracked.lose) <= self.MAX_BYTES
        replies = b"".join(client.take() for client in silent.clients)
        assert replies.count(self.VALUE) == RESCUED_MAX_BYTES // len(self.VALUE) + 1
        assert replies.count(b"-ERR terrace: L2 (redis) is unavailable") == 180 - replies.count(
            self.VALUE
        )
        assert not silent.terrace.rescued_bytes  # the next turn has room again

    def test_for_clients_that_have_left(self, silent: Play) -> None:
        for client in silent.clients[1:]:
            client.leave()
        assert self.copied_bytes(silent, silent.tracked.lose) == 30 * len(self.VALUE)
        silent.client << self.VALUE * 30
