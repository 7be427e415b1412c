"""Load tests: start a server as a process of its own, drive it, and keep one row a request.

In: a server (`server`) and what to ask it (`load`). Out: a `LoadResult` of per-request rows (`runner`), made by `ab`
(`apache_bench`), by Locust running `locustfile` (`banking_users`) or by the open loop (`open_loop`, whose own process
is `generator`), and told in lines (`report`). Percentiles are computed from the rows, never taken from a tool.
"""
