"""Connections to PostgreSQL, the pool, and the SQL building blocks of L3."""
