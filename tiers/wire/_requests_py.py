"""RESP requests in readable Python: cuts the bytes of a client into commands.

This is the definition of correct; the compiled twin must behave identically.
Nothing here does IO, reads a clock or knows what a command means.

Requests follow Redis' own `processInlineBuffer` and `processMultibulkBuffer`
(src/networking.c): the same limits, the same error texts, the same leniency. A header
ends at its CR, and any byte may follow it, and any two bytes may follow a bulk (Valkey 9
closes the connection for that). The scanner always hands out the canonical form, because
it goes on to Redis over a connection that clients share.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import hiredis

Request: TypeAlias = tuple[list[bytes], bytes, int, int]
"""Arguments, and the slice (buffer, start, end) that holds them as canonical RESP."""

INLINE_MAX_BYTES = 64 * 1024  # PROTO_INLINE_MAX_SIZE
PREAUTH_MULTIBULK_MAX = 10  # Redis 6.2+, before authentication
PREAUTH_BULK_MAX_BYTES = 16 * 1024

_CANONICAL_INTEGER = re.compile(rb"(?:0|-?[1-9][0-9]{0,18})\Z")
# The headers of nearly all requests, parsed once: a dict lookup is also the strict check.
_MULTIBULK = {b"*%d\r\n" % n: n for n in range(1, 1025)}
_BULK = {b"$%d\r\n" % n: n for n in range(4096)}

# Most requests are GET k, TTL k, DEL k: one match for both headers takes half the time.
_SHORT = re.compile(rb"\*2\r\n\$3\r\n(...)\r\n\$(0|[1-9][0-9]{0,2})\r\n", re.DOTALL).match
_SHORT_MAX_BYTES = 999

_CR, _LF, _CRLF = b"\r", b"\n", b"\r\n"
_STAR, _DOLLAR = ord("*"), ord("$")


def parse_integer(text: bytes) -> int | None:
    """Redis' string2ll: 64 bits, no sign but '-', no leading zeros or spaces; None otherwise."""
    if not _CANONICAL_INTEGER.match(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def pack(args: list[bytes]) -> bytes:
    """Encode one command as an array of bulk strings."""
    packed: bytes = hiredis.pack_command(tuple(args))  # type: ignore[arg-type]  # its stub says 1-tuple
    return packed


def _packed(args: list[bytes]) -> Request:
    packed = pack(args)
    return args, packed, 0, len(packed)


class RequestScanner:
    """Bytes of one client in, complete commands out.

    `feed` returns the commands completed by these bytes. After a protocol error
    it returns the commands before it, `error` holds Redis' text (send it as
    `-ERR Protocol error: <text>` before closing; it is empty if Redis closes without
    a reply) and further bytes are ignored. Before authentication it stops after each
    command with `paused` set: run the command, then continue with `feed(b"")`.
    """

    __slots__ = (
        "_args",
        "_args_bytes",
        "_chunks",
        "_held",
        "_known_counts",
        "_known_lengths",
        "_left",
        "_need",
        "authenticated",
        "buffer_max_bytes",
        "bulk_max_bytes",
        "error",
        "multibulk_max",
        "paused",
    )  # fmt: skip

    def __init__(
        self,
        *,
        bulk_max_bytes: int = 512 * 1024**2,
        multibulk_max: int = 1024**2,
        buffer_max_bytes: int = 1024**3,
    ) -> None:
        self.bulk_max_bytes = bulk_max_bytes
        self.multibulk_max = multibulk_max
        self.buffer_max_bytes = buffer_max_bytes
        # Limits below the range of the tables need the slow check for every header.
        self._known_counts = _MULTIBULK if multibulk_max >= len(_MULTIBULK) else {}
        self._known_lengths = _BULK if bulk_max_bytes >= len(_BULK) else {}
        self.authenticated = True
        self.paused = False
        self.error: str | None = None
        self._args: list[bytes] = []  # of an incomplete command
        self._args_bytes = 0
        self._left = 0  # arguments it still lacks
        self._chunks: list[bytes] = []  # bytes after the last complete argument
        self._held = 0
        self._need = 0  # how many bytes complete the next argument, if known

    @property
    def buffered_bytes(self) -> int:
        return self._held + self._args_bytes

    def feed(self, data: bytes) -> list[Request]:
        if self.error is not None:
            return []
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._need:
                self._check_bound()
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = self._need = 0
        requests: list[Request] = []
        self.paused = False
        pos = self._scan(data, requests)
        if pos < len(data) and self.error is None:
            self._chunks.append(data[pos:] if pos else data)
            self._held = len(data) - pos
        self._check_bound()
        return requests

    def _check_bound(self) -> None:
        if self.buffered_bytes > self.buffer_max_bytes:
            self.error = ""  # Redis closes such a client without a reply
            self._chunks.clear()
            self._args.clear()
            self._held = self._args_bytes = 0

    def _scan(self, data: bytes, requests: list[Request]) -> int:
        """Append the complete commands of `data`; return where the incomplete rest starts."""
        find, size = data.find, len(data)
        known_counts, known_lengths = self._known_counts, self._known_lengths
        try_short = self.bulk_max_bytes >= _SHORT_MAX_BYTES
        pos = self._resume(data, requests) if self._left else 0
        while pos < size and not self._left:
            if requests and not self.authenticated:
                # This command may log in, and then other limits hold for the next ones.
                self.paused = True
                break
            short = _SHORT(data, pos) if try_short else None
            if short is not None:
                begin = short.end()
                end = begin + int(short[2])
                if data[end : end + 2] == _CRLF:
                    requests.append(([short[1], data[begin:end]], data, pos, end + 2))
                    pos = end + 2
                    continue
            if data[pos] != _STAR:
                end = self._scan_inline(data, pos, requests)
                if end < 0:
                    return pos
                pos = end
                continue
            eol = find(_CR, pos)
            count = known_counts.get(data[pos : eol + 2]) if eol >= 0 else None
            canonical = count is not None or data[eol : eol + 2] == _CRLF
            if count is None or (count > PREAUTH_MULTIBULK_MAX and not self.authenticated):
                count = self._unusual_count(data, pos, eol)
                if count is None:
                    return pos
                if count <= 0:
                    pos = eol + 2
                    continue
            start, pos = pos, eol + 2
            args: list[bytes] = []
            for _ in range(count):
                eol = find(_CR, pos)
                length = known_lengths.get(data[pos : eol + 2]) if eol > 0 else None
                if length is None:
                    length = self._checked_length(data, pos, eol)
                    canonical = canonical and data[eol : eol + 2] == _CRLF
                begin = eol + 2
                end = begin + length
                if length < 0 or end + 2 > size:
                    break
                args.append(data[begin:end])
                canonical = canonical and data[end : end + 2] == _CRLF
                pos = end + 2
            else:
                requests.append((args, data, start, pos) if canonical else _packed(args))
                continue
            # Incomplete: keep the complete arguments, so that no byte is scanned twice.
            self._args, self._left = args, count - len(args)
            self._args_bytes = pos - start
            self._need = max(0, end + 2 - pos) if length >= 0 else 0
        return pos

    def _resume(self, data: bytes, requests: list[Request]) -> int:
        pos, size, args = 0, len(data), self._args
        while self._left:
            eol = data.find(_CR, pos)
            length = self._checked_length(data, pos, eol)
            if length < 0:
                break
            end = eol + 2 + length
            if end + 2 > size:
                self._need = end + 2 - pos
                break
            args.append(data[eol + 2 : end])
            self._left -= 1
            pos = end + 2
        if self._left == 0:
            requests.append(_packed(args))
            self._args, self._args_bytes = [], 0
        else:
            self._args_bytes += pos
        return pos

    def _unusual_count(self, data: bytes, pos: int, eol: int) -> int | None:
        """Arguments of the command whose header starts at `pos`; None if incomplete or wrong."""
        size = len(data)
        if eol < 0 or eol + 2 > size or _hides(data, pos, eol):
            if size - pos > INLINE_MAX_BYTES:
                self.error = "too big mbulk count string"
            return None
        count = parse_integer(data[pos + 1 : eol])
        if count is None or count > self.multibulk_max:
            self.error = "invalid multibulk length"
            return None
        if count > PREAUTH_MULTIBULK_MAX and not self.authenticated:
            self.error = "unauthenticated multibulk length"
            return None
        return count

    def _checked_length(self, data: bytes, pos: int, eol: int) -> int:
        """Length of the bulk whose header starts at `pos`; -1 when incomplete or wrong."""
        size = len(data)
        if eol < 0 or eol + 2 > size or _hides(data, pos, eol):
            if size - pos > INLINE_MAX_BYTES:
                self.error = "too big bulk count string"
            return -1
        if data[pos] != _DOLLAR:
            self.error = f"expected '$', got '{chr(data[pos])}'"
            return -1
        length = parse_integer(data[pos + 1 : eol])
        if length is None or length < 0 or length > self.bulk_max_bytes:
            self.error = "invalid bulk length"
            return -1
        if length > PREAUTH_BULK_MAX_BYTES and not self.authenticated:
            self.error = "unauthenticated bulk length"
            return -1
        return length

    def _scan_inline(self, data: bytes, pos: int, requests: list[Request]) -> int:
        """One inline command from `pos`; where it ends, or -1 when incomplete or wrong."""
        eol = data.find(_LF, pos)
        if eol < 0 or _hides(data, pos, eol):
            if len(data) - pos > INLINE_MAX_BYTES:
                self.error = "too big inline request"
            return -1
        line = data[pos:eol]
        args = split_inline(line[:-1] if line.endswith(_CR) else line)
        if args is None:
            self.error = "unbalanced quotes in request"
            return -1
        if args:
            requests.append(_packed(args))
        return eol + 1


def _hides(data: bytes, pos: int, eol: int) -> bool:
    """Whether Redis does not see this end of the line: its strchr ends at a NUL."""
    return data.find(0, pos, eol) >= 0


_INLINE_SPACE = b" \n\r\t\x0b\x0c\0"  # between arguments, and after a closing quote
_INLINE_END = b" \n\r\t\0"  # of an unquoted argument
_INLINE_ESCAPES = dict(zip(b"nrtba", (b"\n", b"\r", b"\t", b"\b", b"\a"), strict=True))
_HEX_ESCAPE = re.compile(rb"x[0-9A-Fa-f]{2}")


def split_inline(line: bytes) -> list[bytes] | None:
    """Split an inline command as Redis' sdssplitargs does; None for unbalanced quotes."""
    args: list[bytes] = []
    pos, size = 0, len(line)
    while True:
        while pos < size and line[pos] in _INLINE_SPACE:
            pos += 1
        if pos >= size:
            return args
        arg = bytearray()
        while pos < size and line[pos] not in _INLINE_END:
            quote = line[pos]
            if quote not in b"\"'":
                arg.append(quote)
                pos += 1
                continue
            pos += 1
            while True:
                if pos >= size:
                    return None
                char = line[pos]
                if char == quote:
                    pos += 1
                    if pos < size and line[pos] not in _INLINE_SPACE:
                        return None  # a closing quote must end the argument
                    break
                if char == 0x5C and quote == 0x22 and pos + 1 < size:
                    if _HEX_ESCAPE.match(line, pos + 1):
                        arg.append(int(line[pos + 2 : pos + 4], 16))
                        pos += 4
                    else:
                        escaped = line[pos + 1]
                        arg += _INLINE_ESCAPES.get(escaped, bytes((escaped,)))
                        pos += 2
                elif char == 0x5C and quote == 0x27 and line[pos + 1 : pos + 2] == b"'":
                    arg += b"'"
                    pos += 2
                else:
                    arg.append(char)
                    pos += 1
            break
        args.append(bytes(arg))
