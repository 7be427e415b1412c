"""The chat service over HTTP: `create_app` makes the application, `bankllm.serving.server` runs it.

    bankllm serve --port 8000            # or: uvicorn bankllm.serving.asgi:app
    curl -d '{"message": "What is my account balance?", "customer_id": "CUST001"}' \\
         -H 'content-type: application/json' http://127.0.0.1:8000/api/v1/chat
"""

import asyncio
import logging
import os
import signal
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from starlette.concurrency import run_in_threadpool

from bankllm import __version__
from bankllm.assistant.engine import DEFAULT_ADAPTER, ChatEngine, model_name
from bankllm.assistant.turn import ChatReply
from bankllm.errors import BankLLMError
from bankllm.model.artifact import read_artifact
from bankllm.serving.auth import check_auth_settings, customer_of_token
from bankllm.serving.chat_api import chat_routes
from bankllm.serving.chat_page import page_routes
from bankllm.serving.errors import (
    Observe,
    describe_problems,
    install_handlers,
)
from bankllm.serving.health import health_routes
from bankllm.serving.limits import BodyLimit, RateLimit
from bankllm.serving.openai_api import openai_routes
from bankllm.serving.tuning import freeze_gc, tune_process
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.metrics import ServerMetrics

logger = logging.getLogger(__name__)

LOAD_FAILED_EXIT_CODE = 3
"""Exit code of a worker that could not load its models; uvicorn uses the same code for a failed start."""


def create_app(
    engine: ChatEngine | Future[ChatEngine], settings: Settings, metrics: ServerMetrics | None = None
) -> FastAPI:
    """The application around an engine, or around one that is still loading (503 until it is loaded).

    The caller closes the engine. Raises `UsageError` in production if no way to check tokens is configured.
    """
    check_auth_settings(settings)
    if metrics is None:
        metrics = ServerMetrics("loading" if isinstance(engine, Future) else engine.model)
    app = FastAPI(
        title="bankllm",
        version=__version__,
        summary="A banking assistant that names its sources.",
        lifespan=_lifespan,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(Observe, metrics=metrics)
    install_handlers(app)
    describe_problems(app)
    if isinstance(engine, Future):
        engine.add_done_callback(lambda done: None if done.exception() else _observe(done.result(), metrics))
    else:
        _observe(engine, metrics)
    current, limit = _engine_source(engine), RateLimit(settings)
    customer = customer_of_token(settings)
    app.include_router(health_routes(app, current, metrics))
    app.include_router(chat_routes(current, customer, limit))
    app.include_router(openai_routes(current, customer, limit))
    app.include_router(page_routes())
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.stopping = False
    begun = asyncio.create_task(begin()) if (begin := getattr(app.state, "begin", None)) else None
    yield
    app.state.stopping = True
    if begun:
        begun.cancel()
    if close := getattr(app.state, "close", None):
        await run_in_threadpool(close)


def _observe(engine: ChatEngine, metrics: ServerMetrics) -> None:
    def observe_reply(reply: ChatReply) -> None:
        metrics.observe_reply(reply.latency_ms.stages_s(), reply.responder, reply.fallback)
        for what in reply.unavailable:
            metrics.observe_unavailable(what)

    engine.observe_reply = observe_reply
    engine.observe_batch = metrics.observe_batch
    engine.memory.embedder.counts.observe = metrics.observe_lookups
    metrics.watch_queue(lambda: engine.waiting)
    metrics.set_model_info(engine.describe())
    if engine.memory.replication() is not None:
        metrics.watch_outbox(engine.memory.backlog)


def _engine_source(engine: ChatEngine | Future[ChatEngine]) -> Callable[[], ChatEngine]:
    """A function that returns the engine, or raises 503 while it is loading."""

    def current() -> ChatEngine:
        if not isinstance(engine, Future):
            return engine
        if not engine.done() or engine.exception() is not None:
            raise HTTPException(503, "The models are still loading. Try again in a moment.", {"Retry-After": "1"})
        return engine.result()

    return current


class LoadingApp:
    """An application whose engine is loaded in a background thread. `engine` is the future of the engine."""

    def __init__(self, settings: Settings) -> None:
        tune_process()
        adapter = settings.adapter or DEFAULT_ADAPTER
        metrics = ServerMetrics(model_name(read_artifact(adapter)))
        self._loader = ThreadPoolExecutor(1, "load")
        self.engine: Future[ChatEngine] = self._loader.submit(_load, adapter, settings)
        self.app: FastAPI = create_app(self.engine, settings, metrics)

    def close(self) -> None:
        """Wait until the engine is loaded, then close it. Raises the exception of a failed load."""
        self._loader.shutdown()
        self.engine.result().close()


def _load(adapter: Path, settings: Settings) -> ChatEngine:
    engine = ChatEngine.load(adapter, settings.store, settings)
    freeze_gc()
    return engine


def app_from_environment() -> FastAPI:
    """The application for an external ASGI server: loads in the background, closes when the server stops.

    If loading fails, the error is logged and the process exits with `LOAD_FAILED_EXIT_CODE`.
    """
    loading = LoadingApp(get_settings())

    async def report_loading() -> None:
        try:
            await asyncio.wrap_future(loading.engine)
        except Exception as error:
            unexpected = None if isinstance(error, BankLLMError) else error
            logger.error("the models cannot be loaded: %s", error, exc_info=unexpected)
            signal.raise_signal(signal.SIGTERM)  # makes uvicorn drain and stop
        else:
            logger.info("ready")

    def close() -> None:
        if loading.engine.done() and loading.engine.exception():
            # Without this, uvicorn would exit by SIGTERM, which looks like a requested stop.
            logging.shutdown()
            os._exit(LOAD_FAILED_EXIT_CODE)
        loading.close()

    loading.app.state.begin = report_loading
    loading.app.state.close = close
    return loading.app


def __getattr__(name: str) -> Any:
    """`app`, the ASGI entry point of earlier releases. Deprecated: use `bankllm.serving.asgi:app`."""
    if name == "app":
        warnings.warn(
            "bankllm.serving.app:app is deprecated and will be removed in the next release. "
            "Use bankllm.serving.asgi:app.",
            FutureWarning,
            stacklevel=2,
        )
        return app_from_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
