"""One client: its socket, its session, its pipe of reply slots, and the bounds on what it takes."""
