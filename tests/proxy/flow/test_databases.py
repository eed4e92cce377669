"""No command runs in another database than its client's, whatever Redis says to a SELECT."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.private_play import BLPOP, DISCARD, EXEC, MULTI, given_back
from tests.proxy.session_play import PING, Play, command, fill
from tiers.l2.upstream import Upstream
from tiers.proxy_door import get_variant
from tiers.wire.resp import OK, PONG, bulk, integer

GET_K = command("GET", "k")
SET_K = command("SET", "k", "new")
QUEUED = b"+QUEUED\r\n"
REFUSED = b"-NOPERM this user has no permissions to run the 'select' command\r\n"
OUT_OF_RANGE = b"-ERR DB index is out of range\r\n"
BUSY = b"-BUSY Redis is busy running a script.\r\n"


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


# SELECT by a client


def test_every_select_is_answered_by_redis(play: Play) -> None:
    """Also of a database that it had: their number may have changed."""
    play.select(3)
    play.client >> command("SELECT", 0) + command("SELECT", 3) + command("TTL", "k")
    play.scout << command("SELECT", 0)
    play.scout >> OK
    play.scout << command("SELECT", 3)
    play.plain2 << b""
    play.scout >> OUT_OF_RANGE
    play.plain2 << command("TTL", "k")
    play.plain2 >> integer(-2)
    play.client << OK + OUT_OF_RANGE + integer(-2)
    assert play.client.session.db == 0


@pytest.mark.parametrize("state", ["down", "silent"])
def test_a_database_that_redis_had_is_accepted_while_it_cannot_be_asked(
    play: Play, state: str
) -> None:
    """Its reads may be in L1; whatever else it is sent waits for Redis' word."""
    play.select(3)
    play.select(0)
    if state == "down":
        play.scout.lose()
        play.plain2.lose()
    else:
        play.terrace.stack.l2.stalled = True
    play.client >> command("SELECT", 3)
    play.client << OK
    assert play.client.session.db == 3


def test_one_that_it_never_had_is_an_error_then(play: Play) -> None:
    play.scout.lose()
    play.plain2.lose()
    play.client >> command("SELECT", 4)
    assert play.client.take().startswith(b"-ERR terrace: L2 (redis) is unavailable")
    assert play.client.session.db == 0


# Shared connections


def test_what_comes_behind_a_refused_select_is_nobodys_reply(play: Play) -> None:
    """A read may follow a SELECT that is not confirmed; then its reply is the refusal."""
    play.select(3)
    other = play.connect()
    play.client >> GET_K
    play.tracked << command("SELECT", 3) + fill("GET", "k")
    other >> GET_K
    play.tracked << command("SELECT", 0) + fill("GET", "k")
    play.tracked >> REFUSED + integer(-1) + bulk("zero")
    play.client << REFUSED
    play.tracked >> OK + integer(-1) + bulk("zero")
    other << bulk("zero")
    assert play.cached("k") == bulk("zero")
    assert play.cached("k", get_variant(3)) is None
    assert not play.tracked.wire.closed, "others go on"


@pytest.mark.parametrize("answer", [OK, REFUSED])
def test_a_write_never_follows_a_select_that_is_not_confirmed(play: Play, answer: bytes) -> None:
    """Neither that of its own database, nor the one that leads back from another."""
    play.select(3)
    three, other = play.database(3), play.connect()
    play.client >> GET_K + SET_K
    play.tracked << command("SELECT", 3) + fill("GET", "k")
    other >> SET_K
    play.plain2 << SET_K
    play.plain2 >> OK
    other << OK
    play.tracked >> answer + integer(-1) + bulk("v")
    play.client << (bulk("v") if answer == OK else REFUSED)
    chosen = play.tracked if answer == OK else three
    chosen << SET_K
    chosen >> OK
    play.client << OK
    other >> SET_K
    play.plain2 << SET_K
    play.plain2 >> OK
    other << OK
    play.client >> SET_K + GET_K
    chosen << SET_K + (fill("GET", "k") if answer == OK else GET_K)
    chosen >> OK + (integer(-1) if answer == OK else b"") + bulk("new")
    play.client << OK + bulk("new")


