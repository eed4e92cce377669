"""The rows of the command table, one file per family of commands."""
