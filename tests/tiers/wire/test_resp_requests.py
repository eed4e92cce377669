"""The request scanner: Redis' own limits, errors and leniency, wherever the bytes are cut."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiers.splits import cut, every_split
from tests.tiers.twin_modules import twins
from tiers.wire._requests_py import RequestScanner, pack, split_inline


@pytest.fixture(
    autouse=True, scope="module", params=twins("tiers.wire._requests_py", "tiers.wire._requests")
)
def twin(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests of this module run with each twin."""
    module: ModuleType = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "RequestScanner", module.RequestScanner)
        yield


def scan(chunks: Iterable[bytes], **limits: int) -> tuple[list[list[bytes]], str | None]:
    """All commands of a client that sends these chunks, and the error it ends with."""
    return run(RequestScanner(**limits), chunks)


def run(scanner: RequestScanner, chunks: Iterable[bytes]) -> tuple[list[list[bytes]], str | None]:
    commands = []
    for chunk in chunks:
        for args, buffer, start, end in scanner.feed(chunk):
            assert buffer[start:end] == pack(args), "the slice is not the command"
            commands.append(args)
    return commands, scanner.error


PIPELINE = [
    [b"SET", b"key", b"a\r\nb$*"],
    [b"GET", b""],
    [b"PING"],
    [b"MSET", *(b"%d" % n for n in range(12))],
    [b"SET", b"k", b"x" * 70],
]


def test_a_pipeline_is_the_same_wherever_it_is_cut() -> None:
    for chunks in every_split(b"".join(map(pack, PIPELINE))):
        assert scan(chunks) == (PIPELINE, None)


def test_inline_and_multibulk_mix_and_empty_requests_are_nothing() -> None:
    stream = b"\r\nPING\r\n" + pack([b"GET", b"k"]) + b"*0\r\n*-1\r\n  \nSET k 'v w'\n*-5\r\nPING\n"
    expected = [[b"PING"], [b"GET", b"k"], [b"SET", b"k", b"v w"], [b"PING"]]
    for chunks in every_split(stream):
        assert scan(chunks) == (expected, None)


@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=14), max_size=6),
    st.lists(st.integers(min_value=0), max_size=8),
)
def test_round_trip(commands: list[list[bytes]], places: list[int]) -> None:
    assert scan(cut(b"".join(map(pack, commands)), places)) == (commands, None)


def test_an_argument_longer_than_the_parsed_headers() -> None:
    commands = [[b"SET", b"k", b"x" * 5000], [b"MGET", *[b"k"] * 1500]]
    data = b"".join(map(pack, commands))
    assert scan([data]) == (commands, None)
    assert scan(data[at : at + 37] for at in range(0, len(data), 37)) == (commands, None)


# Bytes that Redis does not look at. Valkey 9 closes the connection for each of them.
LOOSE = [
    b"*2\r\n$3\r\nGETxx$1\r\nkyy",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\r",
    b"*2\r\n$3\r\nGET\n\r$1\r\nk\r\n",
    b"*2\rx$3\r\nGET\r\n$1\r\nk\r\n",
    b"*2\r\n$3\rxGET\r\n$1\r\nk\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\rxk\r\n",
    b"*2\r$$3\r\nGET*1$1\r\rk$1",
]


@pytest.mark.parametrize("data", LOOSE)
def test_bytes_that_redis_skips_unseen_do_not_leave(data: bytes) -> None:
    """The command is taken as Redis takes it, and handed out in canonical form."""
    before, after = pack([b"SET", b"k", b"v"]), pack([b"MGET", *[b"k"] * 12])
    commands = [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"GET", b"k"], [b"MGET", *[b"k"] * 12]]
    for chunks in every_split(before + data + data + after):
        assert scan(chunks) == (commands, None)


def test_a_count_of_nothing_ends_at_its_cr() -> None:
    for chunks in every_split(b"*0\rx*-1\rxPING\r\n"):
        assert scan(chunks) == ([[b"PING"]], None)


def test_a_loose_command_of_any_size_is_encoded_again() -> None:
    commands = [[b"SET", b"k", b"x" * 200_000], [b"MGET", *[b"k"] * 3000]]
    loose = b"".join(map(pack, commands)).replace(b"x\r\n", b"xzz")
    assert scan([loose]) == (commands, None)
    assert scan(loose[at : at + 1000] for at in range(0, len(loose), 1000)) == (commands, None)


