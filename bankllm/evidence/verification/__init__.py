"""Verification: recompute every record from its raw file, and check every file, page and notebook of a run."""
