"""Load drivers: each sends requests to a server and returns one row per request.

`apache_bench` runs ab, `locust_driver` runs Locust with `locustfile` (both closed loop), and `open_loop` sends each
request at its due time from a process of its own (`open_loop_process`).
"""
