"""Redis' glob patterns (util.c stringmatchlen) as compiled regular expressions.

Every `*` but the last is compiled to an atomic group that takes the leftmost match
of the text that follows it. This is always right for globs and prevents exponential
backtracking with a hostile pattern.

The cost of a pattern is bounded: reading it takes time in proportion to its length; it is
compiled only for a text that is long enough to match; and two kinds of patterns match nothing,
because neither a key nor a name needs them: patterns of more than `PATTERN_MAX_BYTES`, and
patterns with more than `STARS_MAX` stars (the limit of Redis).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

PATTERN_MAX_BYTES = 64 * 1024  # as long as a key that L1 can hold
STARS_MAX = 1000  # runs of stars, apart from a last one
KEPT_MAX_BYTES = 1024  # longer patterns are not remembered
_ANY = re.compile(rb"\*+")
_LITERAL = re.compile(rb"[^*?\[\\]+")


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """A function that returns whether a key matches `pattern`."""
    return _kept(pattern) if len(pattern) <= KEPT_MAX_BYTES else _matcher(pattern)


def _matcher(pattern: bytes) -> Callable[[bytes], bool]:
    if len(pattern) > PATTERN_MAX_BYTES:
        return lambda key: False
    segments, least_bytes = _segments(pattern)
    if len(segments) - 2 > STARS_MAX:
        return lambda key: False
    compiled: list[re.Pattern[bytes]] = []

    def matches(key: bytes) -> bool:
        if len(key) < least_bytes:
            return False
        if not compiled:
            compiled.append(re.compile(_source(segments), re.DOTALL))
        return compiled[0].fullmatch(key) is not None

    return matches


_kept = lru_cache(maxsize=256)(_matcher)


def literal_prefix(pattern: bytes) -> bytes:
    """The text that every match starts with."""
    end = re.search(rb"[*?\[\\]", pattern)
    return pattern[: end.start()] if end else pattern


def _source(segments: list[bytes]) -> bytes:
    if len(segments) == 1:
        return segments[0]
    middle = b"".join(b"(?>.*?" + s + b")" for s in segments[1:-1] if s)
    return segments[0] + middle + b".*" + segments[-1]


def _segments(pattern: bytes) -> tuple[list[bytes], int]:
    """The parts between stars, each as regex source; and the length of the shortest match."""
    segments: list[bytes] = []
    current: list[bytes] = []
    least_bytes = 0
    for source, length in _parts(pattern):
        if source:
            current.append(source)
            least_bytes += length
        else:
            segments.append(b"".join(current))
            current.clear()
            if len(segments) > STARS_MAX + 1:
                break
    return [*segments, b"".join(current)], least_bytes


def _parts(pattern: bytes) -> Iterator[tuple[bytes, int]]:
    """Regex source, and how many bytes it matches; no source for a run of stars."""
    pos, size = 0, len(pattern)
    while pos < size:
        char = pattern[pos : pos + 1]
        if char == b"*":
            found = _ANY.match(pattern, pos)
            assert found is not None
            pos = found.end()
            yield b"", 0
            continue
        if char == b"?":
            yield b".", 1
        elif char == b"[":
            source, pos = _char_class(pattern, pos + 1)
            yield source, 1
        elif char == b"\\" and pos + 1 < size:
            pos += 1
            yield re.escape(pattern[pos : pos + 1]), 1
        elif found := _LITERAL.match(pattern, pos):
            yield re.escape(found[0]), len(found[0])
            pos = found.end()
            continue
        else:  # a backslash at the end
            yield re.escape(char), 1
        pos += 1


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
