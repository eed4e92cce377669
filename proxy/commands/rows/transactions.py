"""Transactions."""

from __future__ import annotations

from ..command import Kind, row
from ..facts import InMulti

ROWS = (
    row("DISCARD", Kind.STATE, "1 @fast @transaction", in_multi=InMulti.ENDS),
    row("EXEC", Kind.STATE, "1 @slow @transaction", in_multi=InMulti.ENDS),
    row("MULTI", Kind.STATE, "1 @fast @transaction"),
    row("UNWATCH", Kind.STATE, "1 @fast @transaction"),
    row("WATCH", Kind.STATE, "-2 @fast @transaction -:1..-1"),
)
