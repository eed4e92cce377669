"""Keys that outlive Redis: written through to a table of PostgreSQL, and loaded back."""
