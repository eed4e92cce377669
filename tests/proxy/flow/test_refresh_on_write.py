"""Refresh on write, as dialogues: what clients read is read again, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.session_play import Play, command, fill
from tiers.wire.resp import NULL3, OK, bulk, integer

SET_K = command("SET", "k", "new")
INVALIDATE_K = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"


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


def test_the_invalidation_by_the_write_itself_does_not_undo_it(play: Play) -> None:
    """Redis sends it right behind the reply."""
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK + INVALIDATE_K
    play.client << OK
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("new")
    assert play.cached("k") == bulk("new")


def test_what_nobody_reads_between_two_writes_is_read_once(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK + INVALIDATE_K
    play.tracked << fill("GET", "k")
    play.tracked >> integer(-1) + bulk("new")
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked >> OK + INVALIDATE_K
    play.tracked << b""
    play.client << OK + OK


def test_of_several_keys_those_that_are_read(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.cache("l", bulk("old"))
    play.client >> command("DEL", "j", "k", "l")
    play.tracked << command("DEL", "j", "k", "l")
    play.tracked >> integer(2)
    play.client << integer(2)
    play.tracked << fill("GET", "k") + fill("GET", "l")
    play.tracked >> integer(-2) + NULL3 + integer(-1) + bulk("again")
    assert play.cached("k") is None
    assert play.cached("l") == bulk("again")


def test_a_write_that_may_not_have_happened_reads_nothing_again(play: Play) -> None:
    play.cache("k", bulk("old"))
    play.client >> SET_K
    play.tracked << SET_K
    play.tracked.lose()
    assert b"outcome of this command is unknown" in play.client.take()


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
    play.tracked >> integer(-1) + INVALIDATE_K + bulk("new")
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
    play.select(1)
    one = play.database(1)
    play.cache("k", bulk("zero"))
    play.client >> SET_K
    one << SET_K
    one >> OK
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
