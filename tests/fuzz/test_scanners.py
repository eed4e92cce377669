"""Any bytes into the scanners: both twins say the same, however the bytes are cut."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.budget import SEED, within_budget
from tests.fuzz.mutator import corpus, mutants, pieces
from tests.tiers.twin_modules import twins
from tiers.errors import ProtocolError
from tiers.wire import _replies_py, _requests_py

QUERY_BUFFER_BYTES = 64 * 1024


@pytest.fixture(params=twins("tiers.wire._requests_py", "tiers.wire._requests"))
def requests(request: pytest.FixtureRequest) -> type[_requests_py.RequestScanner]:
    scanner: type[_requests_py.RequestScanner] = request.param.RequestScanner
    return scanner


@pytest.fixture(params=twins("tiers.wire._replies_py", "tiers.wire._replies"))
def replies(request: pytest.FixtureRequest) -> type[_replies_py.ReplyScanner]:
    scanner: type[_replies_py.ReplyScanner] = request.param.ReplyScanner
    return scanner


def canonical(args: list[bytes]) -> bytes:
    """The one form that every server takes; by other means than the code that is tested."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in args)


def read_requests(
    kind: type[_requests_py.RequestScanner], chunks: list[bytes], authenticated: bool
) -> tuple[list[list[bytes]], str | None]:
    """The commands and the error; every command must also be the slice that it names, which
    goes to Redis as it is: the canonical form of these arguments, byte for byte."""
    scanner = kind(buffer_max_bytes=QUERY_BUFFER_BYTES * 4)
    scanner.authenticated = authenticated
    commands = []
    for chunk in chunks:
        found = scanner.feed(chunk)
        while scanner.paused and found:
            commands += found
            found = scanner.feed(b"")
        commands += found
    for args, buffer, start, end in commands:
        assert bytes(buffer[start:end]) == canonical(args)
    return [list(args) for args, *_ in commands], scanner.error


def read_replies(kind: type[_replies_py.ReplyScanner], chunks: list[bytes]) -> object:
    scanner, frames = kind(), []
    try:
        for chunk in chunks:
            frames += scanner.feed(chunk)
    except ProtocolError:
        return "lost"
    return frames


@pytest.mark.parametrize("authenticated", [True, False], ids=["logged in", "before login"])
def test_requests(requests: type[_requests_py.RequestScanner], authenticated: bool) -> None:
    random = Random(SEED)
    for data in within_budget(mutants("requests", SEED), 400):
        expected = read_requests(_requests_py.RequestScanner, [data], authenticated)
        assert read_requests(requests, [data], authenticated) == expected, data
        if len(data) < 60_000:  # a line that never ends is found out where a piece ends
            assert read_requests(requests, pieces(data, random), authenticated) == expected, data


def test_replies(replies: type[_replies_py.ReplyScanner]) -> None:
    random = Random(SEED)
    for data in within_budget(mutants("replies", SEED), 400):
        expected = read_replies(_replies_py.ReplyScanner, [data])
        assert read_replies(replies, [data]) == expected, data
        assert read_replies(replies, pieces(data, random)) == expected, data


def test_converting_replies_to_resp2(replies: type[_replies_py.ReplyScanner]) -> None:
    """Whatever the scanner lets through can be converted, and is a reply afterwards."""
    for data in within_budget(mutants("replies", SEED + 1), 400):
        frames = read_replies(replies, [data])
        for frame in frames if isinstance(frames, list) else ():
            for rule in ("plain", "pairs", "null_array"):
                converted = _replies_py.to_resp2(frame, rule)
                if rule == "plain":
                    assert read_replies(replies, [converted]) == [converted], frame


@pytest.mark.parametrize("name", corpus("requests"))
def test_corpus_byte_by_byte(requests: type[_requests_py.RequestScanner], name: str) -> None:
    data = corpus("requests")[name]
    one_by_one = [data[at : at + 1] for at in range(len(data))]
    whole = read_requests(_requests_py.RequestScanner, [data], True)
    assert read_requests(requests, one_by_one, True) == whole
