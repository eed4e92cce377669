"""Redis at the other end of a private connection, as far as its states go.

It answers what it was sent, and knows for itself whether the connection is in MULTI, watches,
is subscribed, monitors or tracks.
"""

from __future__ import annotations

from collections import deque

from tests.proxy.session_play import Peer, confirmation, message
from tiers.proxy_door import RequestScanner
from tiers.wire.resp import OK, PONG, QUEUED, array, bulk, error, integer, null, push, simple

_ALLOWED = frozenset(("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PING", "RESET"))
_LINE = b'+1700000000.123456 [0 127.0.0.1:1] "GET" "k"\r\n'


class ModelledConnection:
    """Answers in order; a blocking command is answered when `wake` is called."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._scanner = RequestScanner()
        self._requests: deque[list[bytes]] = deque()
        self.blocked = False
        self.tracked = False  # ever
        self.reset()

    def __repr__(self) -> str:
        return f"<{self.peer.name} {self.states}>"

    def reset(self) -> None:
        self.in_multi = self.dirty = self.watching = self.monitoring = self.tracking = False
        self.queued: list[str] = []
        self.names: dict[str, set[str]] = {"channels": set(), "patterns": set()}

    @property
    def is_open(self) -> bool:
        return self.peer.upstream.ready

    @property
    def proto(self) -> int:
        return self.peer.upstream.proto

    @property
    def subscribed(self) -> bool:
        return any(self.names.values())

    @property
    def states(self) -> dict[str, bool]:
        """By the names of the table."""
        return {
            "multi": self.in_multi,
            "watching": self.watching,
            "subscribed": self.subscribed,
            "monitoring": self.monitoring,
            "tracking": self.tracking,
        }

    def read(self) -> bool:
        """Take what was sent; whether there was anything."""
        written, self.peer.wire.written = self.peer.wire.written, b""
        self._requests.extend(request[0] for request in self._scanner.feed(written))
        return bool(written)

    def answer_one(self) -> bool:
        """Answer the oldest request; whether there was one that can be answered."""
        if self.blocked or not self._requests:
            return False
        args = self._requests.popleft()
        name = args[0].decode().upper()
        if name == "BLPOP" and not self.in_multi:
            self.blocked = True
            return True
        self.peer >> self._reply(name, args)
        return True

    def wake(self) -> None:
        if self.blocked:
            self.blocked = False
            self.peer >> null_array(self.proto)

    def say(self) -> None:
        """A message, a line of MONITOR and an invalidation, where the connection gets them."""
        if "a" in self.names["channels"]:
            self.peer >> message("a", "text", self.proto)
        if self.monitoring:
            self.peer >> _LINE
        if self.tracking:
            self.peer >> push([bulk(b"invalidate"), array([bulk(b"k")])], 3)

    def _reply(self, name: str, args: list[bytes]) -> bytes:
        if name == "RESET":
            self.reset()
            return simple("RESET")
        if name == "HELLO":
            return b"%0\r\n"
        if self.proto == 2 and self.subscribed and name not in _ALLOWED:
            return error(f"ERR Can't execute '{name.lower()}' in this context")
        if name == "EXEC" and len(args) > 1:
            self._end()
            return error("EXECABORT Transaction discarded because of: wrong number of arguments")
        if name in ("MULTI", "DISCARD", "UNWATCH", "MONITOR") and len(args) > 1:
            self.dirty = self.in_multi
            return error(f"ERR wrong number of arguments for '{name.lower()}' command")
        if name == "MULTI":
            if self.in_multi:
                return error("ERR MULTI calls can not be nested")
            self.in_multi = True
            return OK
        if name in ("EXEC", "DISCARD"):
            return self._ended(name)
        if self.in_multi:
            if name == "WATCH":
                return error("ERR WATCH inside MULTI is not allowed")
            self.queued.append(name)
            return QUEUED
        return self._outside_multi(name, args)

    def _ended(self, name: str) -> bytes:
        if not self.in_multi:
            return error(f"ERR {name} without MULTI")
        queued, dirty = self.queued, self.dirty
        self._end()
        if name == "DISCARD":
            return OK
        if dirty:
            return error("EXECABORT Transaction discarded because of previous errors.")
        return array([error("ERR not here") if name == "MONITOR" else OK for name in queued])

    def _end(self) -> None:
        self.in_multi = self.dirty = self.watching = False
        self.queued = []

    def _outside_multi(self, name: str, args: list[bytes]) -> bytes:
        if name.endswith("SUBSCRIBE"):
            return self._subscribed(name, [arg.decode() for arg in args[1:]])
        if name in ("WATCH", "UNWATCH"):
            self.watching = name == "WATCH"
        elif name == "MONITOR":
            self.monitoring = True
        elif name == "CLIENT":
            if self.proto == 2:
                return error("ERR tracking needs a redirection or RESP3")
            self.tracking = args[2].upper() == b"ON"
            self.tracked = True
        elif name == "PING":
            talks = self.proto == 2 and self.subscribed
            return array([bulk(b"pong"), bulk(b"")]) if talks else PONG
        elif name == "GET":
            return bulk(b"v")
        elif name != "SET":
            return error(f"ERR unknown command '{name}'")
        return OK

    def _subscribed(self, command: str, given: list[str]) -> bytes:
        names = self.names["patterns" if command.startswith("P") else "channels"]
        leaves = "UNSUB" in command
        if leaves and not given and not names:
            nothing = [bulk(command.lower()), null(self.proto), integer(self._count)]
            return push(nothing, self.proto)
        frames = []
        for name in given or sorted(names):
            (names.discard if leaves else names.add)(name)
            frames.append(confirmation(command.lower(), name, self._count, self.proto))
        return b"".join(frames)

    @property
    def _count(self) -> int:
        return sum(map(len, self.names.values()))


def null_array(proto: int) -> bytes:
    return null(proto) if proto == 3 else b"*-1\r\n"
