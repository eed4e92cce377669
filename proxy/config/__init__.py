"""The configuration: option models, rules, where values come from, and the table of options."""
