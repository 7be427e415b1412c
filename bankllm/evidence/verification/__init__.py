"""Verification: recompute every record from its raw file, and check every file, page and notebook of a run.

`verify.verify(folder)` returns a `Verdict`. `seal_run` finishes a run: it writes the hash of every file into the
manifest and adds `verify.pyz`, which holds `run_checks` and the modules it needs and runs with only Python.
"""
