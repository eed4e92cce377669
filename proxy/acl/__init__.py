"""Access control: users, their rules, and the verdict on each command."""
