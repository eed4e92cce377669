"""Compares the command table with the COMMAND reply of a server.

The table is that of Redis 7.0. Other servers have more commands, or other facts about
them; Terrace adopts both if that is safe:

  the server's facts about a command                       Terrace handles it as
  unknown to the table, keys at fixed positions, readonly  plain read
  unknown to the table, keys at fixed positions, write     write
  unknown to the table, all others                         alone

  known to the table as a read, cached read or write:
  blocking                                                 alone
  write, though the table reads                            write; opaque if its keys vary
  not readonly, variable keys, or a random reply,
    though the table caches                                plain read
  other positions of keys, though the table caches         plain read of those keys
  other positions of keys, though the table writes         opaque write
  keys that vary, though the table writes fixed ones       opaque write
  reads old values, though the table overwrites blindly    one that reads old values

Nothing else changes a row of the table, so a row can only become stricter. A new command
shares a connection only if its flags and categories prove that it neither blocks nor
changes the state of the connection. A command of a module never does, as a module may
block without a flag. For a command that runs alone, Terrace still adopts the positions of
its keys; if they are incomplete, any argument may be a key. Redis checks the arity of known
commands: a request with an unexpected arity is forwarded uncached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .access import READ, WRITE, KeySpec
from .command import HTTP_WORDS, Command, Kind

COMMANDS_MAX = 5000  # rows of a server that are read
NAME_MAX_BYTES = 64
NAMES_SHOWN = 12  # in the log line and in INFO
_POSITION_MAX = 64
_SUBCOMMANDS = 9  # their column
_SPECS_AT, _SUBCOMMANDS_AT = 8, 9  # columns of COMMAND
_DOUBTS = frozenset(
    ("admin", "asking", "blocking", "module", "no_auth", "no_multi", "noscript", "pubsub",
     "@admin", "@blocking", "@connection", "@dangerous", "@pubsub", "@scripting", "@transaction")
)  # fmt: skip
_RANDOM = "nondeterministic_output"
_SHARED = (Kind.CACHED, Kind.READ, Kind.WRITE, Kind.OPAQUE, Kind.FLUSH)
_NAMES = {Kind.READ: "plain read", Kind.WRITE: "write", Kind.OPAQUE: "opaque write",
          Kind.PRIVATE: "alone", Kind.CACHED: "cached read", Kind.FLUSH: "flush"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """One element of COMMAND's reply."""

    name: str
    arity: int
    keys: tuple[int, int, int]
    words: frozenset[str]  # flags, @categories and tips
    specs: tuple[KeySpec, ...] | None = None  # positions of its keys; None: unknown or incomplete
    looks: bool = False  # its key specifications say that it reads old values

    @property
    def fixed_keys(self) -> tuple[int, int, int] | None:
        """First, last and step of the keys, if they are the same in every request."""
        first, last, step = self.keys
        sane = 0 < first <= _POSITION_MAX and 0 < step <= _POSITION_MAX
        reachable = first <= last <= _POSITION_MAX or -_POSITION_MAX <= last < 0
        return self.keys if sane and reachable and "movablekeys" not in self.words else None

    @property
    def places(self) -> dict[str, Any]:
        """The columns of a row with the positions of its keys."""
        fixed, specs = self.fixed_keys, self.specs
        if specs is None:
            return {"keys": fixed, "any_key": fixed is None or "module" in self.words}
        if fixed is not None and [fixed] == [spec.fixed_range for spec in specs]:
            return {"keys": fixed}
        return {"specs": specs, "any_key": not specs and "module" in self.words}


@dataclass(frozen=True)
class CommandCheck:
    """The result: the rows to use, and the differences from the table."""

    rows: tuple[Command, ...]
    adopted: tuple[Command, ...] = ()  # new to the table
    alone: tuple[str, ...] = ()  # new to the table: they run alone
    stricter: tuple[tuple[Command, Command], ...] = ()  # row of the table, row in use
    odd: int = 0  # invalid elements of the reply

    @property
    def differs(self) -> bool:
        return bool(self.adopted or self.alone or self.stricter or self.odd)

    def new_text(self) -> str:
        new = [f"{row.name.lower()} ({_NAMES[row.kind]})" for row in self.adopted]
        return _listing(new + [f"{name.lower()} (alone)" for name in self.alone])

    def stricter_text(self) -> str:
        return _listing([f"{old.name.lower()} ({_NAMES[new.kind]})" for old, new in self.stricter])

    def text(self) -> str:
        """One bounded line."""
        parts = []
        if self.adopted or self.alone:
            parts.append(f"new: {self.new_text()}")
        if self.stricter:
            parts.append(f"stricter than the table: {self.stricter_text()}")
        if self.odd:
            parts.append(f"{self.odd} invalid descriptions")
        return "; ".join(parts)


