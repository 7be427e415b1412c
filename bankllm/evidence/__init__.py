"""Measurement evidence: every published number is a record that can be recomputed from a raw CSV file.

In: a notebook opens a run folder (`run.open_run`), writes one row per request or example into `raw/`, and names one of
the `statistics/`. Out: `Run.measure` saves the result as a record in `records.jsonl`, `report/` renders the records as
pages, `verification/` recomputes them, and `share/` exports and copies a verified run.
"""