# What Redis 7.0 says to malformed requests (networking.c).
ERRORS = [
    (b"*abc\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"* 1\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*1.0\r\n", "invalid multibulk length"),
    (b"*1048577\r\n", "invalid multibulk length"),
    (b"*9223372036854775808\r\n", "invalid multibulk length"),
    (b"*-9223372036854775809\r\n", "invalid multibulk length"),
    (b"*" + b"9" * 5000 + b"\r\n", "invalid multibulk length"),
    (b"*1\r\n:4\r\n", "expected '$', got ':'"),
    (b"*1\r\n\r\n", "expected '$', got '\r'"),
    (b"*2\r\n$3\r\nGET\r\nk\r\n", "expected '$', got 'k'"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$+4\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
    (b"SET k 'v\r\n", "unbalanced quotes in request"),
    (b'SET k "v"x\r\n', "unbalanced quotes in request"),
    (b'SET k "v\\"\r\n', "unbalanced quotes in request"),
]


@pytest.mark.parametrize(("data", "text"), ERRORS, ids=lambda value: repr(value)[:30])
def test_protocol_errors(data: bytes, text: str) -> None:
    """The commands before the error stand; nothing after it is looked at."""
    stream = pack([b"GET", b"k"]) + data + pack([b"PING"])
    splits = every_split(stream) if len(stream) < 200 else [[stream]]
    for chunks in splits:
        assert scan(chunks) == ([[b"GET", b"k"]], text)


@pytest.mark.parametrize("empty", [b"\n", b"\r\n", b" \n", b"*0\r\n", b"*-1\r\n"])
def test_many_requests_that_are_none(empty: bytes) -> None:
    assert scan([empty * 300_000 + b"PING\n"]) == ([[b"PING"]], None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET \0k\r\n", "too big inline request"),
        (b"*1\0\r\n", "too big mbulk count string"),
        (b"*1\r\n\0\r\n", "too big bulk count string"),
        (b"*2\r\n$3\r\nGET\r\n$1\0\r\n", "too big bulk count string"),
    ],
)
def test_a_nul_hides_the_end_of_its_line(data: bytes, text: str) -> None:
    """Redis looks for it with strchr: it waits, until the line is too long."""
    assert scan([data, b"k\r\nPING\r\n"]) == ([], None)
    assert scan([data, b"x" * 65_536]) == ([], text)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a" * 65537, "too big inline request"),
        (b"*" + b"1" * 65536, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 65536, "too big bulk count string"),
        (b"*2\r\n$1\r\na\r\n" + b"1" * 65537, "too big bulk count string"),
    ],
)
def test_headers_and_lines_without_end(data: bytes, text: str) -> None:
    assert scan([data]) == ([], text)
    assert scan([data[:7], data[7:40_000], data[40_000:]]) == ([], text)
    assert scan([data[:-1]]) == ([], None), "one byte less is not too long"


def test_a_long_inline_request_that_ends_is_taken() -> None:
    assert scan([b"ECHO " + b"a" * 100_000 + b"\r\n"]) == ([[b"ECHO", b"a" * 100_000]], None)


def test_before_authentication_requests_are_small() -> None:
    for data, text in (
        (pack([b"MGET", *[b"k"] * 10]), "unauthenticated multibulk length"),
        (pack([b"AUTH", b"x" * 16385]), "unauthenticated bulk length"),
    ):
        scanner = RequestScanner()
        scanner.authenticated = False
        assert run(scanner, [data]) == ([], text)
        scanner = RequestScanner()
        assert run(scanner, [data])[1] is None
    allowed = [[b"MGET", *[b"k"] * 9], [b"AUTH", b"x" * 16384]]
    scanner = RequestScanner()
    scanner.authenticated = False
    assert run(scanner, map(pack, allowed)) == (allowed, None)


def test_own_limits() -> None:
    assert scan([pack([b"SET", b"k", b"x" * 11])], bulk_max_bytes=10)[1] == "invalid bulk length"
    assert scan([b"*4\r\n"], multibulk_max=3)[1] == "invalid multibulk length"
    # counts and lengths that a table knows are limited all the same
    assert scan([pack([b"MGET", *[b"k"] * 20])], multibulk_max=16)[1] == "invalid multibulk length"


