"""The reply scanner and the conversion to RESP2: every type, nested, wherever the bytes are cut."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from types import ModuleType

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers.splits import cut, every_split
from tests.tiers.twin_modules import twins
from tiers.errors import ProtocolError
from tiers.wire._replies_py import ReplyScanner, to_resp2
from tiers.wire.resp import bulk


@pytest.fixture(
    autouse=True, scope="module", params=twins("tiers.wire._replies_py", "tiers.wire._replies")
)
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests of this module run with each twin."""
    module: ModuleType = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "ReplyScanner", module.ReplyScanner)
        yield


def scan(chunks: Iterable[bytes]) -> list[bytes]:
    scanner = ReplyScanner()
    return [frame for chunk in chunks for frame in scanner.feed(chunk)]


FRAMES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":-7\r\n",
    b"_\r\n",
    b",3.25\r\n",
    b",inf\r\n",
    b"#t\r\n",
    b"(34928903284092834092\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"$5\r\n$1\r\na\r\n",
    b"!8\r\nERR a\r\nb\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n$1\r\nb\r\n",
    b"~2\r\n#f\r\n_\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n*1\r\n_\r\n",
    b"%0\r\n",
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
    b">2\r\n$10\r\ninvalidate\r\n_\r\n",
    b"|1\r\n+ttl\r\n:10\r\n$1\r\nv\r\n",
    b"*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n$1\r\nx\r\n$1\r\ny\r\n",
]


def test_every_type_wherever_it_is_cut() -> None:
    for frame in FRAMES:
        assert scan([frame]) == [frame]
    for chunks in every_split(b"".join(FRAMES)):
        assert scan(chunks) == FRAMES


PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"*2\r\n" + PUSH + b"+a\r\n+b\r\n", [PUSH, b"*2\r\n+a\r\n+b\r\n"]),
        (b"*2\r\n+a\r\n" + PUSH + b"+b\r\n", [PUSH, b"*2\r\n+a\r\n+b\r\n"]),
        (
            b"*2\r\n+a\r\n" + PUSH + b"*1\r\n" + PUSH + b"+b\r\n",
            [PUSH, PUSH, b"*2\r\n+a\r\n*1\r\n+b\r\n"],
        ),
        (b"%1\r\n+a\r\n" + PUSH + b":1\r\n", [PUSH, b"%1\r\n+a\r\n:1\r\n"]),
        (b"*1\r\n>0\r\n+a\r\n", [b">0\r\n", b"*1\r\n+a\r\n"]),
        # between replies they are frames of their own; after the last element, too
        (b"*1\r\n+a\r\n" + PUSH + b"+b\r\n", [b"*1\r\n+a\r\n", PUSH, b"+b\r\n"]),
    ],
)
def test_a_push_inside_an_aggregate_is_cut_out(stream: bytes, frames: list[bytes]) -> None:
    """Redis 6 does this for keys that expire while the command runs."""
    for chunks in every_split(b":0\r\n" + stream + b"+end\r\n"):
        assert scan(chunks) == [b":0\r\n", *frames, b"+end\r\n"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n",
        b"\r\n",
        b"*1\r\nx\r\n",
        b"$x\r\n",
        b"*\r\n",
        b"*1\r\n$1.5\r\n",
        b"\0\r\n",
        b"$-9\r\n",
        b"*-2\r\n",
        b"$-01\r\n",
        b"$-0\r\n",
        b"*2\r\n>2\r\n+x\r\n>1\r\n",
    ],
)
def test_what_is_not_resp_ends_the_stream(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="Redis"):
        scan([b"+OK\r\n", data])


@given(st.binary(max_size=60), st.lists(st.integers(min_value=0), max_size=5))
def test_garbage_raises_nothing_but_protocol_errors(data: bytes, places: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[bytes], bool]:
        scanner, frames = ReplyScanner(), []
        try:
            for chunk in chunks:
                frames += scanner.feed(chunk)
        except ProtocolError:
            return [], True
        return frames, False

    assert outcome(cut(data, places)) == outcome([data])


def test_nothing_is_scanned_twice() -> None:
    """20 MB in 4 KiB pieces: linear takes milliseconds, quadratic minutes."""
    big = b"$20000000\r\n" + bytes(20_000_000) + b"\r\n"
    many = b"*300000\r\n" + b"$8\r\n01234567\r\n" * 300_000
    began = time.process_time()
    for data in (big, many):
        assert scan(data[at : at + 4096] for at in range(0, len(data), 4096)) == [data]
    assert time.process_time() - began < 10


