"""Private connections in plays: the words, and how one ends."""

from __future__ import annotations

from tests.proxy.session_play import Peer, Play, command
from tiers.wire.resp import OK

GET_K = command("GET", "k")
SET_K = command("SET", "k", "new")
MULTI, EXEC, DISCARD = command("MULTI"), command("EXEC"), command("DISCARD")
RESET, RESET_OK = command("RESET"), b"+RESET\r\n"
BLPOP = command("BLPOP", "list", 0)
GONE = "connection closed by the server"


def given_back(play: Play, private: Peer) -> None:
    """Cleaned, and then ready for another client of the same protocol and database."""
    db = private.upstream.pipe.db
    greeting = private.upstream.proto == 3
    select = command("SELECT", db) if db else b""
    private << RESET + (command("HELLO", 3) if greeting else b"") + select
    assert play.idle_private == 0
    private >> RESET_OK + (b"%0\r\n" if greeting else b"") + (OK if db else b"")
    assert play.idle_private == 1


def discarded(play: Play, private: Peer) -> None:
    play.tick()
    assert private.wire.closed
    assert play.idle_private == 0
