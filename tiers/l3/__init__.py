"""The PostgreSQL tier: its views are bound to keys, looked up, created and migrated here."""
