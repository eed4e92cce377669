"""Redis' glob patterns, against a transcription of its own matcher."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiers.glob import PATTERN_MAX_BYTES, STARS_MAX, literal_prefix, matcher


def stringmatch(pattern: bytes, text: bytes) -> bool:
    """Redis' stringmatchlen (util.c), step by step."""
    p = t = 0
    while p < len(pattern) and t < len(text):
        match pattern[p : p + 1]:
            case b"*":
                while pattern[p + 1 : p + 2] == b"*":
                    p += 1
                if p + 1 == len(pattern):
                    return True
                return any(stringmatch(pattern[p + 1 :], text[at:]) for at in range(t, len(text)))
            case b"?":
                pass
            case b"[":
                matched, p = _class(pattern, p + 1, text[t])
                if not matched:
                    return False
            case b"\\" if p + 1 < len(pattern):
                p += 1
                if pattern[p] != text[t]:
                    return False
            case char:
                if char != text[t : t + 1]:
                    return False
        p += 1
        t += 1
    if t == len(text):
        while pattern[p : p + 1] == b"*":
            p += 1
    return p >= len(pattern) and t == len(text)


def _class(pattern: bytes, p: int, char: int) -> tuple[bool, int]:
    negated = pattern[p : p + 1] == b"^"
    p += negated
    matched = False
    while True:
        if pattern[p : p + 1] == b"\\" and len(pattern) - p >= 2:
            p += 1
            matched |= pattern[p] == char
        elif pattern[p : p + 1] == b"]":
            break
        elif p >= len(pattern):
            p -= 1
            break
        elif len(pattern) - p >= 3 and pattern[p + 1 : p + 2] == b"-":
            low, high = sorted((pattern[p], pattern[p + 2]))
            matched |= low <= char <= high
            p += 2
        else:
            matched |= pattern[p] == char
        p += 1
    return matched != negated, p


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (b"*", [b"", b"a", b"a\nb"], []),
        (b"", [b""], [b"a"]),
        (b"user:*", [b"user:", b"user:1"], [b"User:1", b"a user:1"]),
        (b"*:1", [b":1", b"a:1", b"a:1:1"], [b"a:11"]),
        (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
        (b"h[ae]llo", [b"hallo", b"hello"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo", b"h^llo"], [b"hello"]),
        (b"h[a-c]llo", [b"hbllo"], [b"hdllo"]),
        (b"h[c-a]llo", [b"hbllo"], [b"hdllo"]),
        (b"h\\*llo", [b"h*llo"], [b"hello"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"[\\]]", [b"]"], [b"\\"]),
        (b"[a-", [b"a", b"-"], [b"b"]),
        (b"[abc", [b"a", b"c"], [b"["]),
        (b"a.b+c", [b"a.b+c"], [b"axbbc"]),
        (b"*a*b*c*", [b"abc", b"xaxbxcx"], [b"acb"]),
        (b"\xff*", [b"\xff\x00"], [b"\xfe"]),
    ],
)
def test_patterns(pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
    matches = matcher(pattern)
    for text in yes + no:
        assert matches(text) == stringmatch(pattern, text) == (text in yes), text


PATTERNS = st.sampled_from([b"a", b"b", b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"c"])
TEXTS = st.sampled_from([b"a", b"b", b"c", b"]", b"-", b"\n"])


@given(
    st.lists(PATTERNS, max_size=9).map(b"".join),
    st.lists(TEXTS, max_size=7).map(b"".join),
)
@example(b"[]", b"a")
@example(b"[^]", b"a")
def test_like_redis(pattern: bytes, text: bytes) -> None:
    assert matcher(pattern)(text) == stringmatch(pattern, text)
    if matcher(pattern)(text):
        assert text.startswith(literal_prefix(pattern))


def test_a_hostile_pattern_ends_in_time() -> None:
    began = time.process_time()
    assert not matcher(b"*a" * 40 + b"b")(b"a" * 2000)
    assert not matcher(b"a*" * 40 + b"b")(b"a" * 2000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "pattern",
    [
        b"*a" * 200_000, b"*a" * 30_000, b"?" * 400_000, b"?" * 60_000, b"[" + b"a-c" * 20_000,
        b"\\a" * 30_000, b"a" * 60_000, b"a*" * 512, b"*?" * 900,
    ],
)  # fmt: skip
def test_a_long_pattern_costs_little(pattern: bytes) -> None:
    """It was read in a time that grew with the square of its length: 400 kB took 8 s."""
    began = time.process_time()
    matches = matcher(pattern)
    assert not any(matches(b"a name %d" % n) for n in range(100))
    assert time.process_time() - began < 0.5


def test_what_is_too_much_matches_nothing() -> None:
    """As in Redis, which gives up at a thousand stars that have something between them."""
    assert matcher(b"*" * 5000 + b"a")(b"cba"), "many stars are one"
    assert matcher(b"*a" * STARS_MAX)(b"a" * STARS_MAX)
    assert not matcher(b"*a" * (STARS_MAX + 2))(b"a" * (STARS_MAX + 2))
    assert matcher(b"a" * PATTERN_MAX_BYTES)(b"a" * PATTERN_MAX_BYTES)
    assert not matcher(b"a" * PATTERN_MAX_BYTES + b"*")(b"a" * (PATTERN_MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [(b"a:*", b"a:"), (b"*", b""), (b"a", b"a"), (b"a?b", b"a"), (b"a\\*", b"a"), (b"a[b]", b"a")],
)
def test_literal_prefix(pattern: bytes, prefix: bytes) -> None:
    assert literal_prefix(pattern) == prefix
