"""Serving: the assistant over HTTP.

In: a `ChatEngine` of `bankllm.assistant`. Out: a FastAPI application (`app`) and a server process that runs it
(`server`, `workers`). `asgi` is the entry point for other ASGI servers: `uvicorn bankllm.serving.asgi:app`.
"""
