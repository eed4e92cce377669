"""`terrace install-triggers`: triggers on a base table that push the keys of changed rows."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

from tiers import L3Options, TierError
from tiers.proxy_door import Mappings, Triggers, run_triggers

from .config.model import Config

EXIT_PROBLEM = 1


def main(argv: Sequence[str], config_of: Callable[[Sequence[str]], Config | None]) -> int:
    """`config_of` reads the configuration from the arguments that this command does not know."""
    args, rest = _parser().parse_known_args(argv)
    config = config_of(rest)
    if config is None:
        return EXIT_PROBLEM
    options = config.l3
    if args.dsn:
        options = options.model_copy(update={"dsn": args.dsn, "direct_dsn": ""})
    try:
        triggers = Triggers(options.schema_name, args.table, args.key)
    except TierError as problem:
        return _complain(str(problem))
    statements = triggers.drop() if args.drop else triggers.install()
    if args.dry_run:
        print(";\n\n".join(statements), end=";\n")
        return 0
    if not options.dsn:
        return _complain("l3.dsn is empty; set it, or give --dsn postgresql://user@host:port/db")
    try:
        asyncio.run(run_triggers(options, statements))
    except TierError as problem:
        return _complain(str(problem))
    done = "no longer pushes" if args.drop else "pushes"
    print(f"{args.table} {done} the keys {args.key}")
    if not args.drop:
        _note_unmapped(options, args.key)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="terrace install-triggers",
        description=(
            "Install triggers on a base table: when rows change, their keys are removed from Redis "
            "and every L1, and the mapped view is refreshed earlier. Also takes the options of the "
            "configuration (--config FILE, --set NAME=VALUE)."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--table", required=True, help="the table, optionally schema-qualified")
    parser.add_argument(
        "--key", required=True, metavar="PATTERN",
        help="the keys of a row, like airport:{iata}, with columns of the table in braces",
    )  # fmt: skip
    parser.add_argument("--dsn", default="", help="the database, instead of l3.dsn")
    parser.add_argument("--drop", action="store_true", help="remove the triggers")
    parser.add_argument("--dry-run", action="store_true", help="only print the SQL")
    return parser


def _note_unmapped(options: L3Options, pattern: str) -> None:
    if not any(mapping.options.keys == pattern for mapping in Mappings(options.view)):
        print(
            f'note: no [[l3.view]] of this configuration has keys = "{pattern}"; '
            "unmapped keys are ignored",
            file=sys.stderr,
        )


def _complain(text: str) -> int:
    print(f"terrace: {text}", file=sys.stderr)
    return EXIT_PROBLEM
