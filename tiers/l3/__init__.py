"""The PostgreSQL tier: views bound to keys, looked up, created, migrated and watched."""
