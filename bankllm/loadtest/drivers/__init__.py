"""Load drivers: each sends requests to a server and returns one row per request.

`apache_bench` runs ab and `locust_driver` runs Locust with `locustfile`; both are closed loops. `open_loop` starts a
separate process (`open_loop_process`) that sends each request at its due time (`arrivals`, `http_client`).
"""
