"""What is counted and measured: one table of figures, as Prometheus metrics, as text, as a page."""
