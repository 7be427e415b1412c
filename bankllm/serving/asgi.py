"""The ASGI entry point: `uvicorn bankllm.serving.asgi:app`.

The application reads its settings from the environment and loads its models in the background.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Create `app` on first access, so that importing this module does not load a model."""
    if name == "app":
        from bankllm.serving.app import app_from_environment

        return app_from_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
