"""Fills of reads that look at hash fields, where fields may expire before their key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.session_play import Client, Play, command, fill
from tiers.wire.resp import NULL3, array, bulk, integer, push

MAP = b"%2\r\n" + bulk("f") + bulk("1") + bulk("g") + bulk("2")
NAMES = array([bulk("f"), bulk("g")])
FLAT = array([bulk("f"), bulk("1"), bulk("g"), bulk("2")])


@pytest.fixture
def play() -> Iterator[Play]:
    with Play(fields_expire=True, l1={"max_staleness": "1h"}) as play:
        yield play


def ask(*fields: str) -> bytes:
    return command("HPTTL", "h", "FIELDS", len(fields), *fields)


def is_hit(client: Client, request: bytes) -> bool:
    """Whether it is answered at once. (What was sent upstream is for the caller to see.)"""
    client >> request
    return client.take() != b""


def test_a_reply_is_kept_until_its_earliest_field_ends(play: Play) -> None:
    hgetall = command("HGETALL", "h")
    play.client >> hgetall
    play.tracked << fill("HGETALL", "h")
    play.tracked >> integer(60_000) + MAP
    play.client << FLAT  # the client does not wait for what L1 asks
    play.tracked << ask("f", "g")
    play.tracked >> array([integer(-1), integer(5_000)])
    play.now += 4.9
    assert is_hit(play.client, hgetall)
    play.now += 0.2
    assert not is_hit(play.client, hgetall)
    play.tracked << fill("HGETALL", "h")
    play.tracked >> integer(-2) + b"%0\r\n"
    play.client << b"*0\r\n"
    play.tracked << b""  # nothing can end in a key that is not there


def test_the_key_may_end_before_its_fields(play: Play) -> None:
    hget = command("HGET", "h", "f")
    play.client >> hget
    play.tracked << fill("HGET", "h", "f")
    play.tracked >> integer(1_000) + bulk("1")
    play.client << bulk("1")
    play.tracked << ask("f")
    play.tracked >> array([integer(5_000)])
    play.now += 0.9
    assert is_hit(play.client, hget)
    play.now += 0.2
    assert not is_hit(play.client, hget)
    play.tracked << fill("HGET", "h", "f")
    play.tracked >> integer(-2) + NULL3
    play.client.take()


def test_values_alone_are_kept_by_the_names_behind_them(play: Play) -> None:
    hvals = command("HVALS", "h")
    play.client >> hvals
    play.tracked << fill("HVALS", "h")
    play.tracked >> integer(-1) + array([bulk("1"), bulk("2")])
    play.client << array([bulk("1"), bulk("2")])
    play.tracked << command("HKEYS", "h")
    play.tracked >> NAMES
    play.tracked << ask("f", "g")
    play.tracked >> array([integer(-1), integer(-1)])
    assert is_hit(play.client, hvals)


@pytest.mark.parametrize(
    ("request_", "reply", "answer"),
    [
        (("HGET", "h", "f"), bulk("1"), array([integer(-2)])),
        (("HMGET", "h", "f", "g"), array([bulk("1"), NULL3]), array([integer(-2), integer(-2)])),
        (("HKEYS", "h"), NAMES, array([integer(-2), integer(-1)])),
        (("HEXISTS", "h", "f"), integer(1), array([integer(-2)])),
        (("HGET", "h", "f"), bulk("1"), b"-NOPERM no\r\n"),
        (("HGET", "h", "f"), bulk("1"), b"-BUSY yes\r\n"),
    ],
)
def test_what_ended_since_the_read_is_not_kept(
    play: Play, request_: tuple[str, ...], reply: bytes, answer: bytes
) -> None:
    play.client >> command(*request_)
    play.tracked << fill(*request_)
    play.tracked >> integer(-1) + reply
    play.client.take()
    play.tracked << ask(*(request_[2:] or ("f", "g")))
    play.tracked >> answer
    assert not is_hit(play.client, command(*request_))
    play.tracked << fill(*request_)
    play.tracked >> integer(-1) + b"-ERR whatever\r\n"
    play.client << b"-ERR whatever\r\n"
    play.tracked << b""


def test_a_value_that_lost_its_field_between_values_and_names_is_not_kept(play: Play) -> None:
    play.client >> command("HVALS", "h")
    play.tracked << fill("HVALS", "h")
    play.tracked >> integer(-1) + array([bulk("1"), bulk("2")])
    play.client.take()
    play.tracked << command("HKEYS", "h")
    play.tracked >> array([bulk("g")])
    play.tracked << b""


def test_an_absent_field_is_kept_until_somebody_writes_it(play: Play) -> None:
    hget = command("HGET", "h", "none")
    play.client >> hget
    play.tracked << fill("HGET", "h", "none")
    play.tracked >> integer(-1) + NULL3
    play.client.take()
    play.tracked << ask("none")
    play.tracked >> array([integer(-2)])
    assert is_hit(play.client, hget)
    play.tracked >> push([bulk("invalidate"), array([bulk("h")])], 3)
    assert not is_hit(play.client, hget)
    play.tracked << fill("HGET", "h", "none")
    play.tracked >> integer(-2) + NULL3
    play.client.take()


def test_a_change_between_the_read_and_the_times_to_live_refuses_the_fill(play: Play) -> None:
    hget = command("HGET", "h", "f")
    play.client >> hget
    play.tracked << fill("HGET", "h", "f")
    play.tracked >> integer(-1) + bulk("1")
    play.client.take()
    play.tracked << ask("f")
    play.tracked >> push([bulk("invalidate"), array([bulk("h")])], 3) + array([integer(-1)])
    assert not is_hit(play.client, hget)
    play.tracked << fill("HGET", "h", "f")
    play.tracked >> integer(-2) + NULL3
    play.client.take()


def test_a_lost_connection_keeps_nothing(play: Play) -> None:
    play.client >> command("HGET", "h", "f")
    play.tracked << fill("HGET", "h", "f")
    play.tracked >> integer(-1) + bulk("1")
    play.client << bulk("1")
    play.tracked << ask("f")
    play.tracked.lose()
    assert play.l1 is not None
    assert len(play.l1.arena) == 0


@pytest.mark.parametrize("read", ["HVALS", "HKEYS"])
def test_what_would_not_be_kept_is_not_asked_for(read: str) -> None:
    """Too long a reply, and names that are too long together: in the way of all others."""
    with Play(fields_expire=True, l1={"max_value_bytes": "4MiB"}) as play:
        client = play.connect(3)
        large = [bulk(b"%d" % number + b"x" * 1024 * 1024) for number in range(5)]
        play.client >> command(read, "h")
        play.tracked << fill(read, "h")
        play.tracked >> integer(-1) + array(large)
        play.client.take()
        play.tracked << b""
        client >> command("HGETALL", "h")
        play.tracked << fill("HGETALL", "h")
        play.tracked >> integer(-1) + b"%1\r\n" + large[0] + bulk("v")
        client.take()
        play.tracked << b""


def test_names_are_not_asked_for_where_they_are_too_many(play: Play) -> None:
    play.client >> command("HVALS", "h")
    play.tracked << fill("HVALS", "h")
    play.tracked >> integer(-1) + array([bulk("v")] * 4097)
    play.client.take()
    play.tracked << b""
