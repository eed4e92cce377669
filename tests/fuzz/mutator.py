"""Small seeded mutations of a corpus: the same seed gives the same bytes.

The files of `corpus/` are what protocols look like and what once went wrong; a crash found
by a longer run is added there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.tiers.splits import cut

CORPUS = Path(__file__).parent / "corpus"
TOKENS = (
    b"\r\n", b"\n", b"\r", b"*", b"$", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b">", b"%", b"~", b"|",
    b"_", b"#t", b",", b"(", b"!", b"=", b":", b"+", b"-", b"0", b"1", b"3", b"10", b"65536",
    b"1048577", b"536870913", b"9223372036854775807", b"-9223372036854775809", b"\x00", b"\xff",
    b'"', b"'", b"\\x", b" ", b"*3\r\n", b"$3\r\nGET\r\n", b">2\r\n", b"*1000000\r\n",
)  # fmt: skip
MAX_BYTES = 128 * 1024


def corpus(kind: str) -> dict[str, bytes]:
    """Name -> bytes of "requests" or "replies"."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / kind).iterdir())}


def _flip(data: bytes, random: Random, _other: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes((random.randrange(256),)) + data[at + 1 :]


def _insert(data: bytes, random: Random, _other: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(TOKENS) + data[at:]


def _remove(data: bytes, random: Random, _other: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.randrange(1, 9) :]


def _repeat(data: bytes, random: Random, _other: bytes) -> bytes:
    begin = random.randrange(len(data) + 1)
    end = begin + random.randrange(1, 40)
    return data[:end] + data[begin:end] * random.randrange(1, 6) + data[end:]


def _splice(data: bytes, random: Random, other: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _append(data: bytes, _random: Random, other: bytes) -> bytes:
    return data + other


MUTATIONS: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (
    _flip, _insert, _insert, _remove, _repeat, _splice, _append,
)  # fmt: skip


def mutants(kind: str, seed: int) -> Iterator[bytes]:
    """The corpus as it is, then one to six mutations of its members, without end."""
    seeds = list(corpus(kind).values())
    yield from seeds
    random = Random(seed)
    while True:
        data = random.choice(seeds)
        for _ in range(random.randrange(1, 7)):
            data = random.choice(MUTATIONS)(data, random, random.choice(seeds))
        yield data[:MAX_BYTES]


def pieces(data: bytes, random: Random) -> list[bytes]:
    """`data` as it might arrive: whole, or cut at a few places."""
    count = random.choice((0, 0, 1, 4))
    return cut(data, [random.randrange(len(data) + 1) for _ in range(count)])
