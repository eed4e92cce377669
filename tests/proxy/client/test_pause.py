"""CLIENT PAUSE: who is held, what still runs, and in which order it goes on."""

from __future__ import annotations

import pytest

from proxy.commands.command import Kind
from tests.proxy.session_play import Play, command
from tiers.wire.resp import OK, PONG, QUEUED, bulk, integer

SET_K, GET_K, PING = command("SET", "k", "v"), command("GET", "k"), command("PING")
UNPAUSE = command("CLIENT", "UNPAUSE")
MULTI, EXEC, RESET = command("MULTI"), command("EXEC"), command("RESET")


def pause(ms: int, *mode: str) -> bytes:
    return command("CLIENT", "PAUSE", ms, *mode)


async def test_everything_waits_hits_of_l1_too() -> None:
    with Play() as play:
        other = play.connect()
        play.cache("k", bulk("v"))
        other >> GET_K
        other << bulk("v")
        play.client >> pause(60_000) + PING
        play.client << OK
        late = play.connect()
        other >> GET_K * 2
        late >> SET_K
        play.tracked << b""
        for client in (play.client, other, late):
            client << b""
        play.terrace.pause.end()
        play.client << PONG
        other << bulk("v") * 2
        play.tracked << SET_K
        play.tracked >> OK
        late << OK


async def test_replies_in_flight_still_come() -> None:
    with Play() as play:
        other = play.connect()
        other >> SET_K
        play.client >> pause(60_000, "ALL")
        play.client << OK
        other >> PING
        play.tracked << SET_K
        play.tracked >> OK
        other << OK
        play.terrace.pause.end()
        other << PONG


async def test_a_handler_that_awaits_ends_held() -> None:
    with Play() as play:
        other = play.connect()
        other >> command("INFO", "tiers") + PING
        play.client >> pause(60_000, "ALL")
        play.client << OK
        await play.settle()
        assert other.take().startswith(b"$")
        other << b""
        play.terrace.pause.end()
        other << PONG


async def test_writes_wait_and_reads_do_not() -> None:
    with Play() as play:
        other = play.connect()
        play.cache("k", bulk("old"))
        play.client >> pause(60_000, "write") + GET_K + SET_K + GET_K
        play.client << OK + bulk("old")
        other >> GET_K + command("TTL", "x")
        play.plain2 << command("TTL", "x")
        play.plain2 >> integer(-2)
        other << bulk("old") + integer(-2)
        play.tracked << b""
        other >> UNPAUSE
        other << OK
        play.tracked << SET_K + command("PTTL", "k") + GET_K
        play.tracked >> OK + integer(-1) + bulk("v")
        play.client << OK + bulk("v")


@pytest.mark.parametrize(
    "line",
    [
        "SET k v", "DEL k", "FLUSHALL", "SWAPDB 0 1", "EVAL x 0", "FCALL f 0", "PFCOUNT k",
        "PUBLISH c m", "SPUBLISH c m", "BLPOP k 0", "SORT k", "XREADGROUP GROUP g c STREAMS s >",
        "FUNCTION FLUSH", "BITFIELD k GET u8 0", "NOT.KNOWN", "TIER.INVALIDATE k*",
        "MIGRATE h 1 k 0 1",
    ],
)  # fmt: skip
async def test_what_writes(line: str) -> None:
    with Play() as play:
        play.client >> pause(60_000, "WRITE")
        play.client << OK
        play.client >> command(*line.split())
        play.client << b""
        assert play.client.session.blocked == "pause"
        play.client.leave()


@pytest.mark.parametrize(
    "line", ["PING", "SELECT 1", "CLIENT ID", "SUBSCRIBE c", "SCRIPT EXISTS x", "EVAL_RO x 0"]
)
async def test_what_does_not_write(line: str) -> None:
    with Play() as play:
        play.private()
        play.client >> pause(60_000, "WRITE")
        play.client << OK
        play.client >> command(*line.split())
        assert play.client.session.blocked != "pause"
        play.client.leave()
        for peer in play.peers:
            play.tick()
            peer.wire.written = b""


async def test_a_transaction_waits_where_it_writes() -> None:
    with Play() as play:
        private, reader, second = play.private(), play.connect(), play.private()
        play.client >> MULTI + SET_K
        play.tick()
        private, second = (private, second) if private.wire.written else (second, private)
        private << MULTI + SET_K
        private >> OK + QUEUED
        play.client << OK + QUEUED
        reader >> MULTI + GET_K + pause(60_000, "WRITE")
        second << MULTI + GET_K + PING
        second >> OK + QUEUED * 2
        reader << OK + QUEUED * 2
        reader >> EXEC
        second << EXEC
        second >> b"*2\r\n" + bulk("old") + PONG
        reader << b"*2\r\n" + bulk("old") + OK
        second << RESET
        second >> b"+RESET\r\n"
        play.client >> EXEC
        private << b""
        play.client << b""
        play.terrace.pause.end()
        private << EXEC
        private >> b"*1\r\n" + OK
        play.client << b"*1\r\n" + OK
        private << RESET
        private >> b"+RESET\r\n"


