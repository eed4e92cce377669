"""Refreshes of materialized views: leaders, schedule, and the announcement to each Redis."""
