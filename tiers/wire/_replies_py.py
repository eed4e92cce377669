"""RESP replies in readable Python: cuts a server's stream into frames, and RESP3 into RESP2.

This is the definition of correct; the compiled twin must behave identically. Replies
come from a trusted server and are only cut at their boundaries, so that they can be
passed on byte for byte; the wire format is
https://redis.io/docs/reference/protocol-spec/.
"""

from __future__ import annotations

import re

from ..errors import ProtocolError

# Most replies are one bulk string or one line.
_PLAIN_REPLY = re.compile(rb"(?:\$([0-9]{1,9})|[:+-][^\r\n]*)\r\n").match


LENGTH_MAX = 2**40  # the largest length in a header: no reply comes near it
LINE_MAX_BYTES = 4 * 1024**2  # every piece of a line scans the whole line again
OUTSTANDING_MAX = 2**62  # elements still to come; compiled twins count in 64 bits
_LENGTH = re.compile(rb"(?:-1|[0-9]{1,18})\Z").match

_BLOBS = frozenset(b"$!=")
_LINES = frozenset(b"+-:_,#(")
_ATTRIBUTE, _PUSH, _MAP = ord("|"), ord(">"), ord("%")
_ELEMENTS_PER_COUNT = {ord("*"): 1, ord("~"): 1, _PUSH: 1, _MAP: 2, _ATTRIBUTE: 2}


