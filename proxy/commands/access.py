"""What a command line touches: categories, keys and channels, read from the text of a row.

The text is what Redis 7.0.15 says of a command in its COMMAND reply (the rows are compared
with a server, tests/proxy/command_rows.py): arity, categories, then where keys and channels
are and what is done to them.

  R:1            the key at argument 1 is read (R), written (W), both, or neither (-)
  W:1..-1/2      keys from argument 1 to the last one (-1), every second one
  R:2#           argument 2 is the number of keys that follow it
  ?              depends on the other arguments: a function below finds them
  &1  &*1..-1    a channel; channel patterns
  no_auth        open to everybody

Keys are found as Redis finds them for its own access control (db.c). Few commands need more
than a key specification can say; those have a function here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

NAME_MAX_BYTES = 256  # of a name that could be known
CATEGORIES = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
CATEGORY_NAMES = frozenset(CATEGORIES)
READ, WRITE = 1, 2
_ACCESS = {"-": 0, "R": READ, "W": WRITE, "RW": READ | WRITE}
_COUNT = re.compile(rb"\s*[+-]?\d{1,18}")  # what atoi takes, as Redis does here
_SPEC = re.compile(
    r"(?P<access>-|RW?|W):(?P<index>\d+)(?P<counted>#)?(?:\.\.(?P<last>-?\d+)(?:/(?P<step>\d+))?)?\Z"
)
_CHANNELS = re.compile(r"&(?P<pattern>\*?)1(?P<many>\.\.-1)?\Z")


class InMulti(enum.Enum):
    """What becomes of a command between MULTI and EXEC."""

    QUEUED = "Redis queues it, or refuses it"
    ENDS = "it ends the transaction"
    REFUSED = "it would act on the connection between Terrace and Redis"
    ANSWERED = "Redis queues a PING instead; Terrace answers when EXEC has run"


class KeyUse(NamedTuple):
    """The argument at `position` is a key, of which `access` (READ, WRITE bits) is needed."""

    position: int
    access: int


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Keys from the argument at `index` to `last`, or as many as the argument at `index` says."""

    access: int
    index: int
    counted: bool = False
    last: int = 0  # relative to the first key; below zero: from the end of the arguments
    step: int = 1

    @property
    def fixed_range(self) -> tuple[int, int, int] | None:
        """First, last and step as COMMAND shows them, where their places are fixed."""
        if self.counted:
            return None
        return self.index, self.last + (self.index if self.last >= 0 else 0), self.step

    def find(self, args: Sequence[bytes]) -> list[KeyUse] | None:
        """None when the arguments don't have the form that the specification expects."""
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


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """Of a command or a subcommand. `name` is "get", or "config|get".

    text      as in the row.
    in_multi  what becomes of a subcommand between MULTI and EXEC.
    max_args  so many arguments the handler of a subcommand takes (0: any number).
    later     a subcommand that Redis 7.0 has not, and Terrace answers.
    """

    name: str
    arity: int
    categories: frozenset[str]
    specs: tuple[KeySpec, ...] = ()
    channel_at: int = 0  # 0: none
    many_channels: bool = False
    channel_patterns: bool = False
    no_auth: bool = False
    in_multi: InMulti = InMulti.QUEUED
    max_args: int = 0
    later: bool = False
    text: str = ""
    subcommands: dict[str, CommandFacts] = field(default_factory=dict, compare=False)

    @property
    def family(self) -> Iterator[CommandFacts]:
        """The command and its subcommands."""
        yield self
        yield from self.subcommands.values()

    def accepts(self, count: int) -> bool:
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    def is_handled(self, count: int) -> bool:
        """Whether the handler takes so many arguments."""
        return self.accepts(count) and (not self.max_args or count <= self.max_args)

    def keys(self, args: Sequence[bytes]) -> Sequence[KeyUse]:
        special = _SPECIAL.get(self.name)
        if special is not None:
            return special(args)
        found: list[KeyUse] = []
        for spec in self.specs:
            keys = spec.find(args)
            if keys is None:
                return ()  # Redis will refuse the command: no key is touched
            found += keys
        return found

    def channels(self, args: Sequence[bytes]) -> range:
        """Positions of the channels that are subscribed to or published on."""
        if not self.channel_at:
            return range(0)
        return range(self.channel_at, len(args) if self.many_channels else self.channel_at + 1)


def _set_keys(args: Sequence[bytes]) -> list[KeyUse]:
    reads = any(arg.upper() == b"GET" for arg in args[3:])
    return [KeyUse(1, READ | WRITE if reads else WRITE)]


def _bitfield_keys(args: Sequence[bytes]) -> list[KeyUse]:
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


