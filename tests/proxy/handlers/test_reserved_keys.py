"""Keys that begin with __terrace: are Terrace's own: a client may read them, never write them."""

from __future__ import annotations

import pytest

from proxy import errors
from tests.proxy.session_play import Play, command
from tiers.proxy_door import OWN_KEYS
from tiers.wire.resp import NULL3

OWN = OWN_KEYS.decode() + "epochs"

WRITES = (
    ("SET", OWN, "x"), ("DEL", "a", "b", OWN), ("MSET", "a", "1", OWN, "x"),
    ("RENAME", OWN, "a"), ("RENAME", "a", OWN), ("COPY", "a", OWN), ("EXPIRE", OWN, 1),
    ("SORT", "l", "STORE", OWN), ("EVAL", "return 1", 1, OWN), ("BLPOP", OWN, 0),
    ("NEWER.WRITE", OWN), ("ZUNIONSTORE", OWN, 1, "a"), ("ZUNIONSTORE", "a", 1, OWN),
    ("TIER.INVALIDATE", "KEYS", "a", OWN), ("MIGRATE", "h", 1, OWN, 0, 1),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", OWN, ">"),
)  # fmt: skip


@pytest.mark.parametrize("words", WRITES, ids=lambda words: words[0])
def test_a_write_is_refused(words: tuple[str | int, ...]) -> None:
    with Play() as play:
        play.client >> command(*words)
        play.client << errors.RESERVED


def test_a_read_is_not() -> None:
    with Play() as play:
        play.client >> command("GET", OWN)
        play.tracked << command("PTTL", OWN) + command("GET", OWN)
        play.tracked >> b":-2\r\n" + NULL3
        play.client << b"$-1\r\n"


def test_a_value_may_look_like_one() -> None:
    with Play() as play:
        play.client >> command("SET", "k", OWN)
        play.tracked << command("SET", "k", OWN)
        play.tracked >> b"+OK\r\n"
        play.client << b"+OK\r\n"


def test_a_transaction_with_one_is_discarded() -> None:
    with Play() as play:
        private = play.private()
        play.client >> command("MULTI") + command("SET", OWN, "x") + command("EXEC")
        private << command("MULTI") + command("DISCARD")
        private >> b"+OK\r\n" * 2
        received = play.client.take()
        assert received.startswith(b"+OK\r\n" + errors.RESERVED + b"-EXECABORT")
        private.wire.written = b""  # RESET
