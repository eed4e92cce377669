"""Chooses the twin of the client pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.proxy_door import CORE

from ._pipe_py import FLOOD_FACTOR, FULL_READ_BYTES, LOOK_EVERY, SHARE_S, SPILL_BYTES

if TYPE_CHECKING or CORE == "py":
    from ._pipe_py import ClientPipe, Lane
else:
    from ._lane import Lane
    from ._pipe import ClientPipe

__all__ = [
    "FLOOD_FACTOR", "FULL_READ_BYTES", "LOOK_EVERY", "SHARE_S", "SPILL_BYTES", "ClientPipe", "Lane",
]  # fmt: skip
