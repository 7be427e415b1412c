"""Evidence: measurement records in, a page that can be checked number by number out.

A room writes per-request (or per-example) rows into a run's `raw/` folder and names a statistic;
`Run.measure` applies it and keeps the record. `verify` does the same again from the raw file alone;
`render` turns the records into RESULTS.md, RESULTS.html and RESUME.md.
"""
