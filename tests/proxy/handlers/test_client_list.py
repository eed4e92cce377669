"""CLIENT LIST and KILL: which of Terrace's clients they mean."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.proxy.session_play import Play, command, confirmation
from tiers.wire.resp import OK, bulk, integer


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def kill(*arguments: str | int) -> bytes:
    return command("CLIENT", "KILL", *arguments)


@pytest.mark.parametrize("option", ["ID", "ADDR", "LADDR", "TYPE", "USER"])
def test_each_option_finds_its_clients(play: Play, option: str) -> None:
    other = play.connect()
    value = {
        "ID": other.session.ident,
        "ADDR": other.session.address,
        "LADDR": other.session.local_address,
        "TYPE": "normal",
        "USER": "default",
    }[option]
    play.client >> kill(option, value, "ADDR", other.session.address)
    play.client << integer(1)
    assert other.closed == "CLIENT KILL"


def test_options_add_up_and_of_one_kind_the_last_counts(play: Play) -> None:
    other = play.connect()
    ident = other.session.ident
    play.client >> kill("ID", ident, "TYPE", "pubsub")
    play.client << integer(0)
    assert other.closed is None
    play.client >> kill("ID", 99, "ID", ident)
    play.client << integer(1)
    assert other.closed == "CLIENT KILL"


def test_one_does_not_close_oneself_unless_asked_to(play: Play) -> None:
    play.client >> kill("TYPE", "NORMAL")
    play.client << integer(0)
    play.client >> kill("TYPE", "NORMAL", "SKIPME", "no") + command("PING")
    play.client << integer(1)
    assert play.client.is_closed


def test_the_old_form_knows_an_address_only(play: Play) -> None:
    other = play.connect()
    play.client >> kill("1.2.3.4:5") + kill(other.session.address)
    play.client << b"-ERR No such client\r\n" + OK
    assert other.closed == "CLIENT KILL"


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        ("ID abc", b"-ERR client-id should be greater than 0\r\n"),
        ("ID 0", b"-ERR client-id should be greater than 0\r\n"),
        ("TYPE foo", b"-ERR Unknown client type 'foo'\r\n"),
        ("USER nobody", b"-ERR No such user 'nobody'\r\n"),
        ("SKIPME maybe", b"-ERR syntax error\r\n"),
        ("ID 5 FOO", b"-ERR syntax error\r\n"),
        ("FOO 5", b"-ERR syntax error\r\n"),
        ("ID", b"-ERR No such client\r\n"),
        ("ADDR 1.2.3.4:5 ID", b"-ERR syntax error\r\n"),
        ("ID 5 x", b"-ERR syntax error\r\n"),
        ("ID 5 0", b"-ERR client-id should be greater than 0\r\n"),
        ("NOT-ID x", b"-ERR client-id should be greater than 0\r\n"),
        ("MAXAGE x", b"-ERR maxage is not an integer or out of range\r\n"),
        ("MAXAGE 0", b"-ERR maxage should be greater than 0\r\n"),
        ("IDLE x", b"-ERR idle is not an integer or out of range\r\n"),
        ("IDLE -1", b"-ERR idle should be greater than 0\r\n"),
        ("DB x", b"-ERR DB is not an integer or out of range\r\n"),
        ("FLAGS N?", b"-ERR Unknown flags found in the provided filter: N?\r\n"),
        ("CAPA x", b"-ERR Unknown capa found in the provided filter: x\r\n"),
        ("NOT-SKIPME yes", b"-ERR syntax error\r\n"),
        ("NOT-MAXAGE 1", b"-ERR syntax error\r\n"),
        ("NOT-IDLE 1", b"-ERR syntax error\r\n"),
    ],
)
def test_refusals_are_those_of_redis(play: Play, arguments: str, reply: bytes) -> None:
    play.client >> kill(*arguments.split())
    play.client << reply


def test_those_who_came_long_ago_or_rest(play: Play) -> None:
    play.now += 100
    young = play.connect()
    young >> command("CLIENT", "LIST", "MAXAGE", 60) + command("CLIENT", "LIST", "IDLE", 60)
    assert young.take().count(b"id=%d " % play.client.session.ident) == 2
    young >> kill("MAXAGE", 60, "SKIPME", "NO")
    young << integer(1)
    assert play.client.closed == "CLIENT KILL"
    assert young.closed is None


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ("NAME worker", "ab"),
        ("NAME work", ""),
        ("NOT-NAME worker", "c"),
        ("NAME ''", ""),
        ("NOT-NAME ''", "abc"),
        ("LIB-NAME lib", "a"),
        ("LIB-VER 1", "b"),
        ("NOT-LIB-NAME lib LIB-VER 1", "b"),
        ("DB 3", "a"),
        ("NOT-DB 3", "bc"),
        ("DB 3 DB 0", "bc"),
        ("DB 99", ""),
        ("FLAGS N", "abc"),
        ("FLAGS NN", "abc"),
        ("FLAGS ''", "abc"),
        ("FLAGS Nx", ""),
        ("NOT-FLAGS N", ""),
        ("IP 127.0.0.1", "abc"),
        ("IP 127.0.0", ""),
        ("NOT-IP 127.0.0.1", ""),
        ("CAPA r", ""),
        ("NOT-CAPA r", "abc"),
        ("USER default", "abc"),
        ("NOT-USER default", ""),
        ("TYPE primary", ""),
        ("NOT-TYPE pubsub", "abc"),
        ("ID {a} {c}", "ac"),
        ("ID {c} ID {a}", "ac"),
        ("ID {c} {a} NAME worker", "a"),
        ("NAME worker ID {c}", ""),
        ("NOT-ID {a} {b}", "c"),
        ("ID {a} {b} NOT-ID {b} 99", "a"),
        ("SKIPME yes", "ab"),
        ("SKIPME no", "abc"),
        ("idle 1", ""),
    ],
)
def test_a_list_by_any_filters(play: Play, filters: str, found: str) -> None:
    clients = {"a": play.connect(), "b": play.connect(), "c": play.client}
    for name, option, value in (("a", "lib-name", "lib"), ("b", "LIB-VER", "1")):
        clients[name] >> command("CLIENT", "SETNAME", "worker")
        clients[name] >> command("CLIENT", "SETINFO", option, value)
        clients[name] << OK + OK
    clients["a"].session.set_db(3)
    idents = {name: client.session.ident for name, client in clients.items()}
    play.client >> command("CLIENT", "LIST", *shlex.split(filters.format(**idents)))
    listed = play.client.take()
    assert listed[:1] == b"$"
    names = {ident: name for name, ident in idents.items()}
    lines = [line for line in listed.splitlines() if line.startswith(b"id=")]
    shown = [names[int(line.split()[0][3:])] for line in lines]
    assert "".join(sorted(shown)) == found


def test_a_list_by_type_and_by_id(play: Play) -> None:
    private, subscriber = play.private(), play.connect()
    subscriber >> command("SUBSCRIBE", "c")
    private << command("SUBSCRIBE", "c")
    private >> confirmation("subscribe", "c", 1, 2)
    subscriber << confirmation("subscribe", "c", 1, 2)
    idents = [play.client.session.ident, subscriber.session.ident]

    def listed(*arguments: str | int) -> list[int]:
        play.client >> command("CLIENT", "LIST", *arguments)
        lines = play.client.take().split(b"id=")[1:]
        return [int(line.split()[0]) for line in lines if b" addr=" in line]

    assert listed() == idents
    assert listed("TYPE", "pubsub") == idents[1:]
    assert listed("type", "Normal") == idents[:1]
    assert listed("TYPE", "master") == listed("TYPE", "replica") == listed("ID", 99) == []
    assert listed("ID", idents[1], idents[0], 99) == idents[::-1]
    subscriber.leave()


def test_a_line_says_what_a_client_is_doing(play: Play) -> None:
    private, blocked = play.private(3), play.connect(3)
    blocked >> command("CLIENT", "SETNAME", "worker") + command("BLPOP", "l", 0)
    blocked << OK
    private << command("BLPOP", "l", 0)
    play.client >> command("CLIENT", "LIST", "ID", blocked.session.ident)
    line = play.client.take().decode()
    for part in ("name=worker", "flags=b", "cmd=blpop", "resp=3", "redir=-1", "user=default"):
        assert f" {part} " in line
    blocked.leave()
    assert private.wire.closed


def test_info_is_ones_own_line_in_the_form_of_the_protocol(play: Play) -> None:
    client = play.connect(3)
    client >> command("CLIENT", "INFO")
    assert client.take().startswith(b"=")
    play.client >> command("CLIENT", "INFO") + command("CLIENT", "GETNAME")
    received = play.client.take()
    assert received.startswith(b"$")
    assert received.endswith(b"\n\r\n$-1\r\n")
    assert bulk(received.split(b"\r\n")[1]) + b"$-1\r\n" == received
