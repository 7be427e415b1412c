"""Load tests: start a server as a process of its own, drive it, and keep one row a request.

In: a server (`server`) and what to ask it. Out: a `LoadResult` of per-request rows (`runner`), made by `ab` or by
Locust running `locustfile` (`drivers`), and told in lines (`report`). Percentiles are computed from the rows, never
taken from a tool.
"""