def _listing(items: Sequence[str]) -> str:
    more = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass
class _Findings:
    adopted: dict[str, Command] = field(default_factory=dict)
    alone: dict[str, Command] = field(default_factory=dict)
    stricter: dict[str, tuple[Command, Command]] = field(default_factory=dict)
    odd: int = 0


def check(table: Sequence[Command], reply: object) -> CommandCheck:
    """Compare the table with `reply`, the decoded reply of COMMAND. Never raises."""
    if not isinstance(reply, list):
        return CommandCheck(tuple(table), odd=1)
    known = {row.name: row for row in table}
    found = _Findings()
    for element in reply[:COMMANDS_MAX]:
        described = describe(element)
        if described is None:
            found.odd += 1
        elif described.name in known:
            row = known[described.name]
            held = stricter(row, described)
            if held is not row:
                found.stricter[row.name] = row, held
        elif described.name.encode() not in HTTP_WORDS:  # Redis also lists them
            new = adopt(described)
            if described.name in found.alone:
                found.alone[described.name] = alone(described, doubted=True)
            elif new is None:
                doubted = found.adopted.pop(described.name, None) is not None
                found.alone[described.name] = alone(described, doubted=doubted)
            else:
                found.adopted[described.name] = new
    found.odd += max(0, len(reply) - COMMANDS_MAX)
    rows = [found.stricter.get(row.name, (row, row))[1] for row in table]
    return CommandCheck(
        (*rows, *found.adopted.values(), *found.alone.values()),
        tuple(sorted(found.adopted.values(), key=lambda row: row.name)),
        tuple(sorted(found.alone)),
        tuple(found.stricter.values()),
        found.odd,
    )


def describe(element: object) -> Described | None:
    """One element of COMMAND of Redis 6.2 (seven columns) or later; None if it is invalid."""
    if not isinstance(element, list) or len(element) < 6:
        return None
    name, arity, _, *keys = element[:6]
    if not isinstance(name, bytes) or not 0 < len(name) <= NAME_MAX_BYTES:
        return None
    if not all(0x21 <= char <= 0x7E for char in name):
        return None
    if not all(type(number) is int for number in (arity, *keys)) or not arity:
        return None
    words: set[str] = set()
    for at in (2, 6, 7):  # flags, categories, tips
        words |= _words(element[at] if at < len(element) else [])
    specs, looks = None, False
    if len(element) > _SPECS_AT and not (len(element) > _SUBCOMMANDS_AT and element[-1]):
        specs, looks = read_specs(element[_SPECS_AT])
    place = (keys[0], keys[1], keys[2])
    return Described(name.decode().upper(), arity, place, frozenset(words), specs, looks)


def read_specs(column: Any) -> tuple[tuple[KeySpec, ...] | None, bool]:
    """Key specifications, None unless they are complete and simple; and whether the command
    reads old values."""
    found: list[KeySpec] | None = []
    looks = False
    for item in column if isinstance(column, list | tuple) else [None]:
        given = _pairs(item)
        flags = _words(given.get(b"flags"))
        if "not_key" in flags:
            continue
        looks = looks or ("rw" in flags and "variable_flags" not in flags)
        spec = None if "incomplete" in flags else _spec(given)
        if spec is None or found is None:
            found = None
        else:
            found.append(spec)
    return (None if found is None else tuple(found)), looks


