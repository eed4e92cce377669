"""Parses Redis' facts about a command from its row: arity, categories, keys, channels.

The text has the facts of the COMMAND reply of Redis 7.0.15 (tests/proxy/command_rows.py
compares the rows with a server): arity, categories, then the positions of keys and channels
and their use.

  R:1            a key at argument 1, which is read (R), written (W), both, or neither (-)
  W:1..-1/2      keys from argument 1 to the last one (-1), every second one
  R:2#           argument 2 is the number of keys that follow it
  ?              depends on the other arguments: the row names a function that finds them
  &1  &*1..-1    a channel; channel patterns
  no_auth        allowed before a login
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from .access import READ, WRITE, KeyFinder, KeySpec, KeyUse

NAME_MAX_BYTES = 256  # a longer name is unknown
CATEGORIES = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
CATEGORY_NAMES = frozenset(CATEGORIES)
_ACCESS = {"-": 0, "R": READ, "W": WRITE, "RW": READ | WRITE}
_SPEC = re.compile(
    r"(?P<access>-|RW?|W):(?P<index>\d+)(?P<counted>#)?(?:\.\.(?P<last>-?\d+)(?:/(?P<step>\d+))?)?\Z"
)
_CHANNELS = re.compile(r"&(?P<pattern>\*?)1(?P<many>\.\.-1)?\Z")


class InMulti(enum.Enum):
    """The treatment of a command between MULTI and EXEC."""

    QUEUED = "Redis queues it, or refuses it"
    ENDS = "it ends the transaction"
    REFUSED = "it would act on the connection between Terrace and Redis"
    BY_SUBCOMMAND = "its subcommands say"
    ANSWERED = "Redis queues a PING instead; Terrace answers when EXEC has run"


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """The facts about a command or a subcommand. `name` is "get", or "config|get".

    text      as in the row.
    finder    finds the keys, if `specs` cannot.
    in_multi  the treatment of a subcommand between MULTI and EXEC.
    max_args  maximum number of arguments for the handler of a subcommand (0: any number).
    later     a subcommand that Terrace answers although Redis 7.0 lacks it.
    """

    name: str
    arity: int
    categories: frozenset[str]
    specs: tuple[KeySpec, ...] = ()
    channel_at: int = 0  # 0: none
    many_channels: bool = False
    channel_patterns: bool = False
    finder: KeyFinder | None = None
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
        """Whether the handler accepts this number of arguments."""
        return self.accepts(count) and (not self.max_args or count <= self.max_args)

    def keys(self, args: Sequence[bytes]) -> Sequence[KeyUse]:
        if self.finder is not None:
            return self.finder(args)
        found: list[KeyUse] = []
        for spec in self.specs:
            keys = spec.find(args)
            if keys is None:
                return ()  # Redis will refuse the command: it uses no key
            found += keys
        return found

    def channels(self, args: Sequence[bytes]) -> range:
        """Positions of the channels."""
        if not self.channel_at:
            return range(0)
        return range(self.channel_at, len(args) if self.many_channels else self.channel_at + 1)


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


def read_facts(
    name: str,
    text: str,
    subcommands: Sequence[CommandFacts] = (),
    finder: KeyFinder | None = None,
) -> CommandFacts:
    """Parse a text; subcommands get their full names and are sorted by name."""
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
        finder=finder,
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
    """An argument as a name, shortened: an argument may be longer than any name."""
    return arg[:NAME_MAX_BYTES].lower().decode("latin-1")
