"""Serving: the assistant over HTTP.

In: a `ChatEngine` of `bankllm.assistant`. Out: a FastAPI application (`app`) and a server process that runs it
(`server`, `workers`). `workers.worker_app` is the factory for other ASGI servers.
"""
