"""Redis' glob patterns (util.c stringmatchlen) as compiled regular expressions.

Every `*` but the last is compiled to an atomic group that takes the leftmost match
of what follows it, which is always right for globs and keeps a hostile pattern from
backtracking exponentially.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=256)
def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """A function that tells whether a key matches `pattern`."""
    segments = _segments(pattern)
    if len(segments) == 1:
        source = segments[0]
    else:
        middle = b"".join(b"(?>.*?" + s + b")" for s in segments[1:-1] if s)
        source = segments[0] + middle + b".*" + segments[-1]
    compiled = re.compile(source, re.DOTALL)
    return lambda key: compiled.fullmatch(key) is not None


def literal_prefix(pattern: bytes) -> bytes:
    """What every match starts with."""
    end = re.search(rb"[*?\[\\]", pattern)
    return pattern[: end.start()] if end else pattern


def _segments(pattern: bytes) -> list[bytes]:
    """The parts between stars, each as regex source."""
    segments, current = [], b""
    pos, size = 0, len(pattern)
    while pos < size:
        char = pattern[pos : pos + 1]
        if char == b"*":
            segments.append(current)
            current = b""
        elif char == b"?":
            current += b"."
        elif char == b"[":
            source, pos = _char_class(pattern, pos + 1)
            current += source
        else:
            if char == b"\\" and pos + 1 < size:
                pos += 1
                char = pattern[pos : pos + 1]
            current += re.escape(char)
        pos += 1
    return [*segments, current]


def _char_class(pattern: bytes, pos: int) -> tuple[bytes, int]:
    """Regex source of the class that starts after '[', and the position of its last byte."""
    size = len(pattern)
    negated = pattern[pos : pos + 1] == b"^"
    if negated:
        pos += 1
    members: set[int] = set()
    while pos < size and pattern[pos : pos + 1] != b"]":
        if pattern[pos : pos + 1] == b"\\" and pos + 1 < size:
            pos += 1
            members.add(pattern[pos])
        elif pattern[pos + 1 : pos + 2] == b"-" and pos + 2 < size:
            low, high = sorted((pattern[pos], pattern[pos + 2]))
            members.update(range(low, high + 1))
            pos += 2
        else:
            members.add(pattern[pos])
        pos += 1
    if not members:
        return (b"." if negated else b"(?!)"), min(pos, size - 1)
    body = b"".join(b"\\x%02x" % m for m in sorted(members))
    return b"[" + (b"^" if negated else b"") + body + b"]", min(pos, size - 1)
