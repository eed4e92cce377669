"""Dialogues with the sessions of one proxy, without sockets, event loop or clock.

    with Play() as play:
        play.client >> command("GET", "k")               # the client sends
        play.tracked << command("PTTL", "k"), ...        # the proxy must have sent upstream
        play.tracked >> b":-1\\r\\n$1\\r\\nv\\r\\n"          # Redis answers
        play.client << b"$1\\r\\nv\\r\\n"                   # the client must have got

`>>` gives bytes to the proxy, `<<` says exactly what it has sent since the last look.
Leaving the play checks that nobody sent anything else, that no write is left in flight
and that the store is sound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from proxy.client.session import Session
from proxy.config.model import Config
from proxy.server import Terrace
from tiers.l1.fill import Fill
from tiers.l2.databases import DatabaseUpstream
from tiers.l2.kept_upstream import KeptUpstream
from tiers.l2.upstream import Upstream
from tiers.wire.pipe import DISCARD
from tiers.wire.resp import OK, PONG, integer, pack

NOWHERE = "unix:///nonexistent/redis.sock"
PING = b"*1\r\n$4\r\nPING\r\n"
CLIENT_ID = 77  # Redis' id of every private connection


def command(*args: str | bytes | int) -> bytes:
    return pack([a if isinstance(a, bytes) else str(a).encode() for a in args])


def fill(*args: str | bytes | int) -> bytes:
    """What a cached read sends upstream: PTTL of its key, then itself."""
    return command("PTTL", args[1]) + command(*args)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """What is to be read is given all the same."""

    def resume_reading(self) -> None:
        pass


class Loop:
    """Runs what was scheduled when told to."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self._ready.append((callback, args))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def tick(self) -> None:
        while self._ready:
            callback, args = self._ready.popleft()
            callback(*args)


class Peer:
    """One connection to Redis, played from the other end."""

    def __init__(self, play: Play, name: str, upstream: Upstream) -> None:
        self._play = play
        self.name = name
        self.upstream = upstream
        self.wire = Wire()
        upstream._loop = cast(asyncio.AbstractEventLoop, play.loop)
        upstream.connection_made(self.wire)
        upstream.send(PING, DISCARD)  # the end of a handshake
        self << PING
        self >> PONG
        upstream.ready = True

    def __lshift__(self, expected: bytes) -> None:
        self._play.tick()
        written, self.wire.written = self.wire.written, b""
        assert written == expected, f"{self.name} was sent {written!r}"

    def __rshift__(self, data: bytes) -> None:
        self._play.tick()
        self.upstream.data_received(data)
        self._play.tick()

    def lose(self) -> None:
        """Redis is gone."""
        self._play.tick()
        self.upstream.connection_lost(None)
        self._play.tick()


class Client:
    """One client connection."""

    def __init__(self, play: Play, session: Session) -> None:
        self._play = play
        self.session = session
        self.received = b""
        self.closed: str | None = None
        self._awake = False
        session.wake = self._wake
        session.on_close_request = self._on_close_request

    def __rshift__(self, data: bytes) -> None:
        self.session.feed(data)
        self._collect()
        self._play.tick()

    def __lshift__(self, expected: bytes) -> None:
        received = self.take()
        assert received == expected, f"the client got {received!r}"

    def take(self) -> bytes:
        """What the client got, for replies that are not known to the byte."""
        self._play.tick()
        received, self.received = self.received, b""
        return received

    @property
    def is_closed(self) -> bool:
        """Closed by the proxy, once everything before was sent."""
        self._play.tick()
        return self.session.closing and not self.session.slot_count

    def leave(self) -> None:
        self._play.terrace.close_session(self.session)
        self._play.clients.remove(self)
        self._play.tick()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._play.loop.call_soon(self._proceed)

    def _proceed(self) -> None:
        self._awake = False
        self.session.proceed()
        self._collect()

    def _on_close_request(self, reason: str) -> None:
        self.closed = reason

    def _collect(self) -> None:
        self.received += self.session.take_output()


