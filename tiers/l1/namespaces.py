"""Namespaces: the promises for the keys of a pattern, from the [[namespace]] tables.

A key belongs to the most specific pattern that it matches (most literal text; then
the one without a star; then the first in the file), or to none: then the options of
[l1] hold, and the look-up costs one `startswith`.

Each option takes effect at one place
  cached         before a read is sent: keys that are not cached never enter L1, so a hit
                 needs no check
  max_age        when a reply is stored, as its deadline
  max_staleness  at the hit, if it differs from that of [l1]: such entries are *gated*. Their
                 variant is one that the same-tick path of plain GET never uses, so that
                 path knows no namespaces
  strict         gated as well, and its writes are held (`watch/strict.py`)

If several workers share one L1, the variant of a gated entry names the worker too: at the
hit a worker knows only its own watermark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..glob import literal_prefix, matcher
from ..options import L1Options, NamespaceOptions

GATE = b"~"  # begins the variant of every gated entry

_GATE = re.compile(rb"~(\d+~)?")
_NOT_LITERAL = re.compile(rb"\\(.)|\[[^\]]*\]?|[*?]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The promises for the keys that match `pattern`."""

    pattern: bytes
    consistency: str
    cached: bool
    max_staleness_s: float
    max_age_s: float
    stale_on_error_s: float
    gate: bytes  # empty: not gated

    @property
    def gated(self) -> bool:
        return bool(self.gate)

    @property
    def strict(self) -> bool:
        return self.consistency == "strict"

    def variant(self, variant: bytes) -> bytes:
        """The variant under which L1 stores a read of one of these keys."""
        return self.gate + variant


def ungated(variant: bytes) -> bytes:
    """The variant of the same read of a key that has no gate."""
    return _GATE.sub(b"", variant, count=1) if variant.startswith(GATE) else variant


class Namespaces:
    """All namespaces; falsy if there are none."""

    def __init__(
        self,
        tables: Sequence[NamespaceOptions] = (),
        l1: L1Options | None = None,
        worker: int = 0,
    ) -> None:
        l1 = L1Options() if l1 is None else l1
        gate = GATE + (b"%d~" % worker if worker else b"")
        spaces = sorted((_namespace(table, l1, gate) for table in tables), key=_specificity)
        self._by_specificity = tuple(
            (s, literal_prefix(s.pattern), matcher(s.pattern)) for s in spaces
        )
        self.prefixes = tuple({prefix for _, prefix, _ in self._by_specificity})
        strict = sorted(b"%b %r" % (s.pattern, s.max_staleness_s) for s in spaces if s.strict)
        self.strict_digest = hashlib.sha256(b"\n".join(strict)).hexdigest()[:16].encode()
        self.largest_strict_s = max((s.max_staleness_s for s in spaces if s.strict), default=0.0)

    def __bool__(self) -> bool:
        return bool(self._by_specificity)

    def __repr__(self) -> str:
        return f"<Namespaces {[space.pattern for space, _, _ in self._by_specificity]}>"

    # twin: _lane.has_space
    def find(self, key: bytes) -> Namespace | None:
        """The namespace of a key; None if the options of [l1] hold."""
        if not key.startswith(self.prefixes):
            return None
        for space, prefix, matches in self._by_specificity:
            if key.startswith(prefix) and matches(key):
                return space
        return None

    def caches(self, key: bytes) -> bool:
        """Whether reads of this key may be kept in L1."""
        space = self.find(key)
        return space is None or space.cached

    def strict_s(self, keys: Iterable[bytes]) -> float:
        """The largest bound of the strict keys among these; 0 if none is strict."""
        if not self.largest_strict_s:
            return 0.0
        found = (self.find(key) for key in keys)
        return max((s.max_staleness_s for s in found if s is not None and s.strict), default=0.0)


def _namespace(table: NamespaceOptions, l1: L1Options, gate: bytes) -> Namespace:
    given = table.model_fields_set
    strict = table.consistency == "strict"
    bound_s = table.max_staleness_s if "max_staleness_s" in given else l1.max_staleness_s
    suspect_s = table.stale_on_error_s if "stale_on_error_s" in given else l1.stale_on_error_s
    return Namespace(
        pattern=table.match.encode(),
        consistency=table.consistency,
        cached=table.l1 == "on" and table.consistency != "bypass",
        max_staleness_s=bound_s,
        max_age_s=table.max_age_s if "max_age_s" in given else l1.max_age_s,
        stale_on_error_s=0.0 if strict else suspect_s,
        gate=gate if strict or bound_s != l1.max_staleness_s else b"",
    )


def _specificity(space: Namespace) -> tuple[int, bool]:
    literal = _NOT_LITERAL.sub(rb"\1", space.pattern)
    return -len(literal), literal != space.pattern
