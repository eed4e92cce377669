"""Writes docs/COMMANDS.md from the command table."""

from __future__ import annotations

from collections.abc import Iterator

from .command import Command, Kind
from .facts import InMulti
from .table import ROWS


def commands_page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "Written from `proxy/commands/rows/` by `make docs`; do not edit."
    yield ""
    yield (
        "Every command of Redis works. This page shows how Terrace handles each command, and "
        "so its cost and the tier that answers it. An unlisted command (of a module, or of a "
        "newer Redis) runs alone on a private connection and Redis answers it, unless the reply "
        "to COMMAND proves that it can share one. On stored keys it is refused if it may write."
    )
    for kind in Kind:
        rows = sorted((row for row in ROWS if row.kind is kind), key=lambda row: row.name)
        yield ""
        yield f"## {kind.name.capitalize()}"
        yield ""
        yield kind.value[0].upper() + kind.value[1:] + "."
        yield ""
        if kind is Kind.OWN:
            yield from (f"- `{row.name}`: {row.summary}." for row in rows)
        else:
            yield " ".join(f"`{row.name}`" for row in rows) + "."
    yield from _notes()


def _notes() -> Iterator[str]:
    yield ""
    yield "## Arguments that make a cached read uncached"
    yield ""
    for row in sorted(ROWS, key=lambda row: row.name):
        if row.max_args:
            yield f"- `{row.name}` with more than {_shown(row)}: goes to L2."
    yield "- L1 answers `MGET` only if it has all of its keys."
    yield ""
    yield "## Commands with a special treatment in a transaction"
    yield ""
    yield (
        "Redis queues every command between MULTI and EXEC. These would act on the connection "
        "between Terrace and Redis, so Terrace refuses them, and EXEC then runs nothing:"
    )
    yield ""
    yield _in_multi(InMulti.REFUSED)
    yield ""
    yield "For these Redis queues a PING instead, and Terrace answers them after EXEC:"
    yield ""
    yield _in_multi(InMulti.ANSWERED)


def _in_multi(becomes: InMulti) -> str:
    found = [row.name for row in ROWS if row.in_multi is becomes]
    for row in ROWS:
        subcommands = row.facts.subcommands.values() if row.facts is not None else ()
        found += [
            each.name.upper().replace("|", " ") for each in subcommands if each.in_multi is becomes
        ]
    return " ".join(f"`{name}`" for name in sorted(found)) + "."


def _shown(row: Command) -> str:
    count = row.max_args - 1
    return f"{count} argument" + ("s" if count > 1 else "")
