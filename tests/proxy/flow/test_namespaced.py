"""Namespaces in the dialogue with Redis: what is asked where, and what is kept."""

from __future__ import annotations

from tests.proxy.session_play import PING, Play, command, fill
from tiers.wire.resp import OK, PONG, bulk, integer


def play_with(*namespaces: dict[str, str]) -> Play:
    return Play(namespace=list(namespaces))


def test_a_bypassed_key_is_read_on_the_plain_connection_each_time() -> None:
    with play_with({"match": "raw:*", "consistency": "bypass"}) as play:
        for value in ("1", "2"):
            play.client >> command("GET", "raw:k")
            play.plain2 << command("GET", "raw:k")
            play.plain2 >> bulk(value)
            play.client << bulk(value)
        assert not len(play.terrace.stack.l1.arena)  # type: ignore[union-attr]


def test_behind_a_read_in_flight_it_follows_on_the_same_connection_but_is_not_kept() -> None:
    with play_with({"match": "raw:*", "consistency": "bypass"}) as play:
        play.client >> command("GET", "k") + command("GET", "raw:k")
        play.tracked << fill("GET", "k") + command("GET", "raw:k")
        play.tracked >> integer(-1) + bulk("v") + bulk("raw")
        play.client << bulk("v") + bulk("raw")
        assert play.cached("k") == bulk("v")
        assert play.cached("raw:k") is None


def test_mget_asks_no_ttl_of_keys_it_may_not_keep() -> None:
    with play_with({"match": "raw:*", "l1": "off"}) as play:
        play.client >> command("MGET", "raw:k", "k")
        play.tracked << command("PTTL", "k") + command("MGET", "raw:k", "k")
        play.tracked >> integer(-1) + b"*2\r\n" + bulk("raw") + bulk("v")
        play.client << b"*2\r\n" + bulk("raw") + bulk("v")
        assert play.cached("k") == bulk("v")
        assert play.cached("raw:k") is None


def test_hits_of_a_tighter_namespace_are_judged_by_its_own_bound() -> None:
    with play_with({"match": "tight:*", "max_staleness": "10ms"}) as play:
        play.client >> command("GET", "tight:k")
        play.tracked << fill("GET", "tight:k")
        play.tracked >> integer(-1) + bulk("v")
        play.client << bulk("v")
        play.client >> command("GET", "tight:k") + command("MGET", "tight:k")
        play.client << bulk("v") + b"*1\r\n" + bulk("v")
        play.now += 0.02  # too old for these keys, young enough for others
        play.client >> command("GET", "tight:k")
        play.tracked << PING + fill("GET", "tight:k")
        play.tracked >> PONG + integer(-1) + bulk("v")
        play.client << bulk("v")


def test_a_write_drops_gated_entries() -> None:
    with play_with({"match": "tight:*", "max_staleness": "10ms"}) as play:
        play.cache("tight:k", bulk("old"))
        assert play.cached("tight:k", b"~") == bulk("old")
        play.client >> command("SET", "tight:k", "new")
        play.tracked << command("SET", "tight:k", "new")
        assert play.cached("tight:k", b"~") is None
        play.tracked >> OK
        play.client << OK
