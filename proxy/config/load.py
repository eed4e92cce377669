"""Loads one frozen Config from the file, the environment and the flags.

`load` reports all problems at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from tiers import ViewOptions

from .check import Checker
from .model import Config
from .option_table import table
from .rules import broken_mapping_rules, broken_rules, broken_view_rules
from .sources import OF_DEFAULT, Problem, RawSettings
from .toml_lines import KeyPath


class ConfigError(Exception):
    """The configuration is invalid; the text has one line per problem, without secrets."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def load(path: Path | None, env: Mapping[str, str], flags: Sequence[str] = ()) -> Config:
    """Merge defaults, the file, TERRACE_ variables and flags ("l1.max_bytes=64MiB").

    A later source wins. Raises ConfigError with the problems of all sources.
    """
    rows = table(Config)
    settings = RawSettings()
    if path is not None:
        settings.add_file(path, rows)
    settings.add_environment(env, rows)
    settings.add_flags(flags, rows)

    checker = Checker(settings, rows)
    config = checker.values(Config)
    for paths, what in chain(_broken(config), _broken_views(config, checker)):
        if not any(map(checker.is_wrong, paths)):
            written = [p for p in paths if settings.origin(p) != OF_DEFAULT]
            checker.complain((written or paths)[0], what)
    if checker.problems:
        raise ConfigError(sorted(checker.problems, key=lambda problem: problem.origin))
    return config


_VIEWS: KeyPath = ("l3", "view")


def _broken(config: Config) -> Iterator[tuple[list[KeyPath], str]]:
    for rule in broken_rules(config):
        yield [tuple(path.split(".")) for path in rule.paths], rule.what


def _broken_views(config: Config, checker: Checker) -> Iterator[tuple[list[KeyPath], str]]:
    for i, item in list(checker.items(_VIEWS)):
        for rule in broken_view_rules(ViewOptions.model_validate(item)):
            yield [(*_VIEWS, i, name) for name in rule.paths], rule.what
    if not checker.is_wrong(_VIEWS):
        for rule in broken_mapping_rules(config.l3.view, config.l3.store):
            yield [tuple(path.split(".")) for path in rule.paths], rule.what