@pytest.mark.parametrize(
    "words", [("TTL", "k"), ("EVAL", "return 1", 0), ("FLUSHDB",), ("SET", "k", "v")]
)
async def test_a_refused_database_is_told_to_its_clients_only(
    play: Play, monkeypatch: pytest.MonkeyPatch, words: tuple[str | int, ...]
) -> None:
    """Nothing is sent there before Redis has confirmed it."""
    play.select(3)
    other = play.connect()
    l2 = play.terrace.stack.l2
    asked: list[int] = []

    async def refuse(upstream: Upstream, db: int) -> bytes:
        asked.append(db)
        return REFUSED

    for databases in (l2.databases, l2.scripts):
        monkeypatch.setattr(databases, "open", refuse)
    play.client >> command(*words) * 2
    other >> command("TTL", "k")
    play.plain2 << command("TTL", "k")
    await play.settle()
    if words[0] in ("EVAL", "FLUSHDB"):  # for all that is known they may have written
        play.tracked << PING * 2
        play.tracked >> PONG * 2
    play.client << REFUSED * 2
    assert asked == [3], "asked for more than once"
    play.plain2 >> integer(1)
    other << integer(1)


# Private connections


async def test_a_private_connection_is_in_the_database_before_it_is_used(play: Play) -> None:
    play.select(3)
    private = play.private()
    play.client >> MULTI + SET_K + EXEC
    await play.settle()
    private << command("SELECT", 3)
    private >> OK
    await play.settle()
    private << MULTI + SET_K + EXEC
    private >> OK + QUEUED + b"*1\r\n" + OK
    play.client << OK + QUEUED + b"*1\r\n" + OK
    given_back(play, private)
    play.client >> MULTI + DISCARD  # the next one of this database finds it ready
    private << MULTI + DISCARD
    private >> OK + OK
    play.client << OK + OK
    given_back(play, private)


async def test_a_refusal_there_is_the_reply_and_nothing_runs(play: Play) -> None:
    play.select(3)
    private = play.private()
    play.client >> BLPOP + command("PING")
    await play.settle()
    private << command("SELECT", 3)
    private >> REFUSED
    await play.settle()
    private << b""
    play.client << REFUSED + PONG
    assert play.idle_private == 1, "it is where it was: good for others"
    play.client >> MULTI + SET_K + EXEC
    await play.settle()
    private << command("SELECT", 3)
    private >> OUT_OF_RANGE
    await play.settle()
    private << b""
    play.client << OK + OUT_OF_RANGE + errors.exec_refused(OUT_OF_RANGE)


def test_a_select_in_a_state_with_a_connection_is_its_connections(play: Play) -> None:
    private = play.private()
    play.client >> command("WATCH", "k") + command("SELECT", 3) + command("TTL", "k")
    private << command("WATCH", "k")
    private >> OK
    private << command("SELECT", 3)
    private >> OK
    private << command("TTL", "k")
    private >> integer(-2)
    play.client << OK * 2 + integer(-2)
    play.client >> command("SELECT", 99) + command("TTL", "k")
    private << command("SELECT", 99)
    private >> OUT_OF_RANGE
    private << command("TTL", "k")
    private >> integer(-2)
    play.client << OUT_OF_RANGE + integer(-2)
    play.client >> command("UNWATCH")
    private << command("UNWATCH")
    private >> OK
    play.client << OK
    given_back(play, private)


@pytest.mark.parametrize("name", ["SCRIPT", "FUNCTION"])
def test_what_ends_a_script_needs_no_database(play: Play, name: str) -> None:
    """Redis 8 refuses SELECT while it is busy."""
    play.select(3)
    private = play.private()
    play.client >> command(name, "KILL")
    private << command(name, "KILL")
    private >> OK
    play.tracked << PING
    play.tracked >> PONG
    play.client << OK
    private << command("RESET")
    private >> b"+RESET\r\n"


def test_one_that_does_not_come_out_clean_is_closed(play: Play) -> None:
    private = play.private(3)
    client = play.connect(3)
    client >> MULTI + DISCARD
    private << MULTI + DISCARD
    private >> OK + OK
    client << OK + OK
    private << command("RESET") + command("HELLO", 3)
    private >> b"+RESET\r\n-NOAUTH Authentication required.\r\n"
    assert play.idle_private == 0
    assert private.wire.closed
