"""Access control: users, their rules, and the decision on each command."""
