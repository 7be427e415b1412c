"""The ASGI entry point for other servers: `uvicorn --http h11 bankllm.serving.asgi:app`.

The application reads its settings from the environment, and its models are loaded before it accepts connections.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Create `app` on first access, so that importing this module does not load a model."""
    if name == "app":
        from bankllm.serving.workers import worker_app

        return worker_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
