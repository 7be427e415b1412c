"""Telemetry: what the server reports about itself.

In: durations that the server observes. Out: Prometheus metrics and a summary (`metrics`), for all worker processes
together (`workers`, `recent_requests`).
"""
