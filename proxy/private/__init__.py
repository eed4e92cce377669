"""Private connections to Redis: transactions, pub/sub, blocking commands, MONITOR."""
