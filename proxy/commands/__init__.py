"""Commands as data: the table, the keys of a command line, and the server's own commands."""
