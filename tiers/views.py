"""Maps Redis keys to rows of views: the mapping patterns. No SQL.

A pattern such as "airport:{iata}" is literal text with fields in braces; "{{" and
"}}" stand for braces themselves. A field matches one or more of any character, but
never contains the literal text that follows it, so a key has at most one reading.
Not every row has a key: a row whose field contains the following literal cannot be
addressed, and `key_of` returns None. If two patterns match one key, it belongs to the
one with more literal text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from .errors import MappingProblem
from .options import ViewOptions, parse_duration_s

# A btree entry holds at most 2704 bytes, so a longer key has no row in any unique index
# (except for highly compressible text, which does not justify 1 MB parameters in a query).
MAX_KEY_BYTES = 16 * 1024
FIRST_AUTO_INTERVAL_S = 60.0  # of refresh = "auto", until a refresh has shown its pace

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ViewMapping:
    """One pattern and the view behind it. Raises MappingProblem for a pattern that cannot work."""

    def __init__(self, options: ViewOptions) -> None:
        self.options = options
        self.name = options.view
        self.relation = tuple(options.view.split("."))
        literals, self.fields = _split(options)
        self._literals = tuple(text.encode() for text in literals)
        self.prefix = self._literals[0]
        self.literal_bytes = sum(map(len, self._literals))
        self.columns = _columns(options, self.fields)
        self.kind: Literal["string", "hash"] = "hash" if options.reply == "hash" else "string"
        self.value_column = _value_column(options)
        self.refresh_interval_s = _refresh_interval_s(options)
        self.refresh_is_auto = options.refresh == "auto"
        self.negative_ttl_s = options.negative_ttl_s
        self.tombstone_ttl_s = options.ttl_s if options.on_delete == "tombstone" else None
        self._pattern = re.compile(_regex(self._literals), re.DOTALL)
        # Nearly all patterns are text and then one field: its start; for other patterns 0.
        is_simple = len(self.fields) == 1 and not self._literals[1]
        self.field_at = len(self.prefix) if is_simple else 0
        if not all(self.relation) or len(self.relation) > 2:
            raise MappingProblem(self.name, "is not a view name", 'write "view" or "schema.view"')

    def __repr__(self) -> str:
        return f"<ViewMapping {self.options.keys} -> {self.name}>"

    def matches(self, key: bytes) -> bool:
        if self.field_at:
            return self.field_at < len(key) <= MAX_KEY_BYTES and key.startswith(self.prefix)
        return len(key) <= MAX_KEY_BYTES and self._pattern.fullmatch(key) is not None

    def parse(self, key: bytes) -> tuple[str, ...] | None:
        """The field values; None if the key has another form or cannot exist in PostgreSQL."""
        if len(key) > MAX_KEY_BYTES or b"\0" in key:
            return None
        try:
            if self.field_at:
                return (key[self.field_at :].decode(),) if self.matches(key) else None
            match = self._pattern.fullmatch(key)
            if match is None:
                return None
            return tuple(group.decode() for group in match.groups())
        except UnicodeDecodeError:
            return None

    def format(self, values: Sequence[str]) -> bytes:
        parts = [self.prefix]
        for value, literal in zip(values, self._literals[1:], strict=True):
            parts += (value.encode(), literal)
        return b"".join(parts)

    def key_of(self, values: Sequence[str]) -> bytes | None:
        """The key of a row, or None if no key reads back as exactly these values."""
        key = self.format(values)
        return key if self.parse(key) == tuple(values) else None


class Mappings:
    """All mappings. Every miss asks them: one `startswith` rejects most keys.

    Raises MappingProblem if one view or one pattern is mapped twice: a refresh of a
    view has one set of changed keys, so each view belongs to one pattern.
    """

    def __init__(self, views: Sequence[ViewOptions]) -> None:
        self._mappings = tuple(ViewMapping(view) for view in views)
        self._by_view: dict[str, ViewMapping] = {}
        patterns: set[str] = set()
        for mapping in self._mappings:
            if mapping.name in self._by_view:
                remedy = "map a second materialized view to the second pattern"
                raise MappingProblem(mapping.name, "is mapped twice", remedy)
            if mapping.options.keys in patterns:
                problem = f'keys = "{mapping.options.keys}" is mapped twice'
                raise MappingProblem(mapping.name, problem, "give each view its own pattern")
            self._by_view[mapping.name] = mapping
            patterns.add(mapping.options.keys)
        by_specificity = sorted(self._mappings, key=lambda m: -m.literal_bytes)
        self._by_specificity = tuple((mapping.prefix, mapping) for mapping in by_specificity)
        self._prefixes = tuple({mapping.prefix for mapping in self._mappings})

    def __iter__(self) -> Iterator[ViewMapping]:
        return iter(self._mappings)

    def __len__(self) -> int:
        return len(self._mappings)

    def __bool__(self) -> bool:
        return bool(self._mappings)

    def __repr__(self) -> str:
        return f"<Mappings {[mapping.options.keys for mapping in self._mappings]}>"

    def match(self, key: bytes) -> ViewMapping | None:
        """The most specific mapping of a key, or None."""
        if not key.startswith(self._prefixes):
            return None
        for prefix, mapping in self._by_specificity:
            if key.startswith(prefix) and mapping.matches(key):
                return mapping
        return None

    def pushed(
        self, pushed: Iterable[tuple[str | None, Iterable[bytes] | None]]
    ) -> dict[ViewMapping, list[bytes] | None]:
        """The pushed keys of each mapping, each once; None: any of its keys.

        A pattern without keys concerns the mapping that has this very pattern, or else
        every mapping whose keys may have the same beginning. Unmapped keys are left out.
        """
        found: dict[ViewMapping, dict[bytes, None] | None] = {}
        for pattern, keys in pushed:
            if keys is None and pattern is not None:
                found |= dict.fromkeys(self._like(pattern))
            for key in keys or ():
                mapping = self.match(key)
                if mapping is not None and (known := found.setdefault(mapping, {})) is not None:
                    known[key] = None
        return {mapping: None if keys is None else list(keys) for mapping, keys in found.items()}

    def _like(self, pattern: str) -> list[ViewMapping]:
        same = [mapping for mapping in self._mappings if mapping.options.keys == pattern]
        prefix = pattern.partition("{")[0].encode()
        return same or [
            mapping
            for mapping in self._mappings
            if mapping.prefix.startswith(prefix) or prefix.startswith(mapping.prefix)
        ]

    def by_view(self, name: str) -> ViewMapping | None:
        return self._by_view.get(name)

    def problems(self) -> list[str]:
        """Pairs of patterns that one key may match, and the pattern that wins."""
        found = []
        for i, (_, winner) in enumerate(self._by_specificity):
            for _, loser in self._by_specificity[i + 1 :]:
                if _may_overlap(winner, loser):
                    found.append(
                        f'keys = "{winner.options.keys}" (view {winner.name}) and '
                        f'keys = "{loser.options.keys}" (view {loser.name}) overlap; '
                        f"a key that fits both belongs to {winner.name}"
                    )
        return found


def _split(options: ViewOptions) -> tuple[list[str], tuple[str, ...]]:
    """ "a:{x}:b" -> (["a:", ":b"], ("x",)): always one literal more than fields."""

    def problem(text: str) -> MappingProblem:
        remedy = 'write it like "airport:{iata}"'
        return MappingProblem(options.view, f'keys = "{options.keys}": {text}', remedy)

    try:
        parsed = list(string.Formatter().parse(options.keys))
    except ValueError as error:
        raise problem(str(error)) from None
    literals: list[str] = []
    fields: list[str] = []
    pending = ""
    for literal, field, spec, conversion in parsed:
        pending += literal
        if field is None:
            continue
        if spec or conversion or not _FIELD_NAME.match(field):
            raise problem(f'"{{{field}}}" is not a field name')
        if not pending:
            where = "between two fields" if fields else "before the first field"
            raise problem(f"text is needed {where}")
        if field in fields:
            raise problem(f"the field {{{field}}} occurs twice")
        literals.append(pending)
        fields.append(field)
        pending = ""
    if not fields:
        raise problem("it has no field")
    if "\0" in options.keys:
        raise problem("a NUL character cannot be part of a row's key")
    return [*literals, pending], tuple(fields)


def _columns(options: ViewOptions, fields: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(options.key) - set(fields)):
        problem = f"key names the field {unknown[0]}, which is not in keys"
        raise MappingProblem(options.view, problem, f"the fields are {', '.join(fields)}")
    columns = tuple(options.key.get(field, field) for field in fields)
    if len(set(columns)) < len(columns):
        remedy = "map each field to a column of its own"
        raise MappingProblem(options.view, "two fields have the same key column", remedy)
    return columns


def _value_column(options: ViewOptions) -> str | None:
    """The column of reply = "string:<column>"; None for replies made of the whole row."""
    if options.reply in ("json", "hash"):
        return None
    form, _, column = options.reply.partition(":")
    if form != "string" or not column:
        problem = f'reply = "{options.reply}" is unknown'
        raise MappingProblem(options.view, problem, 'use "json", "hash" or "string:<column>"')
    return column


def _refresh_interval_s(options: ViewOptions) -> float | None:
    if options.refresh == "manual":
        return None
    if options.refresh == "auto":
        return FIRST_AUTO_INTERVAL_S
    try:
        interval_s = float(parse_duration_s(options.refresh))
    except ValueError:
        interval_s = 0.0
    if interval_s <= 0:
        problem = f'refresh = "{options.refresh}" is not a duration'
        raise MappingProblem(options.view, problem, 'use "manual", "auto" or a duration like "60s"')
    return interval_s


def _regex(literals: Sequence[bytes]) -> bytes:
    pattern = re.escape(literals[0])
    for literal in literals[1:]:
        # A field ends at the first occurrence of the literal that follows it; the last field
        # ends with the key, and a trailing literal must be the end of the key.
        text = re.escape(literal)
        if not literal:
            pattern += b"(.+)"
        elif len(literal) == 1:
            pattern += b"([^" + text + b"]+)" + text
        else:
            pattern += b"((?:(?!" + text + b").)+)" + text
    return pattern


def _may_overlap(one: ViewMapping, other: ViewMapping) -> bool:
    """Whether the two ends agree. It does not compare the middle, so it may report too much."""
    heads = (one.prefix, other.prefix)
    tails = (one._literals[-1], other._literals[-1])
    return (heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])) and (
        tails[0].endswith(tails[1]) or tails[1].endswith(tails[0])
    )
