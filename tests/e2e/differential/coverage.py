"""Which commands and subcommands were seen to succeed and to fail on the plain server.

What must be seen of a command: a success; the arity error, where there can be one;
WRONGTYPE, where its keys have a type; and one more error, of syntax, range or state.
The exceptions are listed in `allowances`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from proxy.commands.command import Command, Kind
from proxy.commands.table import COMMANDS, TABLE
from tests.e2e.differential.allowances import (
    NO_ARITY_ERROR,
    NO_OTHER_ERROR,
    NO_SUCCESS,
    NO_WRONGTYPE,
)
from tests.e2e.differential.corpus import Dialogue
from tests.e2e.differential.play import END, frames_of
from tests.e2e.redis_process import RedisProcess
from tests.e2e.wire import Wire
from tiers.wire.resp import decode

SUCCESS, ARITY, WRONGTYPE, OTHER = "success", "arity", "WRONGTYPE", "other error"
EXCEPTIONS = {
    SUCCESS: NO_SUCCESS, ARITY: NO_ARITY_ERROR, WRONGTYPE: NO_WRONGTYPE, OTHER: NO_OTHER_ERROR,
}  # fmt: skip
TYPES = frozenset(
    ("string", "bitmap", "hyperloglog", "list", "hash", "set", "sortedset", "stream", "geo")
)


class Coverage:
    """Outcomes seen, per command and per subcommand ("CLIENT LIST")."""

    def __init__(self, redis: RedisProcess) -> None:
        self.known, self.subcommands = _names(redis)
        self.seen: defaultdict[str, set[str]] = defaultdict(set)
        self.requests = 0

    def note(self, dialogue: Dialogue, answer: bytes) -> None:
        frames = frames_of(answer)
        self.requests += len(dialogue)
        asked = [*dialogue, ["PING", END]][: len(frames)]
        if len(frames) not in (len(dialogue), len(dialogue) + 1):
            return  # commands with several replies or none: which is whose cannot be told
        for args, frame in zip(asked, frames, strict=True):
            outcome = outcome_of(frame)
            name = args[0].upper()
            self.seen[name].add(outcome)
            if len(args) > 1 and f"{name} {args[1].upper()}" in self.subcommands:
                self.seen[f"{name} {args[1].upper()}"].add(outcome)

    def missing(self) -> list[str]:
        """What must be seen and was not, and exceptions that are none."""
        found = []
        for name, outcomes in self.required().items():
            for outcome, exceptions in EXCEPTIONS.items():
                was_seen = outcome in self.seen[name]
                if name in exceptions and was_seen:
                    found.append(f"{name}: {outcome} was seen, but is listed as impossible")
                elif outcome in outcomes and not was_seen and name not in exceptions:
                    found.append(f"{name}: no {outcome} was seen")
        return found

    def required(self) -> dict[str, set[str]]:
        """Command or subcommand -> the outcomes that must be seen of it."""
        wanted = {row.name: _wanted_of(row) for row in self.rows()}
        for name, arity in self.subcommands.items():
            wanted[name] = {SUCCESS, ARITY} if arity > 0 or arity < -2 else {SUCCESS}
        return wanted

    @property
    def unknown(self) -> list[str]:
        """Commands and subcommands of the server that Redis 7.0 has not."""
        of_7_0 = {member.name for facts in COMMANDS.values() for member in facts.family}
        told = {*self.known, *self.subcommands}
        return sorted(told - {name.upper().replace("|", " ") for name in of_7_0})

    def rows(self) -> list[Command]:
        rows = TABLE.rows.values()
        return [row for row in rows if row.kind is not Kind.OWN and row.name in self.known]

    def arity_dialogues(self) -> list[Dialogue]:
        """Every command and subcommand with an argument too few, and too many where counted.

        Refused requests change nothing, so one dialogue holds many.
        """
        requests: Dialogue = []
        counted = {row.name: row.arity for row in self.rows()} | self.subcommands
        for name, arity in counted.items():
            if name in NO_ARITY_ERROR:
                continue
            words = name.split()
            if abs(arity) > len(words):
                requests.append([*words, *["x"] * (abs(arity) - len(words) - 1)])
            if arity > 0:
                requests.append([*words, *["x"] * (arity - len(words) + 1)])
        return [requests[at : at + 40] for at in range(0, len(requests), 40)]


def _wanted_of(row: Command) -> set[str]:
    wanted = {SUCCESS, OTHER}
    if row.arity > 0 or row.arity < -1:
        wanted.add(ARITY)
    if (row.keys or row.numkeys_at) and TYPES & COMMANDS[row.name.lower()].categories:
        wanted.add(WRONGTYPE)
    return wanted


def outcome_of(frame: bytes) -> str:
    if frame[:1] != b"-":
        return SUCCESS
    if b"wrong number of arguments" in frame:
        return ARITY
    return WRONGTYPE if frame.startswith(b"-WRONGTYPE") else OTHER


def _names(redis: RedisProcess) -> tuple[set[str], dict[str, int]]:
    """Commands of the server; its subcommands with their arity (none before Redis 7)."""
    with Wire(redis.port) as wire:
        rows = decode(wire.ask("COMMAND"))
    known = {row[0].decode().upper() for row in rows}
    described: Iterable[list[bytes]] = (sub for row in rows for sub in (row[9] if row[9:] else ()))
    subcommands = {
        name.decode().upper().replace("|", " "): int(arity) for name, arity, *_ in described
    }
    return known, subcommands
