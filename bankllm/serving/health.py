"""Health and metrics routes: liveness, readiness, a metrics summary, and the Prometheus endpoint."""

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from bankllm import __version__
from bankllm.assistant.engine import ChatEngine
from bankllm.serving.errors import documented
from bankllm.telemetry.metrics import ServerMetrics


def health_routes(current: Callable[[], ChatEngine], metrics: ServerMetrics) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="Liveness")
    async def health() -> dict[str, str]:
        return {"status": "healthy", "timestamp": datetime.now(UTC).isoformat(), "version": __version__}

    @router.get("/health/ready", summary="Readiness", responses=documented(503))
    async def ready() -> dict[str, str]:
        """200 if the process that answers can chat, otherwise 503. `/health/metrics` counts the ready workers."""
        return {"status": "ready", "model": current().model}

    # Not async, so they run in a thread: with several workers they read the metrics files of all workers.
    @router.get("/health/metrics", summary="Summary of the metrics")
    def summary() -> dict[str, int | float | str | None]:
        return metrics.summary()

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    def prometheus() -> Response:
        content, media_type = metrics.render()
        return Response(content, media_type=media_type)

    return router
