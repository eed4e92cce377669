"""Commands that depend on the old value of a mapped key: it is loaded into L2 before them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy import errors
from tests.proxy.mapped_play import DOWN, L3Play
from tests.proxy.session_play import PING, Peer, command, fill
from tests.proxy.step_play import NAME, ran, step, tripped
from tiers import TierUnavailable
from tiers.proxy_door import fill_commands, settle_command
from tiers.wire.resp import OK, PONG, QUEUED, array, bulk, integer

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
    play.plain2 << step(words, stand=["m:1"])
    play.plain2 >> tripped(1)
    row = await play.show("m:1", b"row")
    play.plain2 << step(words, rows=[row])
    play.plain2 >> ran(integer(0), stand=False, filled=1)
    play.client << integer(0)


def test_where_l2_has_the_row_it_takes_one_round_trip(play: L3Play) -> None:
    append = command("APPEND", "m:1", "v")
    play.client >> append
    play.plain2 << step(append, stand=["m:1"])
    play.plain2 >> ran(integer(9))
    play.client << integer(9)


async def test_what_has_no_row_may_be_absent(play: L3Play) -> None:
    words = command("MSETNX", "m:1", "v", "m:2", "v")
    play.client >> words
    play.plain2 << step(words, stand=["m:1", "m:2"])
    play.plain2 >> tripped(1)
    await play.settle()
    row = play.row("m:2", b"row")
    play.loads.show("m:1 m:2", [row])
    await play.settle()
    play.plain2 << step(words, rows=[row])
    play.plain2 >> ran(integer(0), stand=False, filled=1)
    play.client << integer(0)


async def test_without_the_old_value_nothing_is_written(play: L3Play) -> None:
    play.client >> command("SETNX", "m:1", "mine")
    play.plain2 << step(command("SETNX", "m:1", "mine"), stand=["m:1"])
    play.plain2 >> tripped(1)
    await play.show("m:1", None, DOWN)
    play.plain2 << b""
    play.client << FAILED


async def test_l3_down_does_not_matter_while_l2_has_the_row(play: L3Play) -> None:
    """Its row came back between the two looks, and was not read: it must be there."""
    append = command("APPEND", "m:1", "v")
    play.client >> append
    play.plain2 << step(append, stand=["m:1"])
    play.plain2 >> tripped(1)
    await play.settle()
    play.loads.show("m:1", [play.row("m:1", None)])
    await play.settle()
    play.plain2 << step(append, stand=["m:1"])
    play.plain2 >> ran(integer(9))
    play.client << integer(9)


REFUSED = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


def test_what_redis_refuses_to_queue_is_the_reply(play: L3Play) -> None:
    append = command("APPEND", "m:1", "v")
    play.client >> append
    play.plain2 << step(append, stand=["m:1"])
    play.plain2 >> OK + REFUSED + OK + REFUSED + b"-EXECABORT Transaction discarded.\r\n"
    play.client << REFUSED


def test_what_ran_without_its_row_is_no_answer(play: L3Play) -> None:
    ttl = command("TTL", "m:1")
    play.client >> ttl
    play.plain2 << step(ttl, stand=["m:1"])
    play.plain2 >> OK + REFUSED + OK + QUEUED + array([integer(-2)])
    failure = TierUnavailable(
        "L2 (redis)", "a row did not stay there for this command: " + REFUSED[1:-2].decode(),
        outcome_unknown=True,
    )  # fmt: skip
    play.client << errors.tier_failed(failure)


@pytest.mark.parametrize("lost_after", [0, 3])
def test_a_connection_lost_on_the_way(play: L3Play, lost_after: int) -> None:
    append = command("APPEND", "m:1", "v")
    play.client >> append + command("PING")
    play.plain2 << step(append, stand=["m:1"])
    play.plain2 >> (OK + integer(1) + OK)[: 3 * lost_after]
    play.plain2.lose()
    play.client << errors.write_failed("connection closed by the server", True) + PONG


async def test_what_follows_waits_for_it(play: L3Play) -> None:
    incr, get = command("INCR", "m:1"), command("GET", "k")
    play.client >> incr + get
    play.plain2 << step(incr, stand=["m:1"])
    play.tracked << b""
    play.plain2 >> tripped(1)
    row = await play.show("m:1", b"1")
    play.plain2 << step(incr, rows=[row])
    play.tracked << b""
    play.plain2 >> ran(integer(2), stand=False, filled=1)
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("v")
    play.client << integer(2) + bulk("v")


@pytest.mark.parametrize(
    "line",
    ["GETDEL t:1", "RENAME t:1 x", "EXPIRE t:1 0", "EVAL return(redis.call('DEL',KEYS[1])) 1 t:1"],
)
def test_whatever_removes_a_key_on_purpose_leaves_a_tombstone(play: L3Play, line: str) -> None:
    words, is_script = command(*line.split()), line.startswith("EVAL")
    play.client >> words
    play.plain2 << step(words, stand=["t:1"], removed=[("t:1", 10.0)], is_script=is_script)
    play.plain2 >> ran(integer(1), settled=True)
    if is_script:
        play.tracked << PING
        play.tracked >> PONG
    play.client << integer(1)


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
    private = play.private()
    play.client >> MULTI
    private << MULTI
    private >> OK
    play.client << OK
    return private


def end(private: Peer) -> None:
    private << RESET
    private >> b"+RESET\r\n"


async def test_what_a_transaction_looks_at_is_queued_in_front(play: L3Play) -> None:
    private, append, ttl = begin(play), command("APPEND", "m:1", "v"), command("TTL", "m:1")
    play.client >> append + ttl
    private << b""
    row = await play.show("m:1", b"row")
    (fill_m,) = fill_commands([row], NAME)
    private << fill_m + append + ttl
    private >> QUEUED * 3
    play.client << QUEUED * 2
    play.client >> EXEC
    await play.renew("strings")
    private << EXEC
    private >> array([array([integer(1)]), integer(4), integer(10)])
    play.client << array([integer(4), integer(10)])
    assert play.terrace.stats.rows_brought == 1
    end(private)


async def test_a_transaction_is_discarded_with_its_rows(play: L3Play) -> None:
    private, append = begin(play), command("APPEND", "m:1", "v")
    play.client >> append
    row = await play.show("m:1", b"row")
    (fill_m,) = fill_commands([row], NAME)
    private << fill_m + append
    private >> QUEUED * 2
    play.client << QUEUED
    play.client >> DISCARD
    private << DISCARD
    private >> OK
    play.client << OK
    end(private)


async def test_rows_that_a_refresh_has_overtaken_are_loaded_anew(play: L3Play) -> None:
    """What a transaction writes on a row that a refresh had replaced before EXEC would not stay."""
    private, append = begin(play), command("APPEND", "m:1", "v")
    play.client >> append
    row = await play.show("m:1", b"row")
    (fill_m,) = fill_commands([row], NAME)
    private << fill_m + append
    private >> QUEUED * 2
    play.client << QUEUED
    play.client >> EXEC
    private << b""
    await play.renew("strings", epoch=b"8")
    await play.fault_in("m:1", b"new row")
    private << EXEC
    private >> array([array([integer(0)]), integer(8)])
    play.client << array([integer(8)])
    assert play.terrace.stats.rows_brought == 0
    end(private)


async def test_a_row_that_is_not_at_hand_ends_in_an_error_if_it_was_needed(play: L3Play) -> None:
    private, append = begin(play), command("APPEND", "m:1", "v")
    play.client >> append
    await play.settle()
    row = play.row("m:1", None)
    play.loads.show("m:1", [row])
    await play.settle()
    (fill_m,) = fill_commands([row], NAME)
    private << fill_m + append
    private >> QUEUED * 2
    play.client << QUEUED
    play.client >> EXEC
    await play.renew("strings")
    private << settle_command([], NAME) + EXEC
    private >> QUEUED + array([array([integer(4)]), integer(1), integer(1)])
    play.client << errors.rows_missing("a key left Redis meanwhile and its row was not read")
    end(private)


async def test_a_delete_in_a_transaction_leaves_its_tombstone(play: L3Play) -> None:
    private, delete, select = begin(play), command("DEL", "t:1", "m:1"), command("SELECT", 0)
    play.client >> delete
    private << delete
    play.client >> select
    private << settle_command([(b"t:1", 10.0)], NAME) + select
    play.client >> EXEC
    private << EXEC
    private >> QUEUED * 3 + array([integer(1), integer(1), OK])
    play.client << QUEUED * 2 + array([integer(1), OK])
    end(private)


async def test_a_transaction_with_a_failed_load_runs_nothing(play: L3Play) -> None:
    private, first = begin(play), command("SET", "other", "v")
    play.client >> first
    private << first
    private >> QUEUED
    play.client << QUEUED
    play.client >> command("APPEND", "m:1", "v")
    await play.show("m:1", None, DOWN)
    play.client << FAILED
    play.client >> first + EXEC
    private << first + DISCARD
    private >> QUEUED + OK
    play.client << QUEUED + errors.EXEC_ABORTED
    private << RESET
    private >> b"+RESET\r\n"