def test_a_line_without_end_is_not_gathered() -> None:
    """A line of 1 MiB is taken; one that never ends is given up, after linear work."""
    line = b"+" + b"x" * 2**20 + b"\r\n"
    assert scan(line[at : at + 4096] for at in range(0, len(line), 4096)) == [line]
    began = time.process_time()
    with pytest.raises(ProtocolError, match="line without end"):
        scan(b"+" * 65_536 for _ in range(1000))
    assert time.process_time() - began < 5


def test_nothing_is_copied_twice() -> None:
    """An aggregate in 64 KiB pieces: the memory asked for per piece must not grow with it."""
    element = b"$40\r\n%b\r\n" % (b"x" * 40)
    data = b"*60000\r\n" + element * 60_000
    pieces = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    scanner, asked_bytes = ReplyScanner(), 0
    tracemalloc.start()
    try:
        for piece in pieces[:-1]:
            held_bytes = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            assert scanner.feed(piece) == []
            asked_bytes += tracemalloc.get_traced_memory()[1] - held_bytes
    finally:
        tracemalloc.stop()
    assert scanner.feed(pieces[-1]) == [data]
    assert asked_bytes < 3 * len(data)


# Round trips: any value, encoded as Redis would

text = st.text(st.characters(exclude_characters="\r\n", codec="ascii"), max_size=8)
scalars = st.one_of(
    st.binary(max_size=20).map(lambda b: b"$%d\r\n%b\r\n" % (len(b), b)),
    st.binary(max_size=20).map(lambda b: b"=%d\r\ntxt:%b\r\n" % (len(b) + 4, b)),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d\r\n" % n),
    st.integers().map(lambda n: b"(%d\r\n" % n),
    st.floats(allow_nan=False).map(lambda x: b",%b\r\n" % str(x).encode()),
    text.map(lambda t: b"+%b\r\n" % t.encode()),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b"-ERR no\r\n"]),
)


