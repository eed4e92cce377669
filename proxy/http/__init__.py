"""The admin port: /metrics for Prometheus, /healthz (alive), /readyz (able to serve)."""

from .admin import AdminServer

__all__ = ["AdminServer"]
