"""Refreshes of materialized views: who runs them, when, and how each Redis learns what changed."""
