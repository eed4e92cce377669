"""The command table: one row per command of Redis 7.0 and per command of Terrace.

The rows are in `rows`, one file per family of commands; `command.Command` explains the columns.
Names, arities, categories and the positions of keys are Redis' own (COMMAND); tests compare
them with a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from .command import Command, CommandTable
from .facts import CommandFacts
from .rows import (
    channels,
    connection,
    geo,
    hashes,
    keys,
    lists,
    scripts,
    server,
    sets,
    sorted_sets,
    streams,
    strings,
    terrace,
    transactions,
)

_FAMILIES = (
    strings, hashes, lists, sets, sorted_sets, streams, geo, keys, scripts, channels,
    transactions, connection, server, terrace,
)  # fmt: skip

ROWS: tuple[Command, ...] = tuple(chain.from_iterable(family.ROWS for family in _FAMILIES))
TABLE = CommandTable(ROWS)
WAITS = frozenset((b"WAIT", b"WAITAOF"))  # WAITAOF has no row: it is new in Redis 7.2
SUBSCRIPTIONS: Mapping[str, str] = {row.name: row.subscription for row in ROWS if row.subscription}

# For access control, by name in lower case.
COMMANDS: Mapping[str, CommandFacts] = {
    row.facts.name: row.facts
    for row in sorted(ROWS, key=lambda row: row.name.lower())
    if row.facts is not None
}


def named(name: str) -> CommandFacts | None:
    """The facts of "get" or "config|get", in any case."""
    container, bar, sub = name.lower().partition("|")
    facts = COMMANDS.get(container)
    return facts.subcommands.get(sub) if bar and facts is not None else facts
