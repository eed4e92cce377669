"""The command line, and the only handler of unexpected errors.

Each command imports its modules when it runs: `terrace --version` and the trial commands
do not wait for the server's libraries, nor the server for theirs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config.model import Config

EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
DEMO_NEEDS = ("redis", "rich")  # packages of the extra `embedded`, which the server does not need


@dataclass(frozen=True, slots=True)
class Command:
    help: str
    run: Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    try:
        try:
            args = _parser().parse_args(argv)
            if args.command is None:
                _parser().print_help(sys.stderr)
                return EXIT_USAGE
            return _guarded(args)
        except ImportError as error:
            if not _is_about_the_core(error):
                raise
            _say(str(error))
            return EXIT_USAGE
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): print nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PROBLEM


def _guarded(args: argparse.Namespace) -> int:
    """Run the command; for any error, the user gets an exit code and at most one line."""
    try:
        return COMMANDS[args.command].run(args.arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except MemoryError:
        _say(
            "not enough memory; lower l1.max_bytes, or raise the limit of this process "
            "(ulimit -v, or the limit of its container)"
        )
        return EXIT_PROBLEM
    except Exception as error:
        if args.debug or _is_about_the_core(error):
            raise
        _say(_unexpected(error))
        return EXIT_PROBLEM


def _is_about_the_core(error: Exception) -> bool:
    """Whether the core failed to load. Importing `tiers` raised it, so its class is unavailable."""
    return isinstance(error, ImportError) and str(error).startswith("TERRACE_CORE=")


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:18}{command.help}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="terrace",
        usage="terrace [--debug] COMMAND [ARGUMENT …]",
        description="A caching proxy that speaks the Redis protocol.",
        epilog=f"commands:\n{commands}\n\n`terrace COMMAND --help` shows the options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    parser.add_argument(
        "--debug", action="store_true", help="print the full trace of an unexpected error"
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


class _Version(argparse.Action):
    """Looks the version up only on demand."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        from tiers.proxy_door import CORE_TEXT

        try:
            print(f"terrace {version('redis-terrace')} ({CORE_TEXT})")
        except PackageNotFoundError:
            print(f"terrace, not installed: running from a source tree ({CORE_TEXT})")
        parser.exit()


class _OptionsHelp(argparse.Action):
    """--help with all options of the configuration, imported only for it."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="list all options and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .config.text import help_text

        print(parser.format_help(), help_text(), sep="\n")
        parser.exit()


def _reader_of(command: str, argv: Sequence[str]) -> Callable[[], Config]:
    """A function that reads the configuration of `argv`, also repeatedly. Raises ConfigError."""
    parser = argparse.ArgumentParser(
        prog=f"terrace {command}", description=COMMANDS[command].help, add_help=False
    )
    parser.add_argument("-h", "--help", action=_OptionsHelp)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set one option, as in --set l1.max_bytes=64MiB; repeatable",
    )
    args = parser.parse_args(argv)

    from .config.load import load

    return partial(load, args.config, os.environ, args.set)


def _config_of(command: str, argv: Sequence[str]) -> Config | None:
    """The configuration of `argv`; None after its problems were printed."""
    return _read_or_report(_reader_of(command, argv))


def _read_or_report(read: Callable[[], Config]) -> Config | None:
    from .config.load import ConfigError

    try:
        return read()
    except ConfigError as error:
        count = len(error.problems)
        _say(f"the configuration has {count} problem{'s' if count > 1 else ''}:", str(error))
        return None


def _serve(argv: Sequence[str]) -> int:
    read = _reader_of("serve", argv)
    config = _read_or_report(read)
    if config is None:
        return EXIT_PROBLEM
    from . import log
    from .serve import run

    log.set_up(config.log)
    return run(config, read)


def _check(argv: Sequence[str]) -> int:
    config = _config_of("check", argv)
    if config is None:
        return EXIT_PROBLEM
    import uvloop

    from . import log
    from .check import check, summary
    from .config.model import LogOptions

    log.set_up(LogOptions(level="error"))  # the report already has the warnings
    findings = uvloop.run(check(config))  # uvloop, as in `serve`, for the same messages
    if findings.problems:
        print("\n".join(findings.problems), file=sys.stderr)
        return EXIT_PROBLEM
    print("\n".join(summary(config, findings)))
    return 0


def _run(argv: Sequence[str]) -> int:
    from .embedded.run import main as run

    return run(argv)


def _demo(argv: Sequence[str]) -> int:
    try:
        from .embedded.demo import main as demo
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in DEMO_NEEDS:
            raise
        _say(f"the demo needs {missing}: pip install 'redis-terrace[embedded]'")
        return EXIT_PROBLEM

    return demo(argv)


def _install_triggers(argv: Sequence[str]) -> int:
    from .install_triggers import main as install_triggers

    return install_triggers(argv, lambda rest: _config_of("install-triggers", rest))


COMMANDS: dict[str, Command] = {
    "serve": Command("serve Redis clients until a signal ends it", _serve),
    "check": Command("report all problems of a configuration and its servers", _check),
    "run": Command("try Terrace: embedded Redis and PostgreSQL with sample data", _run),
    "demo": Command("show which tier answers; needs a running `terrace run`", _demo),
    "install-triggers": Command(
        "make a table in PostgreSQL notify Terrace of changed rows", _install_triggers
    ),
}


def _say(*lines: str) -> None:
    print(f"terrace: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)


def _unexpected(error: Exception) -> str:
    """One line for the user; the trace goes into a file for a bug report."""
    from .masking import mask, one_line

    what = one_line(f"unexpected {type(error).__name__}: {error}")
    try:
        descriptor, name = tempfile.mkstemp(prefix="terrace-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(mask("".join(traceback.format_exception(error))))
    except OSError:
        return f"{what}; `terrace --debug …` prints the full trace"
    return f"{what}; the full trace is in {name}"
