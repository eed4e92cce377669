"""What is counted and measured, as Prometheus metrics and as text."""
