"""The session: reply order, the order of effects, L1, protocol versions, protocol errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy import errors
from proxy.client.answers import INVALID_NAME
from tests.proxy.session_play import PING, Play, command, fill
from tests.tiers.splits import every_split
from tiers.wire.resp import NULL2, NULL3, OK, PONG, bulk, error, integer

GET_K = command("GET", "k")
SET_K = command("SET", "k", "new")
FILLED = integer(-1) + bulk("v")
PUSH_K = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# Reads


def test_a_read_fills_l1_and_the_next_is_a_hit(play: Play) -> None:
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> FILLED
    play.client << bulk("v")
    play.client >> GET_K + command("get", "k") + command("GeT", "k")
    play.client << bulk("v") * 3
    assert play.terrace.stats.l1.hits == 3


def test_nil_is_cached_once_for_both_protocols(play: Play) -> None:
    resp3 = play.connect(proto=3)
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-2) + NULL3
    play.client << NULL2
    resp3 >> GET_K
    resp3 << NULL3
    play.client >> GET_K
    play.client << NULL2


def test_a_push_between_the_replies_refuses_the_fill(play: Play) -> None:
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1)
    play.tracked >> PUSH_K + bulk("v")
    play.client << bulk("v")
    assert play.cached("k") is None


def test_an_invalidation_ends_the_hits(play: Play) -> None:
    play.cache("k", bulk("v"))
    play.tracked >> PUSH_K
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> FILLED
    play.client << bulk("v")


def test_a_push_alone_does_not_move_the_watermark(play: Play) -> None:
    play.cache("other", bulk("v"))
    play.tracked >> PUSH_K
    play.client >> command("GET", "other")
    play.client << bulk("v")


def test_a_late_watermark_closes_l1_and_pings(play: Play) -> None:
    play.cache("k", bulk("v"))
    play.now += 0.03
    play.client >> GET_K
    play.client << bulk("v")
    play.tracked << PING
    play.now += 0.03
    play.client >> GET_K
    play.tracked << PING + fill("GET", "k")
    play.tracked >> PONG + PONG + FILLED
    play.client << bulk("v")


def test_errors_are_passed_on_and_not_cached(play: Play) -> None:
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    play.client >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + wrong
    play.client << wrong
    assert play.cached("k") is None


@pytest.mark.parametrize("request_bytes", [command("GET"), command("EXISTS", "a", "b")])
def test_what_is_not_cacheable_is_asked_plainly(play: Play, request_bytes: bytes) -> None:
    play.client >> request_bytes
    play.plain2 << request_bytes
    play.plain2 >> b"-ERR or not\r\n"
    play.client << b"-ERR or not\r\n"


def test_other_reads_are_cached_per_protocol(play: Play) -> None:
    resp3 = play.connect(proto=3)
    hgetall = command("HGETALL", "h")
    map3, flat2 = b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n", b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
    for client, reply in ((play.client, flat2), (resp3, map3)):
        client >> hgetall
        play.tracked << fill("HGETALL", "h")
        play.tracked >> integer(-1) + map3
        client << reply
        client >> hgetall
        client << reply


def test_mget_is_answered_from_l1_only_as_a_whole(play: Play) -> None:
    mget = command("MGET", "a", "b")
    play.cache("a", bulk("1"))
    play.client >> mget
    play.tracked << command("PTTL", "b") + mget
    play.tracked >> integer(-2) + b"*2\r\n" + bulk("1") + NULL3
    play.client << b"*2\r\n" + bulk("1") + NULL2
    play.client >> mget
    play.client << b"*2\r\n" + bulk("1") + NULL2


def test_databases_are_apart_in_l1(play: Play) -> None:
    play.cache("k", bulk("zero"))
    play.client >> command("SELECT", 3) + GET_K
    play.scout << command("SELECT", 3)
    play.scout >> OK
    play.tracked << command("SELECT", 3) + fill("GET", "k")
    play.tracked >> OK + integer(-1) + bulk("three")
    play.client << OK + bulk("three")
    play.client >> GET_K + command("SELECT", 0) + GET_K
    play.scout << command("SELECT", 0)
    play.scout >> OK
    play.client << bulk("three") + OK + bulk("zero")


# Order


def test_replies_leave_in_the_order_of_the_requests(play: Play) -> None:
    play.cache("hit", bulk("h"))
    play.client >> GET_K + command("PING") + command("GET", "hit") + command("ECHO", "e")
    play.client << b""
    play.tracked << fill("GET", "k")
    play.tracked >> FILLED
    play.client << bulk("v") + PONG + bulk("h") + bulk("e")


def test_clients_do_not_wait_for_each_other(play: Play) -> None:
    other = play.connect()
    play.client >> command("LRANGE", "l", 0, -1)
    other >> command("TIME")
    play.plain2 << command("TIME")
    play.plain2 >> b"*0\r\n"
    other << b"*0\r\n"
    play.tracked << fill("LRANGE", "l", 0, -1)
    play.tracked >> integer(-1) + b"*0\r\n"
    play.client << b"*0\r\n"


def test_a_pipelined_get_sees_the_set_before_it(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K + GET_K
    play.tracked << SET_K + fill("GET", "k")
    play.tracked >> OK
    play.client << OK
    play.tracked >> FILLED
    play.client << bulk("v")


def test_nobody_hits_or_fills_while_a_write_is_in_flight(play: Play) -> None:
    reader = play.connect()
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    assert play.writes_in_flight == 1
    reader >> GET_K
    play.tracked << fill("GET", "k")
    play.tracked >> OK + PUSH_K + integer(-1) + bulk("new")
    play.client << OK
    reader << bulk("new")
    assert play.cached("k") is None, "its token was taken during the write"


def test_a_write_ends_before_its_reply_is_released(play: Play) -> None:
    play.client >> command("LRANGE", "l", 0, -1) + SET_K
    play.tracked << fill("LRANGE", "l", 0, -1) + SET_K
    play.tracked >> integer(-1) + b"*0\r\n" + OK
    assert play.writes_in_flight == 0
    play.client << b"*0\r\n" + OK


def test_what_follows_on_the_tracked_connection_stays_there(play: Play) -> None:
    """A command of another kind must not overtake, so it takes the same connection."""
    play.client >> SET_K + command("TTL", "k")
    play.tracked << SET_K + command("TTL", "k")
    play.tracked >> OK + integer(-1)
    play.client << OK + integer(-1)


def test_what_cannot_be_rewritten_is_held_until_its_own_connection_may_be_used(play: Play) -> None:
    play.client >> SET_K + command("OBJECT", "FREQ", "k") + command("PING")
    play.tracked << SET_K
    play.plain2 << b""
    play.tracked >> OK
    play.client << OK
    play.plain2 << command("OBJECT", "FREQ", "k")
    play.plain2 >> integer(1)
    play.client << integer(1) + PONG


async def test_what_arrives_between_a_task_and_its_backlog_does_not_overtake(play: Play) -> None:
    session = play.client.session
    play.client >> command("INFO", "tiers") + command("ECHO", "first")
    for _ in range(10):
        await asyncio.sleep(0)  # the task ends; nobody proceeds as yet
    assert not session.blocked
    session.feed(command("ECHO", "second"))
    assert play.client.take().endswith(bulk("first") + bulk("second"))


def test_a_push_that_nobody_asked_for_is_nobodys_reply(play: Play) -> None:
    """On a shared connection it would shift every reply behind it to the wrong client."""
    client, other = play.connect(proto=3), play.connect(proto=3)
    client >> command("TIME")
    other >> command("LASTSAVE")
    play.plain3 << command("TIME") + command("LASTSAVE")
    play.plain3 >> PUSH_K + b"*0\r\n" + PUSH_K + integer(7)
    client << b"*0\r\n"
    other << integer(7)


def test_every_split_of_a_pipeline_gives_the_same_dialogue() -> None:
    pipeline = SET_K + GET_K + command("PING")
    for chunks in every_split(pipeline):
        with Play() as play:
            for chunk in chunks:
                play.client >> chunk
            play.tracked << SET_K + fill("GET", "k")
            play.tracked >> OK + FILLED
            play.client << OK + bulk("v") + PONG


# Protocol versions


def test_resp3_replies_are_rewritten_for_resp2_clients(play: Play) -> None:
    scores3 = b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"
    play.client >> command("ZRANGE", "z", 0, -1, "WITHSCORES")
    play.tracked << fill("ZRANGE", "z", 0, -1, "WITHSCORES")
    play.tracked >> integer(-1) + scores3
    play.client << b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n"
    play.client >> command("INCRBYFLOAT", "n", "1.5")
    play.tracked << command("INCRBYFLOAT", "n", "1.5")
    play.tracked >> b",1.5\r\n"
    play.client << bulk("1.5")


def test_a_resp3_client_gets_what_redis_sent(play: Play) -> None:
    client = play.connect(proto=3)
    client >> command("TIME")
    play.plain3 << command("TIME")
    play.plain3 >> b"%1\r\n+a\r\n#t\r\n"
    client << b"%1\r\n+a\r\n#t\r\n"


def test_hello_changes_the_protocol_between_two_requests(play: Play) -> None:
    play.cache("k", NULL3)
    play.client >> GET_K + command("HELLO", 3) + GET_K + command("HELLO", 2) + GET_K
    received = play.client.take()
    assert received.startswith(NULL2 + b"%7\r\n$6\r\nserver\r\n")
    assert NULL3 + b"*14\r\n" in received
    assert received.endswith(NULL2)


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["HELLO", "4"], errors.NOPROTO),
        (["HELLO", "x"], b"-ERR Protocol version is not an integer or out of range\r\n"),
        (["HELLO", "3", "AUTH", "x", "y"], errors.WRONGPASS),
        (["HELLO", "3", "WHAT"], b"-ERR Syntax error in HELLO option 'WHAT'\r\n"),
        (["HELLO", "3", "SETNAME", "a b"], INVALID_NAME),
        (
            ["AUTH", "p"],
            error(
                "ERR AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            ),
        ),
        (["AUTH", "a", "b", "c"], errors.SYNTAX),
        (["SELECT", "x"], errors.NOT_INTEGER),
        (["PING", "a", "b"], b"-ERR wrong number of arguments for 'ping' command\r\n"),
        (["ECHO"], b"-ERR wrong number of arguments for 'echo' command\r\n"),
        (["CLIENT", "NOPE"], b"-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n"),
        (["CLIENT", "REPLY", "MAYBE"], errors.SYNTAX),
        (["SYNC"], errors.REPLICATION_REFUSED),
        (["PSYNC", "?", "-1"], errors.REPLICATION_REFUSED),
        (["EXEC"], b"-ERR EXEC without MULTI\r\n"),
        (["DISCARD"], b"-ERR DISCARD without MULTI\r\n"),
        (["UNWATCH"], OK),
        (
            ["TIER.WARM", "x"],
            error("ERR terrace: L3 (postgres) is not configured; set l3.dsn and [[l3.view]]"),
        ),
        (["TIER.EXPLAIN"], b"-ERR wrong number of arguments for 'tier.explain' command\r\n"),
        (
            ["TIER.EXPLAIN", "k" * 65537],
            error("ERR terrace: TIER.EXPLAIN takes keys of at most 65536 bytes"),
        ),
        (["TIER.INVALIDATE", "KEYS"], errors.wrong_arity("tier.invalidate")),
        (["TIER.INVALIDATE", "a", "b"], errors.SYNTAX),
    ],
)
def test_what_terrace_answers_itself(play: Play, words: list[str], reply: bytes) -> None:
    play.client >> command(*words)
    play.client << reply
    assert play.client.session.proto == 2, "a refused HELLO changes nothing"


# Protocol errors


@pytest.mark.parametrize(
    ("garbage", "text"),
    [
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"GET 'k\r\n", "unbalanced quotes in request"),
        (b"a" * 70_000, "too big inline request"),
    ],
)
def test_a_protocol_error_comes_after_the_good_commands_and_closes(
    play: Play, garbage: bytes, text: str
) -> None:
    play.client >> GET_K + command("PING") + garbage
    play.tracked << fill("GET", "k")
    play.client >> command("PING")  # not heard any more
    play.tracked >> FILLED
    play.client << bulk("v") + PONG + errors.protocol_error(text)
    assert play.client.is_closed
    assert play.terrace.stats.protocol_errors == 1


def test_a_client_with_a_protocol_error_stays_until_its_replies_are_out(play: Play) -> None:
    play.client >> GET_K + b"*x\r\n"
    play.tracked << fill("GET", "k")
    assert not play.client.is_closed
    play.tracked >> FILLED
    play.client << bulk("v") + errors.protocol_error("invalid multibulk length")


def test_a_client_over_its_query_buffer_is_closed_without_a_word() -> None:
    with Play(limits={"query_buffer_bytes": 1024**2}) as play:
        play.client >> b"*2\r\n$3\r\nGET\r\n$2000000\r\n" + b"x" * 1_100_000
        play.client << b""
        assert play.client.is_closed


@pytest.mark.parametrize("first", ["POST", "Host:"])
def test_an_http_request_is_not_a_sequence_of_commands(play: Play, first: str) -> None:
    play.client >> f"{first} /x HTTP/1.1\r\nSET k v\r\n".encode()
    play.client << b""
    assert play.client.is_closed


def test_quit_answers_and_closes_and_nothing_after_it_runs(play: Play) -> None:
    play.client >> GET_K + command("QUIT") + SET_K
    play.tracked << fill("GET", "k")
    play.tracked >> FILLED
    play.client << bulk("v") + OK
    assert play.client.is_closed


# Before authentication


def test_before_authentication_only_a_few_commands_are_heard() -> None:
    with Play(listen={"password": "secret"}) as play:
        play.client >> GET_K + command("PING") + command("TIER.STATS")
        play.client << errors.NOAUTH * 3
        play.client >> command("HELLO", 3)
        assert play.client.take().startswith(b"-NOAUTH HELLO must be called")
        play.client >> command("HELLO", 3, "AUTH", "default", "secret", "x") + GET_K
        play.client << b"-ERR Syntax error in HELLO option 'x'\r\n" + errors.NOAUTH
        play.client >> command("AUTH", "wrong") + command("AUTH", "nobody", "secret")
        play.client << errors.WRONGPASS * 2
        play.client >> command("AUTH", "secret") + command("PING")
        play.client << OK + PONG
        play.client >> command("RESET") + command("PING")
        play.client << b"+RESET\r\n" + errors.NOAUTH


def test_before_authentication_requests_are_small() -> None:
    for request, complaint in (
        (command("MGET", *range(10)), "unauthenticated multibulk length"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "unauthenticated bulk length"),
    ):
        with Play(listen={"password": "secret"}) as play:
            play.client >> request
            play.client << errors.protocol_error(complaint)
            assert play.client.is_closed


def test_a_login_in_the_same_write_counts_for_what_follows() -> None:
    with Play(listen={"password": "secret"}) as play:
        play.client >> command("AUTH", "secret") + GET_K
        play.tracked << fill("GET", "k")
        play.tracked >> FILLED
        play.client << OK + bulk("v")
