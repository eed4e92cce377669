"""Creates an L1 that several processes share, before the fork. It needs the compiled core."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ..options import L1Options

if TYPE_CHECKING:
    from ._arena import Arena

SharedArena: TypeAlias = "Arena"


def share_arena(options: L1Options, workers: int) -> SharedArena:
    """Raises MemoryError if the host has no memory for it, ImportError without that core."""
    from ._arena import Arena

    max_bytes = options.max_bytes if options.enabled else 0  # workers share its counters anyway
    return Arena(max_bytes, max_variants=options.max_variants_per_key, workers=workers)
