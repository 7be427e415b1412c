"""The statistics that a record can name. A new one is a file in this folder, or an entry point of `bankllm.statistics`.

`STATISTICS` of `statistic` has all. Standard library only, so that a run can be verified without installing anything.
"""
