"""Chooses the twin of the L1 store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import CORE

if TYPE_CHECKING or CORE == "py":
    from ._arena_py import Arena
else:
    from ._arena import Arena

__all__ = ["Arena"]