class ReplyScanner:
    """Bytes from Redis in, complete reply frames out, each exactly as it was sent.

    Nesting needs no stack: an aggregate of n elements adds n to the outstanding
    elements. Redis 6 may put a push *inside* an array reply (for keys that expire
    during the command); it is cut out and delivered before the reply.
    `replace` drops a reply that takes too much memory while it comes: the rest of it is
    skipped, and another frame is handed out when it ends.
    Raises ProtocolError for bytes that are not RESP: the stream is then lost.
    """

    __slots__ = (
        "_buffer", "_inner_start", "_instead", "_need", "_outer", "_outstanding", "_pos",
        "_pushes", "_skip",
    )  # fmt: skip

    def __init__(self) -> None:
        self._buffer: bytearray | None = None  # only while a frame is incomplete
        self._pos = 0
        self._outstanding = 0
        self._need = 0
        self._outer = 0  # the outstanding elements of the reply around an embedded push
        self._inner_start = 0
        self._pushes: list[tuple[int, int]] = []
        self._instead: bytes | None = None  # replaces the reply under way
        self._skip = 0  # bytes to come of one of its elements

    @property
    def pending_bytes(self) -> int:
        """The known size of the reply under way; 0 if it cannot be replaced."""
        if not self._outstanding or self._outer or self._pushes or self._instead is not None:
            return 0
        if self._buffer is None or self._buffer[0] == _PUSH:
            return 0
        return max(len(self._buffer), self._need)

    def replace(self, frame: bytes) -> None:
        """Drop the reply under way; `frame` is handed out when it ends."""
        self._instead = frame
        self._forget()

    def _forget(self) -> None:
        buffer = self._buffer or b""
        if self._need > len(buffer):
            self._skip, self._outstanding = self._need - len(buffer), self._outstanding - 1
            self._buffer = None
        else:
            self._buffer = bytearray(buffer[self._pos :]) or None
        self._pos = self._need = 0

    def feed(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
            if not self._skip and not self._outstanding:
                frames.append(self._ended())
        if data:
            self._feed(data, frames)
        return frames

    def _feed(self, data: bytes, frames: list[bytes]) -> None:
        buffer: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._need:
                return
            buffer = self._buffer
        start = self._scan(buffer, frames)
        if start == len(buffer):
            self._buffer = None
            self._pos = self._need = 0
        else:
            if self._buffer is None:
                self._buffer = bytearray(buffer[start:])
            elif start:
                del self._buffer[:start]
            self._pos -= start
            self._need -= start
            if start:
                self._inner_start -= start
                self._pushes = [(a - start, b - start) for a, b in self._pushes]
        if self._instead is not None:
            self._forget()

    def _ended(self) -> bytes:
        frame, self._instead = self._instead, None
        assert frame is not None
        return frame

    def _scan(self, buffer: bytes | bytearray, frames: list[bytes]) -> int:
        """Append complete frames; return where the incomplete one starts."""
        find, size = buffer.find, len(buffer)
        pos, outstanding, start = self._pos, self._outstanding, 0
        while pos < size:
            if outstanding == 0:
                plain = _PLAIN_REPLY(buffer, pos)
                if plain is not None:
                    end = plain.end() + (int(plain[1]) + 2 if plain[1] is not None else 0)
                    if end <= size:
                        frames.append(bytes(buffer[pos:end]))
                        start = pos = end
                        continue
                start, outstanding = pos, 1
            kind = buffer[pos]
            eol = find(b"\r\n", pos)
            if eol < 0:
                if size - pos > LINE_MAX_BYTES:
                    raise ProtocolError("a line without end in a reply from Redis")
                self._need = 0
                break
            if kind in _BLOBS:
                length = _header(buffer, pos, eol)
                end = eol + 2 if length < 0 else eol + 4 + length
                if end > size:
                    self._need = end
                    break
                pos = end
                outstanding -= 1
            elif kind in _LINES:
                pos = eol + 2
                outstanding -= 1
            elif kind in _ELEMENTS_PER_COUNT:
                count = max(0, _header(buffer, pos, eol)) * _ELEMENTS_PER_COUNT[kind]
                if kind == _PUSH and self._instead is not None:
                    raise ProtocolError("a push inside a reply from Redis that is too large")
                if kind == _PUSH and pos != start:
                    if self._outer:
                        raise ProtocolError("a push inside a push from Redis")
                    self._outer, self._inner_start = outstanding, pos
                    outstanding = count
                elif kind == _ATTRIBUTE:
                    outstanding += count  # precedes the reply, does not replace it
                else:
                    outstanding += count - 1
                if outstanding > OUTSTANDING_MAX:
                    raise ProtocolError("bad length in a reply from Redis")
                pos = eol + 2
            else:
                raise ProtocolError(f"unknown reply type {chr(kind)!r} from Redis")
            if outstanding == 0:
                if self._outer:
                    self._pushes.append((self._inner_start, pos))
                    outstanding, self._outer = self._outer, 0
                else:
                    frames.extend(self._cut(buffer, start, pos))
                    start = pos
        self._pos, self._outstanding = pos, outstanding
        return start

    def _cut(self, buffer: bytes | bytearray, start: int, end: int) -> list[bytes]:
        if self._instead is not None:
            return [self._ended()]
        if not self._pushes:
            return [bytes(buffer[start:end])]
        pushes, reply, last = [], bytearray(), start
        for a, b in self._pushes:
            pushes.append(bytes(buffer[a:b]))
            reply += buffer[last:a]
            last = b
        reply += buffer[last:end]
        self._pushes = []
        return [*pushes, bytes(reply)]


def _header(buffer: bytes | bytearray, pos: int, eol: int) -> int:
    text = buffer[pos + 1 : eol]
    length = int(text) if _LENGTH(text) else LENGTH_MAX + 1
    if length > LENGTH_MAX:
        raise ProtocolError("bad length in a reply from Redis")
    return length


def to_resp2(reply: bytes, rule: str = "plain") -> bytes:
    """Rewrite one RESP3 reply as Redis would send it under RESP2.

    `rule` names the difference beyond notation, per command:
    "plain" only notation; "pairs" [[member, score], ...] becomes flat (ZRANGE
    WITHSCORES); "null_array" nulls become `*-1` (GEOPOS).
    """
    if reply[0] in b"+-:$":
        return reply
    out: list[bytes] = []
    pos, size = 0, len(reply)
    depth_one_left = -1
    while pos < size:
        kind = reply[pos]
        eol = reply.index(b"\r\n", pos)
        head = reply[pos + 1 : eol]
        nxt = eol + 2
        if kind in b"$=!" and head != b"-1":
            end = nxt + int(head)
            body = reply[nxt:end]
            if kind == ord("="):
                body = body[4:]
            if kind == ord("!"):  # only this form of an error may hold line ends
                out.append(b"-%b\r\n" % body.replace(b"\r", b" ").replace(b"\n", b" "))
            else:
                out.append(b"$%d\r\n%b\r\n" % (len(body), body))
            nxt = end + 2
        elif kind == ord("_"):
            out.append(b"*-1\r\n" if rule == "null_array" else b"$-1\r\n")
        elif kind in b",(":
            out.append(b"$%d\r\n%b\r\n" % (len(head), head))
        elif kind == ord("#"):
            out.append(b":1\r\n" if head == b"t" else b":0\r\n")
        elif kind in b"~>":
            out.append(b"*%b\r\n" % head)
        elif kind == ord("%"):
            out.append(b"*%d\r\n" % (2 * int(head)))
        elif kind == ord("*") and rule == "pairs" and reply[nxt : nxt + 4] == b"*2\r\n":
            out.append(b"*%d\r\n" % (2 * int(head)))
            depth_one_left = int(head)
        elif kind == ord("*") and depth_one_left > 0 and head == b"2":
            depth_one_left -= 1
        else:
            out.append(reply[pos:nxt])
        pos = nxt
    return b"".join(out)
