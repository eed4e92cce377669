"""Connections to Redis: shared, private, for scripts; which server it is, and what it takes."""
