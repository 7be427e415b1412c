"""Load tests: start a server as its own process, send requests to it, and keep one row per request.

In: a server (`server_process`), a description of the requests (`load`), and `questions` with known answers. Out: a
`LoadResult` with per-request rows (`runner`), measured by one of the `drivers` and summarised in lines (`report`).
Percentiles are computed from the rows; no percentile of a load tool is used.
"""
