"""Commands as data: what a row says, and how a request finds its row.

The rows are in `command_table`. Dispatch, key extraction, COMMAND's additions and
docs/COMMANDS.md all read them. A command without a row is unknown: it runs alone
on a private connection to Redis, which answers it or refuses it itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiers import Fields

from .access import COMMANDS, NAME_MAX_BYTES, KeySpec


class Kind(enum.Enum):
    """How a command travels. The text is what docs/COMMANDS.md says."""

    CACHED = "deterministic keyed read: L1, else L2 and a fill (for mapped keys also L3)"
    READ = "read-only but time-relative, random, multi-key or without keys: L2, never cached"
    WRITE = "write with known keys: L2, with the coherence steps around it"
    OPAQUE = "may write keys that cannot be known: L2, then a barrier on the tracked connection"
    FLUSH = "changes whole databases: L2, L1 is flushed at sending and at the reply"
    PRIVATE = "may block or change connection state: alone on a private connection"
    STATE = "starts or ends a state that needs a private connection for longer"
    LOCAL = "about the connection or about Terrace: handled by Terrace"
    OWN = "Terrace's own command"
    REFUSED = "would turn the connection into a replication stream: refused"


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    arity       as in Redis: positive exact, negative at least; counts the name.
    keys        (first, last, step) positions of the keys; last < 0 counts from the end.
    numkeys_at  position of a count that the keys follow (EVAL, SINTERCARD); added to `keys`.
    max_args    cacheable only up to so many arguments (0: any number).
    resp2       how its RESP3 reply becomes the RESP2 one (see `to_resp2`).
    portable    its RESP3 reply can be rewritten for a RESP2 client; always so for CACHED.
    specs       further places of keys, as the server describes them.
    acl_keys    its keys are found as for access control, and only so (SORT ... STORE).
    any_key     any argument may be a key: nobody says where they are. See `may_touch`.
    reads_only  of PRIVATE: it writes nothing.
    overwrites  does not look at the old value: a mapped key need not be loaded before it;
                where it has `options`, only if all are of those, each with its one value.
    may_block   blocks when given a BLOCK argument.
    scripts     runs a script, which may take long, or says what scripts there are.
    fields      where a read names the hash fields that it looks at (see `tiers.l1.hash_fields`):
                they may expire before the key does.
    summary     for own commands: what COMMAND DOCS and the manual say.
    """

    name: str
    arity: int
    kind: Kind
    keys: tuple[int, int, int] | None = None
    numkeys_at: int = 0
    max_args: int = 0
    resp2: str = "plain"
    portable: bool = False
    specs: tuple[KeySpec, ...] = ()
    acl_keys: bool = False
    any_key: bool = False
    reads_only: bool = False
    overwrites: bool = False
    options: tuple[bytes, ...] = ()
    may_block: bool = False
    scripts: bool = False
    fields: Fields = Fields.NONE
    summary: str = ""

    def accepts(self, count: int) -> bool:
        """Whether `count` arguments (the name included) satisfy the arity."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    def keys_of(self, args: Sequence[bytes]) -> list[bytes]:
        """The keys among `args`; never raises, whatever the arguments are."""
        if self.acl_keys:
            uses = COMMANDS[self.name.lower()].keys(args)
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
        """All that may be keys among `args`: for who owns some keys and must miss no command."""
        return args[1:] if self.any_key else self.keys_of(args)

    def overwrites_blindly(self, args: Sequence[bytes]) -> bool:
        """Whether the old values of the keys cannot matter for this request."""
        if not self.overwrites or not self.options:
            return self.overwrites
        # An option that is not known (SET ... IFEQ) may look at them.
        return all(arg.upper() in self.options for arg in args[3::2])

    def is_blocking(self, args: Sequence[bytes]) -> bool:
        return self.may_block and any(arg.upper() == b"BLOCK" for arg in args[1:])


UNKNOWN = Command("(unknown)", -1, Kind.PRIVATE, any_key=True)


class CommandTable:
    """Name -> row, case-insensitive; the common spellings cost one dict look-up."""

    def __init__(self, rows: Sequence[Command]) -> None:
        self.followers: list[Callable[[Sequence[Command]], object]] = []
        self.replace(rows)

    def replace(self, rows: Sequence[Command]) -> None:
        """Other rows from the next look-up on. Raises ValueError for two of one command."""
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
            return UNKNOWN  # not even looked at: it may have megabytes
        return self._spellings.get(name) or self.rows.get(name.upper(), UNKNOWN)
