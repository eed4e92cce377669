"""docs/COMMANDS.md, written from the command table."""

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
        "Every command of Redis works. This page says which way each one goes, and so what it "
        "costs and what it may answer from. A command that is not listed (a module's, or one of a "
        "newer Redis) runs alone on a private connection and is answered by Redis itself, unless "
        "COMMAND says enough of it to share one. On stored keys it is refused if it may write."
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
    yield "## Which arguments keep a cached read from being cached"
    yield ""
    for row in sorted(ROWS, key=lambda row: row.name):
        if row.max_args:
            yield f"- `{row.name}` with more than {_shown(row)}: goes to L2."
    yield "- `MGET` is answered from L1 only when all of its keys are there."
    yield ""
    yield "## What a transaction cannot hold, or holds in another form"
    yield ""
    yield (
        "Redis queues every command between MULTI and EXEC. These would act on the connection "
        "between Terrace and Redis, so they are refused there, and EXEC then runs nothing:"
    )
    yield ""
    yield _in_multi(InMulti.REFUSED)
    yield ""
    yield "In place of these Redis queues a PING, and Terrace answers them when EXEC has run:"
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
