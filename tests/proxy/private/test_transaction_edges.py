"""Transactions that something goes wrong with, and what Terrace itself says within them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import errors
from tests.proxy.mapped_play import DOWN, L3Play
from tests.proxy.private_play import given_back
from tests.proxy.session_play import Client, Peer, Play, command
from tiers.wire.resp import NULL2, NULL3, OK, PONG, QUEUED, bulk, integer

MULTI, EXEC, PING, RESET = (command(word) for word in ("MULTI", "EXEC", "PING", "RESET"))
DISCARD, UNWATCH = command("DISCARD"), command("UNWATCH")
WATCH_K, GET_K, SET_K = command("WATCH", "k"), command("GET", "k"), command("SET", "k", "v")
NESTED = b"-ERR MULTI calls can not be nested\r\n"
DOOMED = errors.PRIVATE_LOST + errors.EXEC_LOST


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def exchange(
    client: Client, private: Peer, sent: bytes, reply: bytes, forwarded: bytes | None = None
) -> None:
    """The client sends, Redis gets that (or `forwarded`), and both hear the same reply."""
    client >> sent
    private << (sent if forwarded is None else forwarded)
    private >> reply
    client << reply


# A watch that is not there


async def test_a_watch_refused_because_l3_is_down_dooms_the_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with L3Play(monkeypatch) as play:
        play.client >> command("WATCH", "m:1")
        await play.fault_in("m:1", DOWN)
        play.client << errors.load_failed("connection refused")
        play.client >> MULTI + SET_K + EXEC + PING
        play.client << OK + DOOMED + PONG


async def test_a_watch_refused_on_a_connection_that_watches_already_dooms_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with L3Play(monkeypatch) as play:
        private = play.private()
        exchange(play.client, private, WATCH_K, OK)
        play.client >> command("WATCH", "m:1")
        await play.fault_in("m:1", DOWN)
        play.client << errors.load_failed("connection refused")
        play.client >> MULTI + SET_K + EXEC + PING
        given_back(play, private)
        play.client << OK + DOOMED + PONG


async def test_a_failed_watch_is_remembered_across_private_connections() -> None:
    """Whatever else needs one in between: until EXEC, DISCARD or UNWATCH."""
    with Play() as play:
        play.client >> WATCH_K
        await play.settle()
        assert play.client.take().startswith(b"-ERR terrace: L2 (redis) is unavailable")
        private = play.private()
        play.client >> command("BLPOP", "l", 1)
        private << command("BLPOP", "l", 1)
        private >> b"*-1\r\n"
        play.tracked << PING
        play.tracked >> PONG
        play.client << b"*-1\r\n"
        given_back(play, private)
        play.client >> MULTI + SET_K + EXEC
        play.client << OK + DOOMED
        exchange(play.client, private, MULTI + EXEC, OK + b"*0\r\n")
        given_back(play, private)


async def test_unwatch_forgets_a_failed_watch() -> None:
    with Play() as play:
        play.client >> WATCH_K
        await play.settle()
        play.client.take()
        private = play.private()
        play.client >> UNWATCH
        play.client << OK
        exchange(play.client, private, MULTI + EXEC, OK + b"*0\r\n")
        given_back(play, private)


def test_a_watch_lost_with_its_connection_dooms_the_transaction(play: Play) -> None:
    private = play.private()
    exchange(play.client, private, WATCH_K, OK)
    private.lose()
    play.private()
    play.client >> MULTI + SET_K + EXEC
    play.client << OK + DOOMED


def test_unwatch_inside_a_doomed_transaction_does_not_end_it(play: Play) -> None:
    private = play.private()
    exchange(play.client, private, MULTI, OK)
    private.lose()
    play.client >> UNWATCH + SET_K + EXEC + PING
    play.client << errors.PRIVATE_LOST * 2 + errors.EXEC_LOST + PONG


async def test_a_subscriber_cannot_be_doomed_and_is_closed() -> None:
    with Play() as play:
        client = play.connect(3)
        client >> WATCH_K
        await play.settle()
        client.take()
        private = play.private(3)
        confirmed = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
        client >> command("SUBSCRIBE", "c")
        private << command("SUBSCRIBE", "c")
        private >> confirmed
        client << confirmed
        client >> MULTI
        assert client.closed is not None
        client.leave()


# EXEC refused


def test_exec_refused_by_rules_ends_a_transaction_whose_connection_is_lost(
    tmp_path: Path,
) -> None:
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass +@all -exec ~* &*\n")
    with Play(acl={"source": "file", "file": str(users)}) as play:
        private = play.private()
        exchange(play.client, private, MULTI, OK)
        private.lose()
        play.client >> EXEC
        assert play.client.take().startswith(b"-EXECABORT Transaction discarded because of: NOPERM")
        play.tick()
        assert play.client.session.private is None
        play.client >> SET_K
        play.tracked << SET_K
        play.tracked >> OK
        play.client << OK


def test_exec_refused_on_a_connection_that_is_lost_meanwhile(tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass +@all -exec ~* &*\n")
    with Play(acl={"source": "file", "file": str(users)}) as play:
        private = play.private()
        exchange(play.client, private, MULTI, OK)
        play.client >> EXEC
        private << DISCARD
        private.lose()
        assert play.client.take().startswith(b"-EXECABORT Transaction discarded because of: NOPERM")
        play.client >> PING
        play.client << PONG


# SELECT


@pytest.mark.parametrize(
    ("before", "reply", "results"),
    [
        (MULTI, NESTED, b""),
        (command("WATCH", "x"), b"-ERR WATCH inside MULTI is not allowed\r\n", b""),
        (command("MONITOR"), QUEUED, b"-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n"),
        (UNWATCH, QUEUED, OK),
    ],
)
def test_a_select_counts_where_redis_queued_it(
    play: Play, before: bytes, reply: bytes, results: bytes
) -> None:
    private = play.private()
    play.cache("k", bulk("of database 0"))
    select = command("SELECT", 1)
    exchange(play.client, private, MULTI + before + select, OK + reply + QUEUED)
    play.client >> EXEC
    private << EXEC
    executed = b"*%d\r\n%b" % (1 + bool(results), results + OK)
    private >> executed
    play.tracked << PING  # for all Terrace knows it may write
    play.tracked >> PONG
    play.client << executed
    given_back(play, private)
    play.client >> GET_K
    play.tracked << command("SELECT", 1) + command("PTTL", "k") + GET_K
    play.tracked >> OK + integer(-2) + b"_\r\n"
    play.client << NULL2


# Commands about the client itself


@pytest.mark.parametrize("proto", [2, 3])
def test_what_is_about_the_client_is_answered_by_terrace(play: Play, proto: int) -> None:
    private, client = play.private(proto), play.connect(proto)
    lines = [("SETNAME", "me"), ("GETNAME",), ("ID",), ("SETINFO", "LIB-NAME", "lib")]
    lines += [("NO-EVICT", "on"), ("NO-TOUCH", "maybe")]
    own = b"".join(command("CLIENT", *line) for line in lines)
    client >> MULTI + SET_K + own + GET_K
    private << MULTI + SET_K + PING * len(lines) + GET_K
    private >> OK + QUEUED * 8
    client << OK + QUEUED * 8
    assert client.session.name == b"", "nothing has run so far"
    client >> EXEC
    private << EXEC
    nested = b"*1\r\n*1\r\n" + bulk("not a list of results")
    private >> b"*8\r\n" + OK + PONG * len(lines) + nested
    ident = integer(client.session.ident)
    mine = OK + bulk("me") + ident + OK + OK + errors.SYNTAX
    client << b"*8\r\n" + OK + mine + nested
    assert (client.session.name, client.session.lib_name) == (b"me", b"lib")
    given_back(play, private)


def test_client_list_and_kill_in_a_transaction_are_about_clients_of_terrace(play: Play) -> None:
    private, other = play.private(), play.connect()
    kill = command("CLIENT", "KILL", "ID", other.session.ident)
    listing = command("CLIENT", "LIST", "ID", play.client.session.ident)
    exchange(play.client, private, MULTI + listing + kill, OK + QUEUED * 2, MULTI + PING * 2)
    assert other.closed is None
    play.client >> EXEC
    private << EXEC
    private >> b"*2\r\n" + PONG * 2
    received = play.client.take()
    assert b"id=%d addr=" % play.client.session.ident in received
    assert received.endswith(integer(1))
    assert other.closed == "CLIENT KILL"
    given_back(play, private)


def test_a_discarded_transaction_changes_no_name(play: Play) -> None:
    private = play.private()
    line = command("CLIENT", "SETNAME", "me")
    exchange(play.client, private, MULTI + line + DISCARD, OK + QUEUED + OK, MULTI + PING + DISCARD)
    assert play.client.session.name == b""
    given_back(play, private)


@pytest.mark.parametrize("reply", [b"*-1\r\n", b"-EXECABORT Transaction discarded\r\n"])
def test_a_transaction_that_did_not_run_changes_no_name(play: Play, reply: bytes) -> None:
    private = play.private()
    line = command("CLIENT", "SETNAME", "me")
    exchange(play.client, private, MULTI + line + EXEC, OK + QUEUED + reply, MULTI + PING + EXEC)
    assert play.client.session.name == b""
    given_back(play, private)


@pytest.mark.parametrize("line", [("CLIENT",), ("CLIENT", "NOPE"), ("CLIENT", "SETNAME")])
def test_malformed_commands_are_refused_by_redis_itself(play: Play, line: tuple[str, ...]) -> None:
    private = play.private()
    refused = b"-ERR wrong number of arguments\r\n"
    exchange(play.client, private, MULTI + command(*line), OK + refused)
    play.client >> EXEC
    private << EXEC
    private >> errors.EXEC_ABORTED
    play.client << errors.EXEC_ABORTED
    given_back(play, private)


@pytest.mark.parametrize("line", ["REPLY OFF", "TRACKING ON", "UNBLOCK 1"])
def test_what_cannot_be_part_of_a_transaction_aborts_it(play: Play, line: str) -> None:
    private = play.private()
    exchange(play.client, private, MULTI, OK)
    play.client >> command("CLIENT", *line.split()) + EXEC
    name = f"CLIENT {line.split()[0]}"
    private << DISCARD
    private >> OK
    play.client << errors.not_in_multi(name) + errors.EXEC_ABORTED
    given_back(play, private)


@pytest.mark.parametrize("proto", [2, 3])
def test_passwords_of_redis_are_not_told_in_a_transaction(play: Play, proto: int) -> None:
    private, client = play.private(proto), play.connect(proto)
    ask = command("CONFIG", "GET", "*a*")
    head = b"%3\r\n" if proto == 3 else b"*6\r\n"
    told = (bulk("maxmemory") + bulk("0"), bulk("requirepass"), bulk("hunter2"),
            bulk("masterauth"), bulk("hunter3"))  # fmt: skip
    client >> MULTI + ask + EXEC
    private << MULTI + ask + EXEC
    private >> OK + QUEUED + b"*1\r\n" + head + b"".join(told)
    empty = bulk("")
    client << OK + QUEUED + b"*1\r\n" + head + told[0] + told[1] + empty + told[3] + empty
    given_back(play, private)


# A protocol that changes while replies are due


def test_a_suspect_is_told_in_the_protocol_of_its_request() -> None:
    with Play() as play:
        play.cache("k", NULL3)
        play.now += 0.2  # too late to be a hit, in time to be a suspect
        play.client >> GET_K + command("HELLO", 3)
        assert play.tracked.upstream.pipe.next_waiter is not None
        play.tracked.lose()
        received = play.client.take()
        assert received.startswith(NULL2 + b"%7\r\n")
        play.tracked.wire.written = b""


def test_a_resp3_request_behind_resp2_replies_waits_for_them(play: Play) -> None:
    """Or its reply would come in the protocol of the connection that those are due on."""
    play.client >> command("TTL", "a") + command("HELLO", 3) + command("TTL", "b")
    play.plain2 << command("TTL", "a")
    play.plain3 << b""
    play.plain2 >> integer(1)
    play.plain3 << command("TTL", "b")
    play.plain3 >> integer(2)
    received = play.client.take()
    assert received.startswith(integer(1) + b"%7\r\n")
    assert received.endswith(integer(2))
