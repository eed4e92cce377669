"""The path of a command: reads, writes, rows of mapped keys, and the choice of a connection."""
