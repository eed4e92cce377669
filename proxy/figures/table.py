"""The table of figures: every counter, gauge and histogram of Terrace, in the order of INFO.

INFO's section `# Tiers`, TIER.STATS, /metrics, the sums over workers and docs/METRICS.md read
only these rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import l1_rows, l2_rows, l3_rows, proxy_rows, view_rows
from .row import Figure, Row

SECTIONS: Mapping[str, tuple[Row, ...]] = {
    "The proxy": proxy_rows.ROWS,
    "L1": l1_rows.ROWS,
    "L2": l2_rows.ROWS,
    "L3": l3_rows.ROWS,
    "Hot keys": l1_rows.HOT_KEY_ROWS,
    "Views": view_rows.ROWS,
}
ROWS: tuple[Row, ...] = tuple(row for rows in SECTIONS.values() for row in rows)

FIELDS: Mapping[str, Row] = {row.info: row for row in ROWS if row.info}
"""By their names in INFO and TIER.STATS."""

METRICS: Mapping[str, Figure] = {row.figure.name: row.figure for row in ROWS if row.figure.name}
"""By their names, without the `_total` of counters."""
