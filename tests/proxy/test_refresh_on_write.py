"""Refresh on write, as dialogues: what was hot is read again, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.session_play import Play, command, fill
from tiers.resp import NULL3, OK, bulk, integer

SET_K = command("SET", "k", "new")


@pytest.fixture
def play() -> Iterator[Play]:
    with Play(l1={"refresh_on_write": True}) as play:
        yield play


def test_a_hot_key_is_read_again_behind_its_write(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    assert play.cached("k") is None
    play.tracked >> OK
    play.client << OK
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("new")
    assert play.cached("k") == bulk("new")


def test_a_key_that_was_not_held_is_left_alone(play: Play) -> None:
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK
    play.client << OK
    play.tracked << b""


def test_what_changes_between_is_not_stored(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK
    play.client << OK
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + command("invalidate", "k").replace(b"*2", b">2").replace(
        b"$1\r\nk", b"*1\r\n$1\r\nk"
    ) + bulk("new")
    assert play.cached("k") is None


def test_a_deleted_key_and_a_lost_connection(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> command("DEL", "k")
    play.tracked << command("DEL", "k")
    play.tracked >> integer(1)
    play.client << integer(1)
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-2) + NULL3
    assert play.cached("k") is None
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK
    play.client << OK
    play.tracked << fill("GET", "k")
    play.tracked.lose()
    assert play.cached("k") is None


def test_each_database_has_its_own(play: Play) -> None:
    play.client >> command("SELECT", 1)
    play.plain2 << command("SELECT", 1)
    play.plain2 >> OK
    play.client << OK
    play.cache("k", bulk("zero"))
    play.client >> SET_K
    play.tracked << command("SELECT", 1) + SET_K
    play.tracked >> OK + OK
    play.client << OK
    play.tracked << b""


def test_without_the_option_nothing_is_read_again() -> None:
    with Play() as play:
        play.cache("k", bulk("old"))
        play.client >> SET_K
        play.tracked << SET_K
        play.tracked >> OK
        play.client << OK
        play.tracked << b""
