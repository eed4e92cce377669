"""The configuration: option models, their rules, sources of values, and the option table."""
