"""Experiments of notebook 02: rate sweep, curve of degradation, soak, and the agreement of the drivers.

Each module takes servers or rows and returns rows for a raw file; `load_records` lists the records made from them.
"""
