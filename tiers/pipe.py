"""Chooses the twin of the upstream pipe."""

from __future__ import annotations

from ._pipe_py import DISCARD, UpstreamPipe, Waiter

__all__ = ["DISCARD", "UpstreamPipe", "Waiter"]
