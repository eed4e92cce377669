"""Validates raw settings against the option models and words the error messages.

pydantic finds the wrong values; the words come from the option table, so that a
message writes durations and sizes as users write them, and never shows a secret.
A wrong value is removed from the tree: the rules between options can then check
the rest, and all messages appear at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from tiers.proxy_door import Options

from ..masking import HIDDEN, mask_option
from .option_table import Row, item_rows
from .sources import Problem, RawSettings, path_text
from .toml_lines import KeyPath

AnyOptions = TypeVar("AnyOptions", bound=Options)

_SHOWN_CHARS = 80
_NEEDED: Mapping[str, str] = {
    "duration": "a duration like 50ms, 5s, 10m, 1h or 1d",
    "size": "a size like 64KiB, 256MiB or 1GB",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "text": "text in quotes",
    "map": "a table of text",
    "rows": "an array of tables",
}


class Checker:
    """One validation of one set of settings: collects `problems` and the `wrong` paths."""

    def __init__(self, settings: RawSettings, rows: Mapping[str, Row]) -> None:
        self._settings = settings
        self._rows = dict(rows)
        for row in rows.values():
            self._rows |= item_rows(row)
        self.problems = settings.problems
        self.wrong: set[KeyPath] = set()

    def values(self, model: type[AnyOptions]) -> AnyOptions:
        """The settings as `model`, with the default in place of every wrong value."""
        self._refuse_flags_as_numbers(self._settings.tree, ())
        try:
            return model.model_validate(self._without_wrong(self._settings.tree, ()))
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                path = tuple(detail["loc"])
                self.complain(path, self._words(path, detail["type"], detail.get("ctx", {})))
        return model.model_validate(self._without_wrong(self._settings.tree, ()))

    def complain(self, path: KeyPath, what: str) -> None:
        self.wrong.add(path)
        problem = Problem(self._settings.origin(path), what, path_text(path), self._shown(path))
        self.problems.append(problem)

    def is_wrong(self, path: KeyPath) -> bool:
        """Whether there is a problem with the value, with a part of it, or with its parent."""
        return any(path == bad[: len(path)] or bad == path[: len(bad)] for bad in self.wrong)

    def items(self, path: KeyPath) -> Iterator[tuple[int, Any]]:
        """The valid tables of an array, with their indices."""
        value = self._value(path)
        for i, item in enumerate(value if isinstance(value, list) else ()):
            if not self.is_wrong((*path, i)):
                yield i, item

    def _refuse_flags_as_numbers(self, value: Any, path: KeyPath) -> None:
        """Python, and therefore pydantic, accepts `true` as the number one."""
        if isinstance(value, dict):
            for name, inner in value.items():
                self._refuse_flags_as_numbers(inner, (*path, name))
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                self._refuse_flags_as_numbers(inner, (*path, i))
        elif isinstance(value, bool):
            row = self._row(path)
            if row and row.kind in ("duration", "size", "integer", "number"):
                self.complain(path, f"{_NEEDED[row.kind]} is needed")

    def _without_wrong(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {
                name: self._without_wrong(inner, (*path, name))
                for name, inner in value.items()
                if (*path, name) not in self.wrong
            }
        if isinstance(value, list):
            return [item for i, item in enumerate(value) if not self.is_wrong((*path, i))]
        return value

    def _words(self, path: KeyPath, kind: str, context: Mapping[str, Any]) -> str:
        row = self._row(path)
        if kind == "missing":
            return f"is required: {row.help if row else 'add it'}"
        if row is None:
            return "a table is needed"
        match kind:
            case "greater_than" | "greater_than_equal":
                if "gt" in row.bounds:
                    return f"must be above {row.bound_text('gt')}"
                return f"must be at least {row.bound_text('ge')}"
            case "less_than_equal":
                return f"must be at most {row.bound_text('le')}"
            case "string_too_short":
                return "must not be empty"
            case "value_error":
                return str(context["error"])
        return f"{_NEEDED.get(row.kind, row.type_text)} is needed"

    def _row(self, path: KeyPath) -> Row | None:
        """The row of the option, or of the table of text that contains it."""
        general = path_text(path)
        for part in path:
            if isinstance(part, int):
                general = general.replace(f"[{part}]", "[]")
        outer = self._rows.get(general.rpartition(".")[0])
        return self._rows.get(general) or (outer if outer and outer.kind == "map" else None)

    def _value(self, path: KeyPath) -> Any:
        value: Any = self._settings.tree
        for part in path:
            if isinstance(part, int):
                value = value[part] if isinstance(value, list) and part < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def _shown(self, path: KeyPath) -> str:
        """The value as written, shortened to one line, without secrets."""
        value, row = self._value(path), self._row(path)
        if value is None:
            return row.default_text if row and not row.required else ""
        if row and row.secret:
            return HIDDEN
        if isinstance(value, (dict, list)):
            return "{…}" if isinstance(value, dict) else "[…]"
        if isinstance(value, int) and value.bit_length() > 256:
            return "a huge number"
        if isinstance(value, bool):
            return "true" if value else "false"
        text = mask_option(value if isinstance(value, str) else str(value))
        if len(text) > _SHOWN_CHARS:
            text = text[:_SHOWN_CHARS] + "…"
        return json.dumps(text, ensure_ascii=False) if isinstance(value, str) else text