def _aggregates(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    some = st.lists(children, max_size=4)
    pairs = st.lists(st.tuples(scalars, children).map(b"".join), max_size=3)
    return st.one_of(
        some.map(lambda items: b"*%d\r\n" % len(items) + b"".join(items)),
        some.map(lambda items: b"~%d\r\n" % len(items) + b"".join(items)),
        pairs.map(lambda items: b"%%%d\r\n" % len(items) + b"".join(items)),
    )


replies = st.recursive(scalars, _aggregates, max_leaves=12)


@given(st.lists(replies, max_size=6), st.lists(st.integers(min_value=0), max_size=8))
def test_any_replies_wherever_they_are_cut(frames: list[bytes], places: list[int]) -> None:
    assert scan(cut(b"".join(frames), places)) == frames


@given(replies)
def test_any_reply_becomes_one_resp2_reply(reply: bytes) -> None:
    """What comes out is one frame of RESP2 types only, which hiredis reads to its end."""
    converted = to_resp2(reply)
    assert scan([converted]) == [converted]
    assert _kinds(converted) <= set(b"+-:$*")
    reader = hiredis.Reader()
    reader.feed(converted + b"+end\r\n")
    reader.gets()
    assert reader.gets() == b"end"


def _kinds(reply: bytes) -> set[int]:
    kinds, pos = set(), 0
    while pos < len(reply):
        eol = reply.index(b"\r\n", pos)
        kinds.add(reply[pos])
        blob = reply[pos] == ord("$") and reply[pos + 1] != ord("-")
        pos = eol + 2 + (int(reply[pos + 1 : eol]) + 2 if blob else 0)
    return kinds


@pytest.mark.parametrize(
    ("rule", "resp3", "resp2"),
    [
        ("plain", b"_\r\n", b"$-1\r\n"),
        ("plain", b"#t\r\n", b":1\r\n"),
        ("plain", b"#f\r\n", b":0\r\n"),
        ("plain", b",3.25\r\n", b"$4\r\n3.25\r\n"),
        ("plain", b"(12345678901234567890\r\n", b"$20\r\n12345678901234567890\r\n"),
        ("plain", b"=7\r\ntxt:a_b\r\n", b"$3\r\na_b\r\n"),
        ("plain", b"!5\r\nERR x\r\n", b"-ERR x\r\n"),
        ("plain", b"!12\r\nERR x\r\n+OK\r\n\r\n", b"-ERR x  +OK  \r\n"),
        ("plain", b"~2\r\n+a\r\n_\r\n", b"*2\r\n+a\r\n$-1\r\n"),
        ("plain", b"%1\r\n$1\r\na\r\n,1\r\n", b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"),
        ("plain", b"*-1\r\n", b"*-1\r\n"),
        ("plain", b"$3\r\n_#,\r\n", b"$3\r\n_#,\r\n"),
        ("plain", b"*2\r\n$4\r\n\r\n_\r\r\n_\r\n", b"*2\r\n$4\r\n\r\n_\r\r\n$-1\r\n"),
        ("plain", PUSH, b"*" + PUSH[1:]),
        (
            "pairs",
            b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n",
            b"*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n",
        ),
        ("pairs", b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"),  # without WITHSCORES
        ("pairs", b"*0\r\n", b"*0\r\n"),
        ("pairs", b"-WRONGTYPE no\r\n", b"-WRONGTYPE no\r\n"),
        (
            "null_array",
            b"*2\r\n*2\r\n,1.5\r\n,2\r\n_\r\n",
            b"*2\r\n*2\r\n$3\r\n1.5\r\n$1\r\n2\r\n*-1\r\n",
        ),
    ],
)
def test_to_resp2(rule: str, resp3: bytes, resp2: bytes) -> None:
    assert to_resp2(resp3, rule) == resp2


# A reply that is given up while it comes

INSTEAD = b"-ERR too large\r\n"
LARGE = [
    bulk(b"x" * 300),
    b"*4\r\n$3\r\nabc\r\n:5\r\n*2\r\n" + bulk(b"y" * 200) + b"_\r\n" + bulk(b"z" * 150),
    b"%2\r\n" + bulk(b"k" * 90) + b":1\r\n+k\r\n~3\r\n:1\r\n,2.5\r\n=90\r\n" + b"t" * 90 + b"\r\n",
    b"*100\r\n" + b":1\r\n" * 100,
]  # fmt: skip


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_of_a_reply_that_is_given_up_nothing_is_kept(large: bytes, size: int) -> None:
    """Wherever it was given up: the replies before it and behind it are whole."""
    stream = b"+a\r\n" + large + b":7\r\n" + large + b"$1\r\nb\r\n"
    for after in (10, 50, 101, 170):
        scanner, frames, given_up = ReplyScanner(), [], 0
        for at in range(0, len(stream), size):
            frames += scanner.feed(stream[at : at + size])
            if scanner.pending_bytes > after:
                scanner.replace(INSTEAD)
                given_up += 1
                assert scanner.pending_bytes == 0
        shown = INSTEAD if given_up else large
        assert given_up in (0, 2)
        assert given_up or after > len(large) - size
        assert frames == [b"+a\r\n", shown, b":7\r\n", shown, b"$1\r\nb\r\n"]


def test_a_push_is_never_given_up() -> None:
    scanner = ReplyScanner()
    assert scanner.feed(b">2\r\n$3\r\nabc\r\n$500\r\nx") == []
    assert scanner.pending_bytes == 0
    scanner = ReplyScanner()
    assert scanner.feed(b"*2\r\n>1\r\n+push\r\n$500\r\nx") == []  # nor what holds one
    assert scanner.pending_bytes == 0
    scanner = ReplyScanner()
    assert scanner.feed(b"*3\r\n$5\r\nabcde\r\n:1") == []
    scanner.replace(INSTEAD)
    with pytest.raises(ProtocolError, match="too large"):
        scanner.feed(b"\r\n>1\r\n+push\r\n")


def test_what_is_given_up_takes_no_memory() -> None:
    scanner = ReplyScanner()
    scanner.feed(b"$50000000\r\nxxx")
    assert scanner.pending_bytes > 50_000_000
    scanner.replace(INSTEAD)
    tracemalloc.start()
    try:
        for _ in range(49):
            assert scanner.feed(b"x" * 1_000_000) == []
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        assert scanner.feed(b"x" * 999_997 + b"\r\n:1\r\n") == [INSTEAD, b":1\r\n"]
    finally:
        tracemalloc.stop()
