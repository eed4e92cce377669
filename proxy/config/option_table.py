"""The option table: every field of the option models as one row of data.

The loader, `terrace serve --help`, conf/terrace.toml and docs/CONFIG.md read these
rows, so an option has one definition: a field with its docstring in
`proxy.config.model` or `tiers.options`.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tiers.proxy_door import Options

ENV_PREFIX = "TERRACE_"

Kind = Literal["duration", "size", "integer", "number", "boolean", "text", "choice", "map", "rows"]

_KIND_OF_TYPE: Mapping[object, Kind] = types.MappingProxyType(
    {bool: "boolean", int: "integer", float: "number", str: "text"}
)
_DURATION_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001), ("us", 0.000001))
_SIZE_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


@dataclass(frozen=True, slots=True)
class Row:
    """One option. `path` is its name in a file; rows of an array of tables have `[]` in it."""

    path: str
    kind: Kind
    default: Any  # None where `required`
    help: str
    choices: tuple[str, ...] = ()
    bounds: Mapping[str, Any] = field(default_factory=dict)  # of ge, gt, le
    required: bool = False
    secret: bool = False
    item: type[Options] | None = None  # for kind "rows": the options of one table

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.path.upper().replace(".", "__")

    @property
    def default_text(self) -> str:
        """The default in the syntax of a file."""
        return toml_text(self.default, self.kind)

    @property
    def type_text(self) -> str:
        match self.kind:
            case "choice":
                return "one of " + ", ".join(json.dumps(choice) for choice in self.choices)
            case "map":
                return "table of text"
            case "rows":
                return "array of tables"
            case kind:
                return ", ".join([kind, *self._bounds_text()])

    def _bounds_text(self) -> Iterator[str]:
        # The upper bound of every duration and size only prevents overflow.
        bounded_above = "le" in self.bounds and self.kind not in ("duration", "size")
        if "gt" in self.bounds:
            yield f"above {self.bound_text('gt')}"
        elif bounded_above:
            yield f"{self.bound_text('ge')} to {self.bound_text('le')}"
        elif self.bounds.get("ge"):
            yield f"at least {self.bound_text('ge')}"

    def bound_text(self, bound: str) -> str:
        """A bound without quotes, for use in a sentence."""
        return toml_text(self.bounds[bound], self.kind).strip('"')


def table(model: type[Options], prefix: str = "") -> dict[str, Row]:
    """All options of a model and of the groups in it, by path, in order of declaration."""
    rows: dict[str, Row] = {}
    for field_name, info in model.model_fields.items():
        path = prefix + (info.alias or field_name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, Options):
            rows |= table(info.annotation, f"{path}.")
        else:
            rows[path] = _row(path, field_name, info)
    return rows


def groups(model: type[Options], prefix: str = "") -> dict[str, str]:
    """Path -> one-line description of every group of options."""
    found: dict[str, str] = {}
    for field_name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Options):
            path = prefix + (info.alias or field_name)
            found[path] = (info.annotation.__doc__ or "").partition("\n")[0]
            found |= groups(info.annotation, f"{path}.")
    return found


def item_rows(row: Row) -> dict[str, Row]:
    """The rows of one table of an array of tables."""
    return table(row.item, f"{row.path}[].") if row.item else {}


def _row(path: str, field_name: str, info: FieldInfo) -> Row:
    kind, choices, item = _kind(field_name, info.annotation)
    default = info.get_default(call_default_factory=True, validated_data={})
    required = default is PydanticUndefined
    bounds: dict[str, Any] = {}
    for constraint in info.metadata:
        for name in ("ge", "gt", "le"):
            if hasattr(constraint, name):
                bounds[name] = getattr(constraint, name)
    extra = info.json_schema_extra
    return Row(
        path=path,
        kind=kind,
        default=None if required else default,
        help=" ".join((info.description or "").split()),
        choices=choices,
        bounds=bounds,
        required=required,
        secret=isinstance(extra, dict) and extra.get("secret") is True,
        item=item,
    )


def _kind(field_name: str, annotation: Any) -> tuple[Kind, tuple[str, ...], type[Options] | None]:
    if field_name.endswith("_s"):
        return "duration", (), None
    if field_name.endswith("_bytes"):
        return "size", (), None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "choice", arguments, None
    if origin is tuple:
        return "rows", (), arguments[0]
    if origin is dict:
        return "map", (), None
    return _KIND_OF_TYPE[annotation], (), None


def toml_text(value: Any, kind: Kind) -> str:
    """A value as a TOML expression; durations and sizes in the largest exact unit."""
    if kind == "duration":
        return f'"{_duration_text(value)}"'
    if kind == "size":
        return f'"{_size_text(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return "[]"


def _duration_text(value_s: float) -> str:
    if not value_s:
        return "0s"
    for unit, unit_s in _DURATION_UNITS:
        count = value_s / unit_s
        if abs(count - round(count)) < 1e-9 * count and round(count) >= 1:
            return f"{round(count)}{unit}"
    return f"{value_s:g}s"


def _size_text(value_bytes: int) -> str:
    for unit, unit_bytes in _SIZE_UNITS:
        if value_bytes and value_bytes % unit_bytes == 0:
            return f"{value_bytes // unit_bytes}{unit}"
    return str(value_bytes)