def _spec(given: dict[Any, Any]) -> KeySpec | None:
    begin, find = _pairs(given.get(b"begin_search")), _pairs(given.get(b"find_keys"))
    at, how = _pairs(begin.get(b"spec")), _pairs(find.get(b"spec"))
    index: Any = at.get(b"index")
    step: Any = how.get(b"keystep")
    if begin.get(b"type") != b"index" or not _is_position(index) or not _is_position(step):
        return None
    if find.get(b"type") == b"keynum":
        plain = (how.get(b"keynumidx"), how.get(b"firstkey")) == (0, 1)
        return KeySpec(READ | WRITE, index, counted=True, step=step) if plain else None
    last = how.get(b"lastkey")
    simple = find.get(b"type") == b"range" and not how.get(b"limit")
    if not simple or type(last) is not int or abs(last) > _POSITION_MAX:
        return None
    return KeySpec(READ | WRITE, index, last=last, step=step)


def _is_position(number: Any) -> bool:
    return type(number) is int and 0 < number <= _POSITION_MAX


def _pairs(item: Any) -> dict[Any, Any]:
    """A map, in RESP3 or as a list of names and values; empty for other types."""
    if isinstance(item, list) and len(item) % 2 == 0:
        names = item[::2]
        if all(isinstance(name, bytes) for name in names):
            return dict(zip(names, item[1::2], strict=True))
    return item if isinstance(item, dict) else {}


def subcommands(reply: object, container: bytes) -> frozenset[bytes]:
    """The server's subcommands of a command, in upper case; Redis 6.2 reports none."""
    found: set[bytes] = set()
    for element in reply[:COMMANDS_MAX] if isinstance(reply, list) else ():
        if isinstance(element, list) and len(element) > _SUBCOMMANDS and element[0] == container:
            column = element[_SUBCOMMANDS]
            for row in column if isinstance(column, list) else ():
                if isinstance(row, list) and row and isinstance(row[0], bytes):
                    found.add(row[0].rpartition(b"|")[2].upper())
    return frozenset(found)


def _words(column: Any) -> set[str]:
    if not isinstance(column, list | set | frozenset | tuple):
        return set()
    return {word.decode("latin-1").lower() for word in column if isinstance(word, bytes)}


def adopt(described: Described) -> Command | None:
    """The row for a command that the table does not have; None: its facts are not reliable."""
    words, places = described.words, described.places
    has_categories = any(word.startswith("@") for word in words)
    nowhere = described.fixed_keys is None and not described.specs
    if nowhere or places.get("any_key") or not has_categories:
        return None
    if words & _DOUBTS or "." in described.name:
        return None
    reads, writes = "readonly" in words, "write" in words
    if reads == writes:
        return None
    kind = Kind.WRITE if writes else Kind.READ
    return Command(described.name, described.arity, kind, **places)


def alone(described: Described, *, doubted: bool) -> Command:
    """The row for a command that runs alone: only its keys matter. `doubted`: unknown keys."""
    reads_only = "readonly" in described.words and "write" not in described.words
    return Command(
        described.name, described.arity, Kind.PRIVATE, reads_only=reads_only and not doubted,
        **({"any_key": True} if doubted else described.places),
    )  # fmt: skip


def stricter(row: Command, described: Described) -> Command:
    """The row for this server: unchanged, unless the server's facts are stricter."""
    words = described.words
    if row.kind not in _SHARED:
        return row
    if "blocking" in words and not row.may_block:
        return replace(row, kind=Kind.PRIVATE)
    moved = described.keys[0] > 0 and described.keys != row.keys and not row.numkeys_at
    opaque = replace(
        row, kind=Kind.OPAQUE, portable=False, max_args=0, overwrites=False,
        specs=described.specs or (), any_key=described.specs is None,
    )  # fmt: skip
    if row.kind in (Kind.CACHED, Kind.READ) and "write" in words:
        fixed = described.fixed_keys
        if fixed is None:
            return opaque
        return replace(row, kind=Kind.WRITE, keys=fixed, portable=False, max_args=0)
    if row.kind is Kind.CACHED:
        unsafe = "readonly" not in words or "movablekeys" in words or _RANDOM in words
        if unsafe or moved:
            keys = described.fixed_keys if moved else row.keys
            return replace(row, kind=Kind.READ, keys=keys, max_args=0)
    if row.kind is Kind.WRITE and (moved or ("movablekeys" in words and not row.numkeys_at)):
        return opaque
    if row.overwrites and described.looks:
        return replace(row, overwrites=False)
    return row
