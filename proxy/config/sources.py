"""Sources of option values: the file, the environment and the command line.

A later source wins. The result is one tree of raw values, of which only the names
are checked. It keeps the origin of every value for error messages.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..masking import escaped, mask
from .option_table import ENV_PREFIX, Row, item_rows
from .toml_lines import KeyPath, locate

RESERVED_ENV: Mapping[str, str] = {
    "TERRACE_CORE": "the implementation of the hot path",
    "TERRACE_EMBEDDED_*": "settings of `terrace run`, the trial with embedded servers",
}
"""Names in the environment that begin like an option but are not options."""

# Kubernetes sets such variables in every pod for a Service whose name begins with "terrace".
_SERVICE_LINK = re.compile(
    r"TERRACE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)\Z"
)
_SERVICE_LINK_URL = re.compile(r"TERRACE_(\w+_)?PORT\Z")


class Origin(NamedTuple):
    """The place of a value; sorts in the order in which a reader would look."""

    rank: int  # of the source: the file, the environment, the flags
    source: str  # "terrace.toml", "environment TERRACE_WORKERS", "flag --set"
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    @classmethod
    def of_file(cls, file: Path, line: int = 0) -> Origin:
        return cls(1, str(file), line)

    @classmethod
    def of_env(cls, name: str) -> Origin:
        return cls(2, f"environment {name}")


OF_DEFAULT = Origin(0, "default")
OF_FLAG = Origin(3, "flag --set")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, with the information to find and fix it."""

    origin: Origin
    what: str
    path: str = ""
    value: str = ""  # masked, ready to be shown

    def __str__(self) -> str:
        subject = f"{self.path} = {self.value}" if self.value else self.path
        parts = (str(self.origin), subject, self.what)
        return escaped(": ".join(part for part in parts if part))


@dataclass(slots=True)
class RawSettings:
    """Values as written, and their origins."""

    tree: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> Origin:
        """The place of the value or of its nearest parent."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._origins:
                return self._origins[path[:end]]
        return OF_DEFAULT

    def add_file(self, file: Path, rows: Mapping[str, Row]) -> None:
        try:
            text = file.read_bytes().decode()
            self.tree = tomllib.loads(text)
        except OSError as error:
            self._refuse(Origin.of_file(file), f"cannot be read: {error.strerror}; check --config")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._refuse(Origin.of_file(file, line), "is not UTF-8 text; save the file as UTF-8")
        except RecursionError:
            self._refuse(Origin.of_file(file), "is nested too deeply to be a configuration")
        except ValueError as error:  # TOMLDecodeError, or a number too long for Python
            self._refuse(*_syntax_problem(file, text, str(error)))
        else:
            for path, line in locate(text).items():
                self._origins[path] = Origin.of_file(file, line)
            self._drop_unknown(self.tree, (), rows)

    def add_environment(self, env: Mapping[str, str], rows: Mapping[str, Row]) -> None:
        by_env = {row.env: row for row in rows.values()}
        for name in sorted(env):
            if not name.startswith(ENV_PREFIX):
                continue
            if row := by_env.get(name):
                self._set(row, env[name], Origin.of_env(name))
            elif not is_foreign_env(name, env[name]):
                what = "unknown option" + _did_you_mean(name, by_env)
                self._refuse(Origin.of_env(name), what)

    def add_flags(self, flags: Sequence[str], rows: Mapping[str, Row]) -> None:
        """Each flag is "path=value", as after --set."""
        for flag in flags:
            path, equals, text = flag.partition("=")
            path = path.strip()
            if not equals:
                self._refuse(OF_FLAG, "path=value is needed, as in --set l1.max_bytes=64MiB")
            elif row := rows.get(path):
                self._set(row, text, OF_FLAG)
            else:
                what = "unknown option" + _did_you_mean(path, rows)
                self._refuse(OF_FLAG, what, mask(path))

    def _set(self, row: Row, text: str, origin: Origin) -> None:
        """Set a value from outside a file: plain text, or JSON for tables and arrays."""
        value: Any = text
        if row.kind in ("map", "rows"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                self._refuse(origin, f"is not JSON; write the {row.type_text} as JSON", row.path)
                return
        *groups, name = path = tuple(row.path.split("."))
        table = self.tree
        for group in groups:
            if not isinstance(table.get(group), dict):
                table[group] = {}
            table = table[group]
        table[name] = value
        self._origins = {p: o for p, o in self._origins.items() if p[: len(path)] != path}
        self._origins[path] = origin
        if row.kind == "rows":
            self._drop_unknown_in_items(value, path, row)

    def _drop_unknown(self, table: dict[str, Any], at: KeyPath, rows: Mapping[str, Row]) -> None:
        """Report unknown names and remove them from the tree."""
        prefix = path_text(at) + "." if at else ""
        groups = {path.rpartition(".")[0] for path in rows}
        groups |= {group.partition(".")[0] for group in groups}
        for name in list(table):
            path = prefix + name
            if path in groups:
                if isinstance(table[name], dict):
                    self._drop_unknown(table[name], (*at, name), rows)
                else:
                    del table[name]
                    what = f"is a group of options; write it as a table, [{path}]"
                    self._refuse(self.origin((*at, name)), what, path)
            elif row := rows.get(path):
                if row.kind == "rows":
                    self._drop_unknown_in_items(table[name], (*at, name), row)
            else:
                del table[name]
                what = "unknown option" + _did_you_mean(path, [*rows, *(groups - {""})])
                self._refuse(self.origin((*at, name)), what, path)

    def _drop_unknown_in_items(self, items: Any, at: KeyPath, row: Row) -> None:
        names = [item.name for item in item_rows(row).values()]
        for i, item in enumerate(items if isinstance(items, list) else ()):
            for name in list(item if isinstance(item, dict) else ()):
                if name not in names:
                    del item[name]
                    path = (*at, i, name)
                    what = "unknown option" + _did_you_mean(name, names)
                    self._refuse(self.origin(path), what, path_text(path))

    def _refuse(self, origin: Origin, what: str, path: str = "") -> None:
        self.problems.append(Problem(origin, what, path))


def path_text(path: KeyPath) -> str:
    """("l3", "view", 0, "ttl") -> "l3.view[0].ttl"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_foreign_env(name: str, value: str) -> bool:
    """Whether a TERRACE_ name is known not to be an option."""
    if any(
        name == known or (known.endswith("*") and name.startswith(known[:-1]))
        for known in RESERVED_ENV
    ):
        return True
    if _SERVICE_LINK.match(name):
        return True
    return bool(_SERVICE_LINK_URL.match(name)) and "://" in value


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name; a correct name in the wrong group counts as near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not near:
        last = name.rpartition(".")[2]
        near = [path for path in known if path.rpartition(".")[2] == last]
    return f"; did you mean {near[0]}?" if near else "; `terrace serve --help` lists all options"


def _syntax_problem(file: Path, text: str, message: str) -> tuple[Origin, str]:
    """tomllib ends its messages with "(at line 3, column 7)" or "(at end of document)"."""
    what, _, where = message.partition(" (at ")
    line = re.match(r"line (\d+)", where)
    number = int(line[1]) if line else len(text.splitlines()) if where else 0
    return Origin.of_file(file, number), f"is not TOML: {what[:1].lower()}{what[1:]}"
