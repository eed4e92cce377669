"""Connections to PostgreSQL, the pool, and the SQL that all of L3 is written with."""
