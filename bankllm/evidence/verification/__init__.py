"""Verification: recompute every record from its raw file, and check every file, page and notebook of a run.

`verify.verify(folder)` returns a `Verdict`. `seal_run` finishes a run: it writes the hash of every file into the
manifest and adds `verify.py`, a single-file copy of the verifier that needs only Python (`standalone`). `run_checks`,
`record_checks`, `page_checks` and `json_schema` hold the checks; both verifiers run the same code.
"""
