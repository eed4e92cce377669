"""Commands that depend on the old value of a mapped key: it is loaded into L2 before them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.mapped_play import DOWN, L3Play
from tests.proxy.session_play import Peer, command
from tiers.resp import OK, QUEUED, integer

FAILED = errors.load_failed("connection refused")
MULTI, EXEC, DISCARD, RESET = (command(w) for w in ("MULTI", "EXEC", "DISCARD", "RESET"))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[L3Play]:
    with L3Play(monkeypatch) as play:
        yield play
        assert not play.loads.waiting


@pytest.mark.parametrize(
    "line",
    [
        "SETNX m:1 v",
        "GETDEL m:1",
        "MSETNX m:1 v",
        "APPEND m:1 v",
        "SET m:1 v NX",
        "SET m:1 v xx EX 10",
        "SET m:1 v GET",
        "SET m:1 v KeepTTL",
        "SET m:1 v IFEQ row",
        "SET m:1 v PX 100 ifne row",
        "SET m:1 v ANY-OPTION-TO-COME",
    ],
)
async def test_what_looks_at_the_old_value_loads_it_first(play: L3Play, line: str) -> None:
    words = command(*line.split())
    play.client >> words
    await play.fault_in("m:1", b"row")
    play.tracked << words
    play.tracked >> integer(0)
    play.client << integer(0)


async def test_without_the_old_value_nothing_is_written(play: L3Play) -> None:
    play.client >> command("SETNX", "m:1", "mine")
    await play.fault_in("m:1", DOWN)
    play.tracked << b""
    play.client << FAILED


@pytest.mark.parametrize(
    "line", ["SET m:1 v", "SET m:1 NX", "SET m:1 v EX 10", "MSET m:1 v m:2 v", "SETEX m:1 10 v"]
)
def test_what_overwrites_blindly_loads_nothing(play: L3Play, line: str) -> None:
    words = command(*line.split())
    play.client >> words
    play.tracked << words
    play.tracked >> OK
    play.client << OK


# In transactions


def begin(play: L3Play) -> Peer:
    pin = play.pin()
    play.client >> MULTI
    pin << MULTI
    pin >> OK
    play.client << OK
    return pin


async def test_what_a_transaction_looks_at_is_loaded_before_it_is_queued(play: L3Play) -> None:
    pin, append = begin(play), command("APPEND", "m:1", "v")
    play.client >> append
    pin << b""
    await play.fault_in("m:1", b"row")
    pin << append
    pin >> QUEUED
    play.client << QUEUED
    play.client >> DISCARD
    pin << DISCARD
    pin >> OK
    play.client << OK
    pin << RESET
    pin >> b"+RESET\r\n"


async def test_a_transaction_with_a_failed_load_runs_nothing(play: L3Play) -> None:
    pin, first = begin(play), command("SET", "other", "v")
    play.client >> first
    pin << first
    pin >> QUEUED
    play.client << QUEUED
    play.client >> command("APPEND", "m:1", "v")
    await play.fault_in("m:1", DOWN)
    play.client << FAILED
    play.client >> first + EXEC
    pin << first + DISCARD
    pin >> QUEUED + OK
    play.client << QUEUED + errors.EXEC_ABORTED
    pin << RESET
    pin >> b"+RESET\r\n"
