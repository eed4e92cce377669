"""Commands as data: the columns of a row, and how a request finds its row.

The rows are in `rows`. Dispatch, access control, transactions, CLIENT PAUSE, COMMAND's
additions and docs/COMMANDS.md all read them. A command without a row is unknown: it runs
alone on a private connection to Redis, which answers it or refuses it itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from tiers.proxy_door import Fields

from .access import KeyFinder, KeySpec
from .facts import NAME_MAX_BYTES, CommandFacts, InMulti, read_facts, word

HTTP_WORDS = frozenset((b"POST", b"HOST:"))  # not commands: an HTTP request begins like this


class Kind(enum.Enum):
    """How Terrace handles a command. The text is for docs/COMMANDS.md."""

    CACHED = "deterministic keyed read: L1, else L2 and a fill (for mapped keys also L3)"
    READ = "read-only but time-relative, random, multi-key or without keys: L2, never cached"
    WRITE = "write with known keys: L2, with the coherence steps around it"
    OPAQUE = "may write keys that cannot be known: L2, then a barrier on the tracked connection"
    FLUSH = "changes whole databases: L2; L1 is flushed at its sending and at its reply"
    PRIVATE = "may block or change connection state: alone on a private connection"
    STATE = "starts or ends a state that needs a private connection for longer"
    LOCAL = "about the connection or about Terrace: handled by Terrace"
    OWN = "Terrace's own command"
    REFUSED = "would turn the connection into a replication stream: refused"


_READS = (Kind.CACHED, Kind.READ)
_WRITES = (Kind.WRITE, Kind.OPAQUE, Kind.PRIVATE)
_ANSWERED_HERE = (Kind.LOCAL, Kind.OWN, Kind.REFUSED)


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    arity       as in Redis: positive exact, negative minimum; includes the name.
    facts       categories, keys and channels for access control, and subcommands; None for
                a command that only the server has described.
    keys        (first, last, step) positions of the keys; last < 0 counts from the end.
    numkeys_at  position of a key count, followed by the keys (EVAL, SINTERCARD); added to `keys`.
    max_args    maximum number of arguments for caching (0: any number).
    resp2       how its RESP3 reply becomes the RESP2 one (see `to_resp2`).
    portable    its RESP3 reply can be rewritten for a RESP2 client; always so for CACHED.
    specs       further positions of keys, from the server's description.
    acl_keys    only access control's rules find its keys (SORT ... STORE).
    any_key     any argument may be a key: the positions are unknown. See `may_touch`.
    reads_only  for PRIVATE: it writes nothing.
    keyless     for PRIVATE: it concerns no key, so nothing waits for its writes.
    overwrites  does not read the old value: a mapped key need not be loaded before it;
                if it has `options`, only if all options are of those, each with one value.
    deletes     removes its keys, whatever their values are.
    reads_hidden  its BY and GET read keys that no argument names.
    may_block   blocks if it has a BLOCK argument.
    scripts     runs a script, which may take long, or reports scripts.
    fields      where a read names its hash fields (see `tiers.l1.hash_fields`): they may
                expire before the key.
    from_row    how a row of L3 answers it (see `flow.rows`); "": Redis answers from the row.
    in_multi    its treatment between MULTI and EXEC; `facts` may have it by subcommand.
    leaves      ends any state of the connection.
    subscription  the subscriptions of the client that it changes.
    held_in_pause  CLIENT PAUSE WRITE holds it, though it is not in the category of writes:
                Redis may replicate it, or it changes L2 and L3.
    handler     the function in `handlers` that answers it.
    summary     for own commands: the text for COMMAND DOCS and the manual.

    Derived: `no_auth` (allowed before a login), `is_script` (runs a script), `blocks` (may wait
    for other clients), `reads`, `may_write`, `answered_here`.
    """

    name: str
    arity: int
    kind: Kind
    facts: CommandFacts | None = None
    keys: tuple[int, int, int] | None = None
    numkeys_at: int = 0
    max_args: int = 0
    resp2: str = "plain"
    portable: bool = False
    specs: tuple[KeySpec, ...] = ()
    acl_keys: bool = False
    any_key: bool = False
    reads_only: bool = False
    keyless: bool = False
    overwrites: bool = False
    options: tuple[bytes, ...] = ()
    deletes: bool = False
    reads_hidden: bool = False
    may_block: bool = False
    scripts: bool = False
    fields: Fields = Fields.NONE
    from_row: str = ""
    in_multi: InMulti = InMulti.QUEUED
    leaves: bool = False
    subscription: str = ""
    held_in_pause: bool = False
    handler: str = ""
    summary: str = ""

    no_auth: bool = field(init=False)
    is_script: bool = field(init=False)
    blocks: bool = field(init=False)
    reads: bool = field(init=False)
    may_write: bool = field(init=False)
    answered_here: bool = field(init=False)

    def __post_init__(self) -> None:
        categories: frozenset[str] = frozenset() if self.facts is None else self.facts.categories
        for name, value in (
            ("no_auth", self.facts is not None and self.facts.no_auth),
            ("is_script", "scripting" in categories),
            ("blocks", "blocking" in categories),
            ("reads", self.kind in _READS),
            ("may_write", self.kind in _WRITES and not self.reads_only),
            ("answered_here", self.kind in _ANSWERED_HERE),
        ):
            object.__setattr__(self, name, value)

    def facts_of(self, args: Sequence[bytes]) -> tuple[CommandFacts | None, bool]:
        """The facts of a command line, and whether its subcommand (if any) is known."""
        facts = self.facts
        if facts is None or not facts.subcommands or len(args) < 2:
            return facts, True
        sub = facts.subcommands.get(word(args[1]))
        return (facts, False) if sub is None else (sub, True)

    def in_multi_of(self, args: Sequence[bytes]) -> InMulti:
        """The treatment of a command line between MULTI and EXEC, also by its subcommand."""
        facts, _ = self.facts_of(args)
        return InMulti.QUEUED if facts is None else facts.in_multi

    def is_handled(self, args: Sequence[bytes]) -> bool:
        """Whether the handler accepts this number of arguments."""
        facts, _ = self.facts_of(args)
        return facts is not None and facts.is_handled(len(args))

    def accepts(self, count: int) -> bool:
        """Whether `count` arguments (the name included) satisfy the arity."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    def keys_of(self, args: Sequence[bytes]) -> list[bytes]:
        """The keys among `args`; never raises, whatever the arguments are."""
        if self.acl_keys and self.facts is not None:
            uses = self.facts.keys(args)
            return [args[use.position] for use in uses if use.position < len(args)]
        found: list[bytes] = []
        if self.keys is not None:
            first, last, step = self.keys
            end = last if last >= 0 else len(args) + last
            found += args[first : end + 1 : step]
        if self.numkeys_at and len(args) > self.numkeys_at:
            at = self.numkeys_at
            count = int(args[at]) if args[at].isdigit() and len(args[at]) < 8 else 0
            found += args[at + 1 : at + 1 + count]
        for spec in self.specs:
            found += [
                args[use.position] for use in spec.find(args) or () if use.position < len(args)
            ]
        return found

    def may_touch(self, args: Sequence[bytes]) -> Sequence[bytes]:
        """All arguments that may be keys, for a caller that must not miss any use of its keys."""
        return args[1:] if self.any_key else self.keys_of(args)

    def overwrites_blindly(self, args: Sequence[bytes]) -> bool:
        """Whether this request ignores the old values of its keys."""
        if not self.overwrites or not self.options:
            return self.overwrites
        # An unknown option (SET ... IFEQ) may read them.
        return all(arg.upper() in self.options for arg in args[3::2])

    def is_blocking(self, args: Sequence[bytes]) -> bool:
        return self.may_block and any(arg.upper() == b"BLOCK" for arg in args[1:])


class Columns(TypedDict, total=False):
    """The columns that a row may set, beside its name, its kind and the text of Redis."""

    keys: tuple[int, int, int]
    max_args: int
    resp2: str
    portable: bool
    specs: tuple[KeySpec, ...]
    acl_keys: bool
    any_key: bool
    reads_only: bool
    keyless: bool
    overwrites: bool
    options: tuple[bytes, ...]
    deletes: bool
    reads_hidden: bool
    may_block: bool
    scripts: bool
    fields: Fields
    from_row: str
    in_multi: InMulti
    leaves: bool
    subscription: str
    held_in_pause: bool
    handler: str
    summary: str


def row(
    name: str,
    kind: Kind,
    text: str,
    *subcommands: CommandFacts,
    finder: KeyFinder | None = None,
    **columns: Unpack[Columns],
) -> Command:
    """A row of the table. `text` has Redis' facts about the command (see `facts`)."""
    facts = read_facts(name.lower(), text, subcommands, finder)
    # The keys of a container are those of its subcommands that have a key.
    of_keys = next((each.specs for each in facts.family if each.specs), ())
    counted = [spec.index for spec in of_keys if spec.counted]
    ranges = [found for spec in of_keys if (found := spec.fixed_range) is not None]
    if ranges:
        columns.setdefault("keys", (ranges[0][0], ranges[-1][1], ranges[0][2]))
    return Command(name, facts.arity, kind, facts, numkeys_at=sum(counted), **columns)


UNKNOWN = Command("(unknown)", -1, Kind.PRIVATE, any_key=True)


class CommandTable:
    """Name -> row, case-insensitive; common spellings cost one dict look-up."""

    def __init__(self, rows: Sequence[Command]) -> None:
        self.followers: list[Callable[[Sequence[Command]], object]] = []
        self.replace(rows)

    def replace(self, rows: Sequence[Command]) -> None:
        """Use other rows from the next look-up on. Raises ValueError for a duplicate."""
        self.rows = {row.name.encode(): row for row in rows}
        if len(self.rows) != len(rows):
            raise ValueError("a command has two rows")
        self._spellings = dict(self.rows)
        self._spellings.update({name.lower(): row for name, row in self.rows.items()})
        for follow in self.followers:
            follow(rows)

    # twin: _lane.find
    def find(self, name: bytes) -> Command:
        if len(name) > NAME_MAX_BYTES:
            return UNKNOWN  # without a look-up: it may have megabytes
        return self._spellings.get(name) or self.rows.get(name.upper(), UNKNOWN)
