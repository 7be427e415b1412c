"""Telemetry: the metrics that the server reports about itself.

In: durations and counts that the server observes. Out: Prometheus metrics and a summary (`metrics`), over all worker
processes (`multiprocess`, `request_window`).
"""
