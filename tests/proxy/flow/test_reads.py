"""Reads of mapped keys: fault-in from L3, what is answered when L2 or L3 is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from proxy.flow.mget import split_array
from tests.proxy.mapped_play import DOWN, L3Play
from tests.proxy.session_play import PING, command, fill
from tests.proxy.step_play import ran, step, tripped
from tiers import Kind, Outcome
from tiers.wire.resp import NULL2, NULL3, OK, PONG, array, bulk, integer

ABSENT3 = integer(-2) + NULL3
GONE = "connection closed by the server"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[L3Play]:
    with L3Play(monkeypatch) as play:
        yield play
        assert not play.loads.waiting


TTL_M = command("PTTL", "m:1")
GET_M, HGETALL_H = command("GET", "m:1"), command("HGETALL", "h:1")


def test_a_key_that_l2_has_is_not_asked_in_l3(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> integer(900) + bulk("v")
    play.client << bulk("v")
    assert play.cached("m:1") == bulk("v")
    play.now += 0.9
    assert play.cached("m:1") is None, "kept longer than in Redis"


def test_a_row_is_the_reply_and_is_not_cached_unread(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.client << b""
    play.loads.answer("m:1", b"row")
    play.client << bulk("row")
    assert play.cached("m:1") is None, "it was not read on the tracked connection"
    assert play.terrace.stats.l3.hits == 1


def test_the_absence_of_a_row_is_the_reply_and_is_cached_briefly(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.loads.answer("m:1", None)
    play.client << NULL2
    assert play.cached("m:1") == NULL3
    play.now += 5.0
    assert play.cached("m:1") is None


def test_an_invalidation_during_the_load_refuses_the_absence(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.tracked >> b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nm:1\r\n"
    play.loads.answer("m:1", None)
    play.client << NULL2
    assert play.cached("m:1") is None


def test_a_change_of_the_view_during_the_load_refuses_the_absence(play: L3Play) -> None:
    """L1 does not hold the key yet, so no notice of the change could take it out."""
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.loads.answer("m:1", None, overtaken=True)
    play.client << NULL2
    assert play.cached("m:1") is None


@pytest.mark.parametrize("proto", [2, 3])
def test_hashes_in_both_protocols(play: L3Play, proto: int) -> None:
    client = play.connect(proto)
    client >> HGETALL_H + command("HGET", "h:1", "f") + command("GET", "h:1")
    play.tracked << fill("HGETALL", "h:1") + fill("HGET", "h:1", "f") + fill("GET", "h:1")
    play.tracked >> integer(-2) + b"%0\r\n" + ABSENT3 + ABSENT3
    for _ in range(3):
        play.loads.answer("h:1", {b"f": b"v"})
    head = b"%1\r\n" if proto == 3 else b"*2\r\n"
    client << head + bulk("f") + bulk("v") + bulk("v") + (
        b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    )


def test_replies_keep_their_order_when_loads_do_not(play: L3Play) -> None:
    play.client >> GET_M + command("GET", "m:2")
    play.tracked << fill("GET", "m:1") + fill("GET", "m:2")
    play.tracked >> ABSENT3 * 2
    play.loads.waiting.reverse()
    play.loads.answer("m:2", b"two")
    play.client << b""
    play.loads.answer("m:1", b"one")
    play.client << bulk("one") + bulk("two")


def test_a_write_waits_for_the_loads_before_it(play: L3Play) -> None:
    """Or the earlier read would show the later write."""
    play.client >> GET_M + command("SET", "m:1", "new")
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.tracked << b""
    play.loads.answer("m:1", b"row")
    play.client << bulk("row")
    play.tracked << command("SET", "m:1", "new")
    play.tracked >> OK
    play.client << OK


def test_a_key_that_appeared_in_l2_is_asked_there_again(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.loads.answer("m:1", Outcome(Kind.MISS, tier="L3"))
    play.tracked << step(TTL_M, GET_M, stand=["m:1"])
    play.tracked >> ran(integer(100), bulk("set meanwhile"))
    play.client << bulk("set meanwhile")
    assert play.cached("m:1") == bulk("set meanwhile")


@pytest.mark.parametrize(
    ("words", "reply"),
    [(("gEt", "m:1"), bulk("v")), (("hgetall", "h:1"), array([bulk("f"), bulk("v")]))],
)
def test_it_is_asked_again_as_the_client_wrote_it(
    play: L3Play, words: tuple[str, str], reply: bytes
) -> None:
    asked, (_, key) = command(*words), words
    play.client >> asked
    play.tracked << command("PTTL", key) + asked
    play.tracked >> ABSENT3
    play.loads.answer(key, Outcome(Kind.MISS, tier="L3"))
    play.tracked << step(command("PTTL", key), asked, stand=[key])
    play.tracked >> ran(integer(100), reply)
    play.client << reply


@pytest.mark.parametrize("words", [("GET", "m:1"), ("MGET", "m:1")])
def test_it_is_asked_again_in_the_database_of_the_request(
    play: L3Play, words: tuple[str, ...]
) -> None:
    play.client >> command(*words) + command("SELECT", 3)
    play.tracked << fill(*words)
    is_get = words[0] == "GET"
    play.tracked >> integer(-2) + (NULL3 if is_get else b"*1\r\n_\r\n")
    play.loads.answer("m:1", Outcome(Kind.MISS, tier="L3"))
    if is_get:
        play.tracked << step(TTL_M, GET_M, stand=["m:1"])
        play.tracked >> ran(integer(-1), bulk("v"))
    else:
        play.plain2 << step(command(*words), stand=["m:1"])
        play.plain2 >> ran(array([bulk("v")]))
    play.scout << command("SELECT", 3)
    play.scout >> OK
    play.client << (bulk("v") if is_get else array([bulk("v")])) + OK


async def test_a_key_that_comes_and_goes_is_given_its_row(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> ABSENT3
    play.loads.answer("m:1", Outcome(Kind.MISS, tier="L3"))
    play.tracked << step(TTL_M, GET_M, stand=["m:1"])
    play.tracked >> tripped(2, 3)
    row = await play.show("m:1", b"row")
    play.tracked << step(TTL_M, GET_M, rows=[row])
    play.tracked >> ran(integer(100), bulk("row"), stand=False, filled=1)
    play.client << bulk("row")
    assert play.terrace.stats.rows_brought == 1


def test_commands_that_rows_do_not_answer_are_asked_again(play: L3Play) -> None:
    words = ("GETRANGE", "m:1", 0, 3)
    play.client >> command(*words)
    play.tracked << fill(*words)
    play.tracked >> integer(-2) + bulk("")
    play.loads.answer("m:1", b"row text")
    play.tracked << step(TTL_M, command(*words), stand=["m:1"])
    play.tracked >> ran(integer(100), bulk("row "))
    play.client << bulk("row ")


NOTHING = [
    ("GET m:1", NULL3), ("STRLEN m:1", b":0\r\n"), ("GETRANGE m:1 0 1", b"$0\r\n\r\n"),
    ("EXISTS m:1", b":0\r\n"), ("TYPE m:1", b"+none\r\n"), ("BITPOS m:1 1", b":-1\r\n"),
    ("HGETALL h:1", b"%0\r\n"), ("HKEYS h:1", b"*0\r\n"), ("HMGET h:1 a b", b"*2\r\n_\r\n_\r\n"),
    ("SMISMEMBER h:1 a b", b"*2\r\n:0\r\n:0\r\n"), ("SMEMBERS h:1", b"~0\r\n"),
    ("GEOPOS h:1 a", b"*1\r\n*-1\r\n"), ("GEOPOS h:1 b", b"*1\r\n_\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "nothing"), NOTHING)
async def test_what_may_have_left_between_pttl_and_the_read_is_asked_again(
    play: L3Play, line: str, nothing: bytes
) -> None:
    client, words = play.connect(3), line.split()
    client >> command(*words)
    play.tracked << fill(*words)
    play.tracked >> integer(1) + nothing
    client << b""
    play.tracked << step(command("PTTL", words[1]), command(*words), stand=[words[1]])
    play.tracked >> tripped(2, 3)
    row = await play.show(words[1], b"row")
    play.tracked << step(command("PTTL", words[1]), command(*words), rows=[row])
    play.tracked >> ran(integer(100), bulk("the row's"), stand=False, filled=1)
    client << bulk("the row's")
    client >> command(*words)
    client << bulk("the row's")


@pytest.mark.parametrize(
    ("line", "something"),
    [
        ("GET m:1", b"$1\r\n0\r\n"), ("STRLEN m:1", b":10\r\n"), ("STRLEN m:1", b":1\r\n"),
        ("HMGET h:1 a b", b"*2\r\n_\r\n$1\r\nb\r\n"),
        ("HKEYS h:1", b"*10\r\n" + b"$1\r\nb\r\n" * 10),
        ("HMGET h:1 a b", b"*2\r\n$1\r\nb\r\n_\r\n"), ("TYPE m:1", b"+hash\r\n"),
        ("BITPOS m:1 1", b":11\r\n"), ("GET h:1", b"-WRONGTYPE x\r\n"),
        ("HGETALL h:1", b"%1\r\n+a\r\n+b\r\n"),
        ("ZSCORE m:1 a", b",0\r\n"), ("HMGET h:1 a", b"*1\r\n$0\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_only_a_key_can_answer_is_the_answer(
    play: L3Play, line: str, something: bytes
) -> None:
    client, words = play.connect(3), line.split()
    client >> command(*words)
    play.tracked << fill(*words)
    play.tracked >> integer(1) + something
    client << something


def test_a_field_that_the_row_has_not_is_cached(play: L3Play) -> None:
    client, words = play.connect(3), ("HGET", "h:1", "none")
    client >> command(*words)
    play.tracked << fill(*words)
    play.tracked >> integer(100) + NULL3
    play.tracked << step(command("PTTL", "h:1"), command(*words), stand=["h:1"])
    play.tracked >> ran(integer(100), NULL3)
    client << NULL3
    client >> command(*words)
    client << NULL3
    play.terrace.lane.fold()
    assert play.terrace.stats.l2.hits == 1


# Failures


def test_l3_down_is_an_error_that_names_it(play: L3Play) -> None:
    play.client >> GET_M + command("GET", "unmapped")
    play.tracked << fill("GET", "m:1") + fill("GET", "unmapped")
    play.tracked >> ABSENT3 + ABSENT3
    play.loads.answer("m:1", DOWN)
    play.client << errors.load_failed("connection refused") + NULL2
    assert play.cached("m:1") is None


def test_l3_down_is_a_nil_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with L3Play(monkeypatch, on_error="nil") as play:
        play.client >> GET_M + HGETALL_H
        play.tracked << fill("GET", "m:1") + fill("HGETALL", "h:1")
        play.tracked >> ABSENT3 + integer(-2) + b"%0\r\n"
        play.loads.answer("m:1", DOWN)
        play.loads.answer("h:1", DOWN)
        play.client << NULL2 + b"*0\r\n"
        assert play.cached("m:1") is None


def test_l2_down_is_answered_from_l3(play: L3Play) -> None:
    play.tracked.lose()
    play.plain2.lose()
    play.client >> GET_M + command("GET", "unmapped")
    play.loads.answer("m:1", b"row")
    play.client << bulk("row") + errors.read_failed(GONE)


def test_l2_lost_between_the_replies_is_answered_from_l3(play: L3Play) -> None:
    play.client >> GET_M
    play.tracked << fill("GET", "m:1")
    play.tracked >> integer(-2)
    play.tracked.lose()
    play.loads.answer("m:1", b"row")
    play.client << bulk("row")


def test_a_stalled_l2_is_waited_for_behind_ones_own_script(play: L3Play) -> None:
    """What L1 holds may be just what the script changes."""
    script = command("EVAL", "...", 0)
    play.client >> script
    play.scripts2 << script
    play.cache("m:1", bulk("old"))
    play.terrace.stack.l2.stalled = True
    play.client >> GET_M
    play.scripts2 << fill("GET", "m:1")
    play.scripts2 >> OK + integer(-1) + bulk("new")
    play.tracked << PING
    play.client << b""
    play.tracked >> PONG
    play.client << OK + bulk("new")


def test_both_down(play: L3Play) -> None:
    play.tracked.lose()
    play.plain2.lose()
    play.client >> GET_M
    play.loads.answer("m:1", DOWN)
    play.client << errors.load_failed("connection refused")


# MGET


def test_mget_loads_what_l2_lacks(play: L3Play) -> None:
    mget = command("MGET", "m:1", "plain", "m:2", "m:3")
    play.client >> mget
    ttls = b"".join(command("PTTL", key) for key in ("m:1", "plain", "m:2", "m:3"))
    play.tracked << ttls + mget
    play.tracked >> integer(-2) + integer(-2) + integer(50) + integer(-2)
    play.tracked >> b"*4\r\n" + NULL3 * 2 + bulk("two") + NULL3
    play.loads.answer("m:1", b"row")
    play.client << b""
    play.loads.answer("m:3", None)
    play.client << b"*4\r\n" + bulk("row") + NULL2 + bulk("two") + NULL2
    assert play.cached("m:2") == bulk("two")
    assert play.cached("plain") == NULL3
    assert play.cached("m:1") is None


def test_one_failed_element_fails_the_whole_mget(play: L3Play) -> None:
    mget = command("MGET", "m:1", "m:2")
    play.client >> mget
    play.tracked << command("PTTL", "m:1") + command("PTTL", "m:2") + mget
    play.tracked >> integer(-2) * 2 + b"*2\r\n" + NULL3 * 2
    play.loads.answer("m:1", DOWN)
    play.loads.answer("m:2", b"row")
    play.client << errors.load_failed("connection refused")


async def test_mget_of_a_key_that_appeared_is_asked_again(play: L3Play) -> None:
    mget = command("MGET", "m:1", "m:2", "m:3")
    play.client >> mget
    play.tracked << b"".join(command("PTTL", f"m:{i}") for i in (1, 2, 3)) + mget
    play.tracked >> integer(-2) + integer(-2) + integer(5) + b"*3\r\n" + NULL3 * 3
    play.loads.answer("m:1", Outcome(Kind.MISS, tier="L3"))
    play.loads.answer("m:2", b"row")
    play.loads.answer("m:3", Outcome(Kind.MISS, tier="L3"))
    again = command("MGET", "m:1", "m:3")
    play.plain2 << step(again, stand=["m:1", "m:3"])
    play.plain2 >> tripped(1)
    await play.settle()
    rows = [play.row("m:1", b"one"), play.row("m:3", b"three")]
    play.loads.show("m:1 m:3", rows)
    await play.settle()
    play.plain2 << step(again, rows=rows)
    play.plain2 >> ran(array([bulk("x"), bulk("three")]), stand=False, filled=1)
    play.client << array([bulk("x"), bulk("row"), bulk("three")])


def test_a_nil_of_mget_is_loaded_whatever_pttl_said(play: L3Play) -> None:
    mget = command("MGET", "m:1", "m:2")
    play.client >> mget
    play.tracked << command("PTTL", "m:1") + command("PTTL", "m:2") + mget
    play.tracked >> integer(1) + integer(-2) + array([NULL3, bulk("set meanwhile")])
    play.loads.answer("m:1", b"row")
    play.client << array([bulk("row"), bulk("set meanwhile")])


@pytest.mark.parametrize("words", [("GET", "m:1"), ("GET", "k"), ("MGET", "k", "m:1")])
def test_nothing_is_cached_whose_pttl_was_refused(play: L3Play, words: tuple[str, ...]) -> None:
    """Its life in Redis is not known; an entry would have outlived it by far."""
    play.client >> command(*words)
    play.tracked << b"".join(command("PTTL", key) for key in words[1:]) + command(*words)
    values = bulk("v") if words[0] == "GET" else array([bulk("v"), bulk("v")])
    play.tracked >> b"-NOPERM no\r\n" * (len(words) - 1) + values
    play.client << values
    assert [play.cached(key) for key in words[1:]] == [None] * (len(words) - 1)


def test_mget_without_l2(play: L3Play) -> None:
    play.cache("plain", bulk("cached"))
    play.tracked.lose()
    play.plain2.lose()
    play.client >> command("MGET", "m:1", "plain", "m:2")
    play.loads.answer("m:1", b"one")
    play.loads.answer("m:2", None)
    play.client << b"*3\r\n" + bulk("one") + bulk("cached") + NULL2
    play.client >> command("MGET", "m:1", "other")
    play.client << errors.read_failed(GONE)


# Deletes


def test_a_tombstone_goes_before_the_delete(play: L3Play) -> None:
    delete = command("DEL", "t:1", "m:1")
    play.client >> delete
    play.tracked << command("SET", "__terrace:tombstone:t:1", 1, "PX", 10_000) + delete
    play.tracked >> OK + integer(1)
    play.client << integer(1)


@pytest.mark.parametrize(
    "elements",
    [[], [NULL2], [NULL3, NULL2], [bulk(""), bulk(b"\r\n$-1\r\n"), NULL3, bulk("x" * 5000)]],
)
def test_arrays_are_split_into_their_elements(elements: list[bytes]) -> None:
    assert split_array(b"*%d\r\n%b" % (len(elements), b"".join(elements))) == elements


@pytest.mark.parametrize("element", [b":1\r\n", b"*1\r\n+a\r\n", b"|1\r\n+a\r\n:1\r\n$1\r\nx\r\n"])
def test_an_array_of_anything_else_is_not_split(element: bytes) -> None:
    with pytest.raises(ValueError, match="bulk"):
        split_array(b"*1\r\n" + element)
