"""How a command travels: reads, writes, rows of mapped keys, and the connection it takes."""
