"""Ways of a row from PostgreSQL into Redis and L1, and out again when it changes."""
