"""Chooses the twin of the client pipe."""

from __future__ import annotations

from ._client_pipe_py import SPILL_BYTES, ClientPipe

__all__ = ["SPILL_BYTES", "ClientPipe"]
