"""Telemetry: what the server and the machine say about themselves.

In: durations that the server observes, the machine it runs on. Out: Prometheus metrics and a short
summary (`metrics`) over all worker processes (`workers`, `recent`), a description of the machine for
every record (`capsule`), samples read back from an endpoint or from a real Prometheus (`prometheus`), and what
they tell: answers in PromQL (`questions`), where a chat's time goes (`stages`), pictures of both (`figures`).
"""
