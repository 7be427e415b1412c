"""Experiments of notebook 02: rate sweep, repeated runs, soak, cache workloads, and the agreement of the drivers."""
