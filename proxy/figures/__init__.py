"""Counters and measurements: one table of figures for Prometheus, INFO and the docs."""
