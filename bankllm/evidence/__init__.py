"""Measurement evidence: every published number is a record that can be recomputed from a raw CSV file.

Input: a notebook opens a run folder (`run.open_run`), writes one row per request or example into `raw/`, and names a
statistic. `Run.measure` computes the statistic and saves the result as a record in `records.jsonl`.

Output: `report/` renders the records as RESULTS.md, RESULTS.html and RESUME.md. `verification/` recomputes every record
from its raw file and checks every file and page. `share/` exports and copies a verified run. `statistics/` holds the
statistics that a record can name.
"""
