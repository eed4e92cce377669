"""Connections to Redis: shared, private and for scripts; and the identity of its server."""
