"""One client: its socket, its session, its pipe of reply slots, and its limits."""
