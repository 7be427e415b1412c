"""Statistics: pure functions that compute an `Estimate` from the rows of a raw file.

`registry.STATISTICS` lists all of them by the name that a record uses. Standard library only, so that a run can be
verified without installing anything.
"""
