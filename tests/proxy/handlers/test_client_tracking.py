"""CLIENT TRACKING through the proxy: whose invalidations reach whom, and what is not kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.client.redirection import invalidation
from tests.proxy.mapped_play import L3Play
from tests.proxy.private_play import given_back
from tests.proxy.session_play import CLIENT_ID, Client, Peer, Play, command, confirmation
from tests.proxy.step_play import ran, step, tripped
from tiers.wire.resp import NULL2, NULL3, OK, PONG, array, bulk, integer

TRACK = command("CLIENT", "TRACKING", "ON")
CHANGED = invalidation([b"k"])
CHANNEL = "__redis__:invalidate"
MESSAGE = b"*3\r\n" + bulk("message") + bulk(CHANNEL)


@pytest.fixture
def play() -> Iterator[Play]:
    with Play() as play:
        yield play


def ttl_and(name: str, key: str) -> tuple[bytes, bytes]:
    return command("PTTL", key), command(name, key)


def redirect(play: Play, target: Client) -> tuple[Peer, Peer]:
    """`play.client` is tracked for `target`; the connection that receives, and its own."""
    private, feed = play.private(), play.private(3)
    ident = target.session.ident
    play.client >> command("CLIENT", "TRACKING", "ON", "REDIRECT", ident)
    private << command("CLIENT", "TRACKING", "ON", "REDIRECT", CLIENT_ID)
    private >> OK
    play.client << OK
    return feed, private


class TestRedirection:
    def test_to_a_resp3_client_in_any_state(self, play: Play) -> None:
        other = play.connect(3)
        feed, _ = redirect(play, other)
        feed >> CHANGED
        other << CHANGED
        own = play.private(3)
        other >> command("MULTI")
        own << command("MULTI")
        own >> OK
        feed >> CHANGED
        other << OK + CHANGED
        other >> command("DISCARD")
        own << command("DISCARD")
        own >> OK
        given_back(play, own)
        feed >> CHANGED
        other << OK + CHANGED

    def test_to_a_resp2_client_only_while_it_is_subscribed(self, play: Play) -> None:
        other = play.connect()
        feed, _ = redirect(play, other)
        feed >> CHANGED
        other << b""
        own = play.private()
        other >> command("SUBSCRIBE", CHANNEL)
        own << command("SUBSCRIBE", CHANNEL)
        own >> confirmation("subscribe", CHANNEL, 1, 2)
        other << confirmation("subscribe", CHANNEL, 1, 2)
        feed >> CHANGED
        other << MESSAGE + array([bulk("k")])
        feed >> b">2\r\n$10\r\ninvalidate\r\n" + NULL3  # of a flush
        other << MESSAGE + NULL2

    def test_ids_are_those_that_clients_know(self, play: Play) -> None:
        other = play.connect()
        _, private = redirect(play, other)
        ident = other.session.ident
        play.client >> command("CLIENT", "GETREDIR")
        private << command("CLIENT", "GETREDIR")
        private >> integer(CLIENT_ID)
        play.client << integer(ident)
        info = bulk("flags") + b"*1\r\n" + bulk("on") + bulk("redirect")
        play.client >> command("CLIENT", "TRACKINGINFO")
        private << command("CLIENT", "TRACKINGINFO")
        private >> b"*6\r\n" + info + integer(CLIENT_ID) + bulk("prefixes") + b"*0\r\n"
        play.client << b"*6\r\n" + info + integer(ident) + bulk("prefixes") + b"*0\r\n"

    def test_to_nobody(self, play: Play) -> None:
        play.client >> command("CLIENT", "TRACKING", "ON", "REDIRECT", 99)
        play.client << b"-ERR The client ID you want redirect to does not exist\r\n"

    def test_several_share_the_connection_of_their_target(self, play: Play) -> None:
        other, third = play.connect(3), play.connect()
        redirect(play, other)
        private = play.private()
        third >> command("CLIENT", "TRACKING", "ON", "REDIRECT", other.session.ident)
        private << command("CLIENT", "TRACKING", "ON", "REDIRECT", CLIENT_ID)
        private >> OK
        third << OK

    def test_it_goes_with_the_target(self, play: Play) -> None:
        """And is not reused: then Redis tells those whose redirection is broken."""
        other = play.connect(3)
        feed, _ = redirect(play, other)
        other.leave()
        assert feed.wire.closed

    def test_without_it_the_target_is_told_by_closing(self, play: Play) -> None:
        other = play.connect(3)
        feed, _ = redirect(play, other)
        feed.lose()
        assert other.closed is not None


class TestMappedKeys:
    """A reply that Redis cannot invalidate is followed by an invalidation."""

    @pytest.fixture
    def play(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[L3Play]:
        with L3Play(monkeypatch) as play:
            yield play

    @pytest.fixture
    def client(self, play: L3Play) -> Client:
        return play.connect(3)

    @pytest.fixture
    def private(self, play: L3Play, client: Client) -> Peer:
        private = play.private(3)
        client >> TRACK
        private << TRACK
        private >> OK
        client << OK
        return private

    async def test_a_row_is_loaded_before_it_is_read(
        self, play: L3Play, client: Client, private: Peer
    ) -> None:
        """Else the load itself would be a change of what was just read."""
        client >> command("CLIENT", "CACHING", "YES") + command("GET", "m:1")
        private << command("CLIENT", "CACHING", "YES")
        private >> OK
        await play.fault_in("m:1", b"row")
        private << command("GET", "m:1") + command("EXISTS", "m:1")  # the very next command
        private >> bulk("row") + integer(1)
        client << OK + bulk("row")

    async def test_no_row_is_not_kept(self, play: L3Play, client: Client, private: Peer) -> None:
        client >> command("GET", "m:1") + command("PING")
        await play.fault_in("m:1", None)
        private << command("GET", "m:1") + command("EXISTS", "m:1") + command("PING")
        private >> NULL3 + integer(0) + PONG
        client << b""
        play.plain3 << step(*ttl_and("GET", "m:1"), stand=["m:1"])
        play.plain3 >> tripped(2, 3)
        await play.show("m:1", None)
        play.plain3 << step(*ttl_and("GET", "m:1"))
        play.plain3 >> ran(integer(-2), NULL3, stand=False)
        client << NULL3 + invalidation([b"m:1"]) + b"+PONG\r\n"

    async def test_a_row_that_l2_does_not_hold_is_answered_and_not_kept(
        self, play: L3Play, client: Client, private: Peer
    ) -> None:
        client >> command("MGET", "x", "m:1")
        await play.fault_in("m:1", b"row")
        private << command("MGET", "x", "m:1") + command("EXISTS", "m:1")
        private >> array([bulk("v"), NULL3]) + integer(0)
        play.plain3 << command("PTTL", "m:1") + command("MGET", "x", "m:1")
        play.plain3 >> integer(-2) + array([bulk("v"), NULL3])
        play.loads.answer("m:1", b"row")
        client << array([bulk("v"), bulk("row")]) + invalidation([b"m:1"])

    async def test_it_came_meanwhile(self, play: L3Play, client: Client, private: Peer) -> None:
        client >> command("HGETALL", "h:1")
        await play.fault_in("h:1", None)
        private << command("HGETALL", "h:1") + command("EXISTS", "h:1")
        private >> b"%0\r\n" + integer(0)
        play.plain3 << step(*ttl_and("HGETALL", "h:1"), stand=["h:1"])
        play.plain3 >> ran(integer(1000), b"%1\r\n" + bulk("f") + bulk("v"))
        client << b"%1\r\n" + bulk("f") + bulk("v") + invalidation([b"h:1"])

    async def test_of_several_keys(self, play: L3Play, client: Client, private: Peer) -> None:
        client >> command("EXISTS", "x", "m:1")
        await play.fault_in("m:1", None)
        private << command("EXISTS", "x", "m:1") + command("EXISTS", "m:1")
        private >> integer(1) + integer(0)
        exists = command("EXISTS", "x", "m:1")
        play.plain3 << step(exists, stand=["m:1"])
        play.plain3 >> tripped(1, 3)
        row = await play.show("m:1", b"row")
        play.plain3 << step(exists, rows=[row])
        play.plain3 >> ran(integer(2), stand=False, filled=1)
        client << integer(2) + invalidation([b"m:1"])

    async def test_an_error_is_nothing_to_keep(
        self, play: L3Play, client: Client, private: Peer
    ) -> None:
        client >> command("GET", "h:1")
        await play.fault_in("h:1", {b"f": b"v"})
        private << command("GET", "h:1") + command("EXISTS", "h:1")
        private >> b"-WRONGTYPE\r\n" + integer(1)
        client << b"-WRONGTYPE\r\n"

    async def test_to_whom_it_is_redirected(self, play: L3Play) -> None:
        other = play.connect(3)
        _, private = redirect(play, other)
        play.client >> command("GET", "m:1")
        await play.fault_in("m:1", None)
        private << command("GET", "m:1") + command("EXISTS", "m:1")
        private >> NULL2 + integer(0)
        play.plain2 << step(*ttl_and("GET", "m:1"), stand=["m:1"])
        play.plain2 >> tripped(2)
        await play.show("m:1", None)
        play.plain2 << step(*ttl_and("GET", "m:1"))
        play.plain2 >> ran(integer(-2), NULL2, stand=False)
        play.client << NULL2
        other << invalidation([b"m:1"])

    async def test_the_connection_is_lost(
        self, play: L3Play, client: Client, private: Peer
    ) -> None:
        client >> command("EXISTS", "x", "m:1")
        await play.fault_in("m:1", None)
        private << command("EXISTS", "x", "m:1") + command("EXISTS", "m:1")
        private.lose()
        assert client.take().startswith(b"-ERR terrace: L2 (redis) ")
        assert client.closed is not None

    def test_other_keys_are_read_as_ever(self, play: L3Play, client: Client, private: Peer) -> None:
        client >> command("GET", "k")
        private << command("GET", "k")
        private >> NULL3
        client << NULL3
