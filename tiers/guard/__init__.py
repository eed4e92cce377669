"""Protects the other tiers from a failing or slow one: breaker, admission, back-off."""
