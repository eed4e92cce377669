"""Finds the keys of a command line, and whether it reads or writes them.

The rules are those of Redis' own access control (db.c). For a few commands a key
specification is not enough; their rows name a function here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

READ, WRITE = 1, 2
_COUNT = re.compile(rb"\s*[+-]?\d{1,18}")  # the numbers that atoi accepts, as in Redis
_XREAD_OPTIONS = {b"COUNT": 1, b"BLOCK": 1, b"GROUP": 2, b"NOACK": 0}


class KeyUse(NamedTuple):
    """The argument at `position` is a key that needs `access` (READ, WRITE bits)."""

    position: int
    access: int


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Keys from the argument at `index` to `last`, or a count of keys at `index`."""

    access: int
    index: int
    counted: bool = False
    last: int = 0  # relative to the first key; below zero: from the end of the arguments
    step: int = 1

    @property
    def fixed_range(self) -> tuple[int, int, int] | None:
        """First, last and step as in COMMAND, if the positions are fixed."""
        if self.counted:
            return None
        return self.index, self.last + (self.index if self.last >= 0 else 0), self.step

    def find(self, args: Sequence[bytes]) -> list[KeyUse] | None:
        """The keys; None if the arguments do not match the specification."""
        count, first = len(args), self.index
        if self.counted:
            number = _COUNT.match(args[first]) if first < count else None
            keys = int(number[0]) if number else 0
            last = first + 1 + (keys - 1) * self.step
            if keys < 1 or last >= count:
                return None
            first += 1
        else:
            last = first + self.last if self.last >= 0 else count + self.last
        return [KeyUse(at, self.access) for at in range(first, min(last + 1, count), self.step)]


KeyFinder: TypeAlias = Callable[[Sequence[bytes]], list[KeyUse]]


def set_keys(args: Sequence[bytes]) -> list[KeyUse]:
    reads = any(arg.upper() == b"GET" for arg in args[3:])
    return [KeyUse(1, READ | WRITE if reads else WRITE)]


def bitfield_keys(args: Sequence[bytes]) -> list[KeyUse]:
    at = 2
    while at < len(args):
        left = len(args) - at - 1
        match args[at].upper():
            case b"GET" if left >= 2:
                at += 3
            case b"OVERFLOW" if left >= 1:
                at += 2
            case _:
                return [KeyUse(1, READ | WRITE)]
    return [KeyUse(1, READ)]


def sort_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """The last STORE counts. `acl` checks BY and GET, whose keys are not arguments."""
    target: list[KeyUse] = []
    at = 2
    while at < len(args):
        word = args[at].upper()
        if word == b"STORE" and at + 1 < len(args):
            target = [KeyUse(at + 1, WRITE)]
        at += 1 + {b"LIMIT": 2, b"GET": 1, b"BY": 1, b"STORE": 1}.get(word, 0)
    return [KeyUse(1, READ), *target]


def sort_ro_keys(args: Sequence[bytes]) -> list[KeyUse]:
    return [KeyUse(1, READ)]


def geo_store_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """GEORADIUS: every STORE and STOREDIST, though Redis executes only the last one."""
    found = [KeyUse(1, READ)]
    at = 5
    while at < len(args) - 1:
        if args[at].upper() in (b"STORE", b"STOREDIST"):
            at += 1
            found.append(KeyUse(at, WRITE))
        at += 1
    return found


def xread_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """Parses options as the commands do: a consumer may be named STREAMS."""
    at, streams = 1, []
    while at < len(args):
        word = args[at].upper()
        if word == b"STREAMS":
            streams = [at]
            break
        if word not in _XREAD_OPTIONS:  # Redis will refuse it; check every possible key
            streams = [i for i, arg in enumerate(args) if arg.upper() == b"STREAMS"]
            break
        at += 1 + _XREAD_OPTIONS[word]
    return [
        KeyUse(key, READ)
        for at in streams
        for key in range(at + 1, at + 1 + (len(args) - at - 1) // 2)
    ]


def migrate_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """MIGRATE host port key ..., or with an empty key those after KEYS."""
    at = 6
    while at < len(args) and not args[3]:
        word = args[at].upper()
        if word == b"KEYS" and at + 1 < len(args):
            return [KeyUse(key, READ | WRITE) for key in range(at + 1, len(args))]
        at += 1 + {b"AUTH": 1, b"AUTH2": 2}.get(word, 0)
    return [KeyUse(3, READ | WRITE)]


def invalidate_keys(args: Sequence[bytes]) -> list[KeyUse]:
    if args[1].upper() != b"KEYS":
        return []  # a pattern; as in KEYS, it names no key
    return [KeyUse(at, WRITE) for at in range(2, len(args))]
