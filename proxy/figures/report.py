"""The figures of all tiers as text: the `# Tiers` section of INFO, and TIER.STATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .l1_rows import hit_ratio
from .reading import Reading
from .table import FIELDS

if TYPE_CHECKING:
    from ..client.host import Host


async def tier_figures(host: Host) -> dict[str, str]:
    """Ordered name -> text, for all workers of this host."""
    found = figures(host)
    for other in await host.siblings.ask("figures"):
        for name in found.keys() & other.keys():
            across = FIELDS[name].figure.across
            if across.combines:
                found[name] = across.combined(found[name], other[name])
    if "l1_hit_ratio" in found:
        found["l1_hit_ratio"] = hit_ratio(found["l1_hits"], found["l1_misses"])
    return {name: str(value).replace("\n", " ") for name, value in found.items()}


def figures(host: Host) -> dict[str, Any]:
    """Ordered name -> number or text, for this process."""
    reading = Reading(host)
    found: dict[str, Any] = {}
    for name, row in FIELDS.items():
        show = row.show or row.read
        if show is not None and row.part in reading.parts:
            value = show(reading)
            found[name] = value if isinstance(value, int | float) else str(value)
    return {name: int(value) if isinstance(value, bool) else value for name, value in found.items()}


async def info_section(host: Host) -> str:
    lines = [f"{name}:{text}" for name, text in (await tier_figures(host)).items()]
    return "# Tiers\r\n" + "\r\n".join(lines) + "\r\n"
