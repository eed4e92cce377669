"""Chooses the twin of the upstream pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import CORE
from ._pipe_py import BUSY, DISCARD, TOO_LARGE, Waiter

if TYPE_CHECKING or CORE == "py":
    from ._pipe_py import UpstreamPipe
else:
    from ._pipe import UpstreamPipe

__all__ = ["BUSY", "DISCARD", "TOO_LARGE", "UpstreamPipe", "Waiter"]
