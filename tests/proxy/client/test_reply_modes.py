"""CLIENT REPLY ON, OFF and SKIP: around answers of Terrace, of Redis, and of handlers that wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.mapped_play import L3Play
from tests.proxy.session_play import Play, command, fill
from tests.proxy.step_play import ran, step, tripped
from tiers.wire.resp import OK, PONG, bulk, integer

GET_K, SET_K = command("GET", "k"), command("SET", "k", "new")
ON, OFF, SKIP = (command("CLIENT", "REPLY", mode) for mode in ("ON", "OFF", "SKIP"))
PING, COUNT = command("PING"), command("COMMAND", "COUNT")
MULTI, DISCARD, RESET = command("MULTI"), command("DISCARD"), command("RESET")


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def test_off_on_and_skip(play: Play) -> None:
    play.client >> SKIP + command("ECHO", "e") + PING
    play.client << PONG
    play.client >> SKIP + GET_K + command("ECHO", "e")
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("v")
    play.client << bulk("e")
    play.client >> OFF + SET_K + PING
    play.tracked << SET_K
    play.tracked >> OK
    play.client >> SKIP + PING
    play.client << b""
    play.client >> ON + PING
    play.client << OK + PONG


async def test_skip_lasts_until_a_handler_has_answered(play: Play) -> None:
    play.client >> SKIP + COUNT + PING
    await play.settle()
    play.plain2 << COUNT
    play.plain2 >> integer(240)
    await play.settle()
    play.client << PONG


async def test_off_mutes_a_handler_that_answers_late(play: Play) -> None:
    play.client >> OFF + COUNT + ON + PING
    await play.settle()
    play.plain2 << COUNT
    play.plain2 >> integer(240)
    await play.settle()
    play.client << OK + PONG


def test_skip_is_not_used_up_by_a_command_that_has_to_wait(play: Play) -> None:
    """MULTI is put off until the session is idle, and runs then for the second time."""
    private = play.private()
    play.client >> GET_K + SKIP + MULTI + DISCARD
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("v")
    private << MULTI + DISCARD
    private >> OK + OK
    play.client << bulk("v") + OK
    private << RESET
    private >> b"+RESET\r\n"


async def test_skip_is_not_used_up_by_opening_a_connection(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = play.private()
    play.terrace.stack.l2.private._idle.clear()

    async def connect(proto: int, db: int) -> object:
        return opened.upstream

    monkeypatch.setattr(play.terrace.stack.l2.private, "turn", connect)
    play.client >> SKIP + MULTI + DISCARD
    await play.settle()
    opened << MULTI + DISCARD
    opened >> OK + OK
    play.client << OK
    opened << RESET
    opened >> b"+RESET\r\n"


async def test_skip_is_not_used_up_by_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    with L3Play(monkeypatch) as play:
        append = command("APPEND", "m:1", "v")
        play.client >> SKIP + append + PING
        play.plain2 << step(append, stand=["m:1"])
        play.plain2 >> tripped(1)
        row = await play.show("m:1", b"row")
        play.plain2 << step(append, rows=[row])
        play.plain2 >> ran(integer(4), stand=False, filled=1)
        play.client << PONG
        private = play.private()
        play.client >> SKIP + command("WATCH", "m:1") + PING
        await play.fault_in("m:1", b"row")
        private << command("WATCH", "m:1")
        private >> OK
        play.client << PONG