class Play:
    """A proxy with all its connections to Redis up, and one client."""

    def __init__(self, *, fields_expire: bool = False, **settings: Any) -> None:
        settings.setdefault("l2", {"url": NOWHERE})
        # What Redis is sent is the command's own; reading again has plays of its own.
        settings["l1"] = {"refresh_on_write": False} | settings.get("l1", {})
        self.now = 1000.0
        self.loop = Loop()
        self.terrace = Terrace(Config.model_validate(settings), clock=lambda: self.now)
        self.terrace.in_next_turn = self.loop.call_soon  # type: ignore[method-assign]
        stack = self.terrace.stack
        stack.l2.fields_expire = fields_expire
        self.l1 = stack.l1
        self.peers: list[Peer] = []
        self.clients: list[Client] = []
        self.plain2 = self._kept("plain RESP2", stack.l2.plain[2])
        self.plain3 = self._kept("plain RESP3", stack.l2.plain[3])
        self.scout = self._opened("scout", stack.l2.databases.scout)
        self.scripts2 = self.script_lane(0, 2)
        if stack.l2.tracked is not None:
            self.tracked = self._kept("tracked", stack.l2.tracked)
            stack.l2._on_tracked_ready(self.now)
        self.client = self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.check()

    def _kept(self, name: str, kept: KeptUpstream) -> Peer:
        peer = Peer(self, name, kept.upstream)
        self.peers.append(peer)
        return peer

    def _opened(self, name: str, of_database: DatabaseUpstream) -> Peer:
        peer = Peer(self, name, of_database.upstream)
        of_database.upstream.pipe.db = max(of_database.db, 0)
        self.peers.append(peer)
        return peer

    def database(self, db: int, proto: int = 2) -> Peer:
        """The open connection in another database."""
        return self._opened(f"database {db}", self.terrace.stack.l2.databases.at(db, proto))

    def script_lane(self, db: int, proto: int) -> Peer:
        """An open connection for scripts in a database."""
        lane = self.terrace.stack.l2.scripts.at(db, proto)
        return self._opened(f"scripts {db} {proto}", lane)

    def select(self, db: int, client: Client | None = None) -> None:
        """A client selects a database, and Redis has it."""
        client = client or self.client
        client >> command("SELECT", db)
        self.scout << command("SELECT", db)
        self.scout >> OK
        client << OK

    def connect(self, proto: int = 2) -> Client:
        ident = len(self.terrace.sessions) + 1
        session = self.terrace.open_session(f"127.0.0.1:{50000 + ident}", "127.0.0.1:7379")
        client = Client(self, session)
        self.clients.append(client)
        if proto == 3:
            client >> command("HELLO", 3)
            assert client.take().startswith(b"%7\r\n")
        return client

    def private(self, proto: int = 2) -> Peer:
        """An idle private connection, ready to be leased, that speaks this protocol."""
        pool = self.terrace.stack.l2.private
        upstream = Upstream(self.terrace.clock, on_closed=lambda reason: None)
        peer = Peer(self, f"private connection {len(self.peers)}", upstream)
        upstream.proto, upstream.client_id = proto, CLIENT_ID
        pool._all.add(upstream)
        pool._idle.append(upstream)
        self.peers.append(peer)
        return peer

    @property
    def idle_private(self) -> int:
        self.tick()
        return self.terrace.stack.l2.private.idle

    def tick(self) -> None:
        self.loop.tick()

    async def settle(self) -> None:
        """Let the tasks of handlers run as far as they can without hearing from anybody."""
        for _ in range(10):
            await asyncio.sleep(0)
            self.tick()

    @property
    def writes_in_flight(self) -> int:
        return 0 if self.l1 is None else self.l1.arena.writes_in_flight

    def cached(self, key: str, variant: bytes = b"") -> bytes | None:
        """What L1 would serve for GET."""
        assert self.l1 is not None
        return self.l1.arena.get(key.encode(), variant, self.now)

    def cache(self, key: str, reply: bytes) -> None:
        """Fill L1 as if it had been read."""
        assert self.l1 is not None
        fill = Fill(self.l1, key.encode(), b"")
        fill.feed(integer(-1), self.now)
        fill.feed(reply, self.now)
        assert fill.commit() is None

    def check(self) -> None:
        for peer in self.peers:
            peer << b""
        for client in self.clients:
            client << b""
            session = client.session
            assert not session.in_flight, f"{session!r} waits for a reply"
            assert session.is_drained or session.closing, f"{session!r} owes a reply"
            assert not session.opaque_in_flight
            assert session.closing or not session.owed_bytes, "bytes that nobody is owed"
            assert not session.mapped_in_flight
        assert not self.writes_in_flight, "a write was never ended"
        if self.l1 is not None:
            self.l1.arena.check()


def confirmation(kind: str, channel: str, count: int, proto: int) -> bytes:
    """What Redis says to (UN)SUBSCRIBE."""
    head = b">3\r\n" if proto == 3 else b"*3\r\n"
    words = b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in (kind, channel))
    return head + words + integer(count)


def message(channel: str, text: str, proto: int) -> bytes:
    head = b">3\r\n" if proto == 3 else b"*3\r\n"
    words = ("message", channel, text)
    return head + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)
