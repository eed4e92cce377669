"""Loads rows from PostgreSQL into Redis and L1, and removes them when they change."""