async def test_the_longer_time_and_the_stricter_mode_hold() -> None:
    with Play() as play:
        held = play.terrace.pause
        play.client >> pause(60_000, "WRITE") + pause(10, "WRITE")
        play.client << OK * 2
        assert (held.mode, held.until) == ("write", play.now + 60)
        play.client >> pause(10, "ALL")
        assert (held.mode, held.until) == ("all", play.now + 60)
        held.end()
        play.client << OK
        assert repr(held) == "<Pause off>"


async def test_it_ends_by_itself() -> None:
    with Play() as play:
        play.client >> pause(1) + PING
        play.client << OK
        (task,) = (t for t in play.terrace._tasks._tasks if t.get_name() == "proxy.pause")
        await task
        play.client << PONG


async def test_a_reply_that_is_not_wanted_is_still_not_sent_after_the_pause() -> None:
    with Play() as play:
        play.client >> pause(60_000, "WRITE") + command("CLIENT", "REPLY", "SKIP") + SET_K + PING
        play.client << OK
        play.terrace.pause.end()
        play.tracked << SET_K
        play.tracked >> OK
        play.client << PONG


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        ("x", b"-ERR timeout is not an integer or out of range\r\n"),
        ("1.5", b"-ERR timeout is not an integer or out of range\r\n"),
        ("-1", b"-ERR timeout is negative\r\n"),
        ("1 SOME", b"-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
    ],
)
def test_what_makes_no_sense_pauses_nobody(arguments: str, reply: bytes) -> None:
    with Play() as play:
        play.client >> command("CLIENT", "PAUSE", *arguments.split()) + PING
        play.client << reply + PONG


def test_kinds_that_write_are_all_held() -> None:
    """Whatever the table calls a write is one for the pause as well."""
    from proxy.commands.table import ROWS

    with Play() as play:
        play.terrace.pause.mode = "write"
        for row in ROWS:
            if row.kind in (Kind.WRITE, Kind.FLUSH) and row.name != "XGROUP":
                args = [row.name.encode(), *[b"x"] * 6]
                assert play.terrace.pause.holds(play.client.session, row, args), row.name


NO_WRITES = "#!lua name=x flags=allow-stale,no-writes\nreturn 1"
EVAL = command("EVAL", NO_WRITES, 0)


@pytest.mark.parametrize(
    "text",
    [
        "return '#!lua flags=no-writes'",
        "#!lua flags=allow-oom\n-- flags=no-writes",
        "#!lua flags=no-writes-at-all",
        "#!lua noflags=no-writes",
        "#!lua",
    ],
)
async def test_a_script_that_may_write_is_held(text: str) -> None:
    with Play() as play:
        play.client >> pause(60_000, "WRITE") + command("EVAL", text, 0)
        play.client << OK
        play.scripts2 << b""
        play.client.leave()


async def test_a_script_that_says_it_does_not_write_is_not_held() -> None:
    with Play() as play:
        play.client >> pause(60_000, "WRITE") + EVAL
        play.scripts2 << EVAL
        play.scripts2 >> integer(1)
        play.tracked << PING
        play.tracked >> PONG
        play.client << OK + integer(1)


@pytest.mark.parametrize("read", [GET_K, PING, command("EVAL_RO", "return 1", 0), EVAL])
async def test_a_transaction_of_reads_is_not_held(read: bytes) -> None:
    with Play() as play:
        private = play.private()
        play.client >> pause(60_000, "WRITE") + MULTI + read + EXEC
        private << MULTI + read + EXEC
        private >> OK + QUEUED + b"*1\r\n" + integer(1)
        play.tick()
        if play.tracked.wire.written:
            play.tracked << PING
            play.tracked >> PONG
        play.client << OK * 2 + QUEUED + b"*1\r\n" + integer(1)
        private << RESET
        private >> b"+RESET\r\n"


@pytest.mark.parametrize("write", [SET_K, command("PUBLISH", "c", "m"), command("PFCOUNT", "h")])
async def test_exec_of_what_was_queued_before_is_held(write: bytes) -> None:
    with Play() as play:
        private = play.private()
        other = play.connect()
        play.client >> MULTI + write
        private << MULTI + write
        private >> OK + QUEUED
        play.client << OK + QUEUED
        other >> pause(60_000, "WRITE")
        other << OK
        play.client >> EXEC
        private << b""
        other >> UNPAUSE
        other << OK
        private << EXEC
        private >> b"*1\r\n" + integer(1)
        play.tick()
        if play.tracked.wire.written:
            play.tracked << PING
            play.tracked >> PONG
        play.client << b"*1\r\n" + integer(1)
        private << RESET
        private >> b"+RESET\r\n"
