"""Several worker processes: their parent, their sockets, and their messages to each other."""