def test_the_query_buffer_is_bounded_and_closes_without_a_word() -> None:
    one_long = RequestScanner(buffer_max_bytes=1000)
    assert run(one_long, [b"*2\r\n$3\r\nSET\r\n$5000\r\n", b"x" * 900, b"x" * 200]) == ([], "")
    assert one_long.buffered_bytes < 1000
    many_short = RequestScanner(buffer_max_bytes=1000)
    argument = b"$10\r\n0123456789\r\n"
    assert run(many_short, [b"*500\r\n", *[argument] * 80]) == ([], "")
    finished = RequestScanner(buffer_max_bytes=1000)
    assert run(finished, [pack([b"SET", b"k", b"x" * 800])] * 5)[1] is None
    assert finished.buffered_bytes == 0


def test_nothing_is_scanned_twice() -> None:
    """20 MB in 1 KiB pieces: linear takes milliseconds, quadratic minutes."""
    big = pack([b"SET", b"k", bytes(20_000_000)])
    many = pack([b"MSET", *[b"0123456789abcdef"] * 300_000])
    began = time.process_time()
    for data in (big, many):
        commands, error = scan(data[at : at + 1024] for at in range(0, len(data), 1024))
        assert (len(commands), error) == (1, None)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"", []),
        (b" \t ", []),
        (b"a  b\tc", [b"a", b"b", b"c"]),
        (b"'' \"\"", [b"", b""]),
        (b'"a b" c', [b"a b", b"c"]),
        (b"'a b'", [b"a b"]),
        (b'"\\n\\r\\t\\b\\a\\\\\\""', [b'\n\r\t\b\a\\"']),
        (b'"\\x41\\xfF\\x4g\\q"', [b"A\xffx4gq"]),
        (b"'\\n\\''", [b"\\n'"]),
        (b'a"b c"', [b"ab c"]),
        (b"\x0ba\x0bb \x0cc", [b"a\x0bb", b"c"]),  # isspace() between, but not inside
        (b'"a"\x0bb', [b"a", b"b"]),
        (b'"a', None),
        (b"'a", None),
        (b"\"a'", None),
        (b'"a"b', None),
        (b"'a'b", None),
        (b'"a\\', None),
        (b'"\\"', None),
    ],
)
def test_inline_arguments_are_split_as_redis_does(line: bytes, args: list[bytes] | None) -> None:
    assert split_inline(line) == args


PIECES = st.sampled_from(
    [b"*", b"$", b"\r\n", b"\n", b"\r", b"1", b"3", b"-1", b"0", b"GET", b'"', b"'", b"\\x4", b" "]
)


@given(
    st.lists(PIECES | st.binary(max_size=6), max_size=30).map(b"".join),
    st.lists(st.integers(min_value=0), max_size=6),
)
def test_garbage_gives_commands_and_at_most_an_error(data: bytes, places: list[int]) -> None:
    """Never an exception, and the same wherever it is cut."""
    whole = _lenient(RequestScanner(), [data])
    assert _lenient(RequestScanner(), cut(data, places)) == whole


def _lenient(
    scanner: RequestScanner, chunks: Iterable[bytes]
) -> tuple[list[list[bytes]], str | None]:
    return [args for chunk in chunks for args, *_ in scanner.feed(chunk)], scanner.error


def test_a_login_lifts_the_limits_for_what_stands_behind_it() -> None:
    scanner = RequestScanner()
    scanner.authenticated = False
    big = [b"MSET", *[b"%d" % number for number in range(40)]]
    first = scanner.feed(pack([b"AUTH", b"secret"]) + pack(big) + pack([b"GET", b"0"]))
    assert [request[0] for request in first] == [[b"AUTH", b"secret"]]
    assert scanner.paused
    scanner.authenticated = True
    assert [request[0] for request in scanner.feed(b"")] == [big, [b"GET", b"0"]]
    assert not scanner.paused
    assert scanner.error is None


def test_without_a_login_they_stay() -> None:
    scanner = RequestScanner()
    scanner.authenticated = False
    assert len(scanner.feed(pack([b"PING"]) + pack([b"x"] * 11))) == 1
    assert scanner.feed(b"") == []
    assert scanner.error == "unauthenticated multibulk length"
