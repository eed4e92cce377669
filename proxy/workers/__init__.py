"""Several worker processes: their parent, their sockets, and what they say to each other."""