def _sort_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """The last STORE counts. What BY and GET read is judged by `acl`: no argument names it."""
    target: list[KeyUse] = []
    at = 2
    while at < len(args):
        word = args[at].upper()
        if word == b"STORE" and at + 1 < len(args):
            target = [KeyUse(at + 1, WRITE)]
        at += 1 + {b"LIMIT": 2, b"GET": 1, b"BY": 1, b"STORE": 1}.get(word, 0)
    return [KeyUse(1, READ), *target]


def _sort_ro_keys(args: Sequence[bytes]) -> list[KeyUse]:
    return [KeyUse(1, READ)]


def _geo_store_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """GEORADIUS: every STORE and STOREDIST, though only the last one is carried out."""
    found = [KeyUse(1, READ)]
    at = 5
    while at < len(args) - 1:
        if args[at].upper() in (b"STORE", b"STOREDIST"):
            at += 1
            found.append(KeyUse(at, WRITE))
        at += 1
    return found


def _xread_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """As the commands themselves read their options: a consumer may be named STREAMS."""
    at, streams = 1, []
    while at < len(args):
        word = args[at].upper()
        if word == b"STREAMS":
            streams = [at]
            break
        if word not in _XREAD_OPTIONS:  # Redis will refuse it; be sure to judge any key in it
            streams = [i for i, arg in enumerate(args) if arg.upper() == b"STREAMS"]
            break
        at += 1 + _XREAD_OPTIONS[word]
    return [
        KeyUse(key, READ)
        for at in streams
        for key in range(at + 1, at + 1 + (len(args) - at - 1) // 2)
    ]


def _migrate_keys(args: Sequence[bytes]) -> list[KeyUse]:
    """MIGRATE host port key ..., or with an empty key the ones behind KEYS."""
    at = 6
    while at < len(args) and not args[3]:
        word = args[at].upper()
        if word == b"KEYS" and at + 1 < len(args):
            return [KeyUse(key, READ | WRITE) for key in range(at + 1, len(args))]
        at += 1 + {b"AUTH": 1, b"AUTH2": 2}.get(word, 0)
    return [KeyUse(3, READ | WRITE)]


def _invalidate_keys(args: Sequence[bytes]) -> list[KeyUse]:
    if args[1].upper() != b"KEYS":
        return []  # a pattern, which like that of KEYS names no key
    return [KeyUse(at, WRITE) for at in range(2, len(args))]


_XREAD_OPTIONS = {b"COUNT": 1, b"BLOCK": 1, b"GROUP": 2, b"NOACK": 0}

_SPECIAL: Mapping[str, Callable[[Sequence[bytes]], list[KeyUse]]] = {
    "set": _set_keys,
    "bitfield": _bitfield_keys,
    "sort": _sort_keys,
    "sort_ro": _sort_ro_keys,
    "georadius": _geo_store_keys,
    "georadiusbymember": _geo_store_keys,
    "xread": _xread_keys,
    "xreadgroup": _xread_keys,
    "migrate": _migrate_keys,
    "tier.invalidate": _invalidate_keys,
}


def _spec(text: str) -> KeySpec:
    match = _SPEC.match(text)
    assert match is not None, text
    return KeySpec(
        _ACCESS[match["access"]],
        int(match["index"]),
        counted=bool(match["counted"]),
        last=int(match["last"] or 0),
        step=int(match["step"] or 1),
    )


def read_facts(name: str, text: str, subcommands: Sequence[CommandFacts] = ()) -> CommandFacts:
    """The facts that a text says; subcommands get their full names and an order by name."""
    arity, *words = text.split()
    channels = next((m for each in words if (m := _CHANNELS.match(each))), None)
    within = sorted(subcommands, key=lambda facts: facts.name)
    return CommandFacts(
        name,
        int(arity),
        frozenset(each[1:] for each in words if each[0] == "@"),
        tuple(_spec(each) for each in words if ":" in each),
        channel_at=1 if channels else 0,
        many_channels=bool(channels and channels["many"]),
        channel_patterns=bool(channels and channels["pattern"]),
        no_auth="no_auth" in words,
        text=text,
        subcommands={sub.name: replace(sub, name=f"{name}|{sub.name}") for sub in within},
    )


def sub(
    name: str,
    text: str,
    *,
    in_multi: InMulti = InMulti.QUEUED,
    max_args: int = 0,
    later: bool = False,
) -> CommandFacts:
    """A subcommand, for the row of its command."""
    facts = read_facts(name, text)
    return replace(facts, in_multi=in_multi, max_args=max_args, later=later)


def word(arg: bytes) -> str:
    """An argument as the name of something; no name is as long as an argument may be."""
    return arg[:NAME_MAX_BYTES].lower().decode("latin-1")
