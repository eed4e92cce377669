"""Commands as data: the table, what each one touches, and what the server says of it."""
