"""The chat service over HTTP: `create_app` makes the application, `bankllm.serving.server` runs it.

    bankllm serve --port 8000            # or: uvicorn --factory --http h11 bankllm.serving.workers:worker_app
    curl -d '{"message": "What is my account balance?", "customer_id": "CUST001"}' \\
         -H 'content-type: application/json' http://127.0.0.1:8000/api/v1/chat
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from bankllm import __version__
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import ChatReply
from bankllm.errors import StoreError
from bankllm.serving.actions_api import actions_routes
from bankllm.serving.auth import auth_enabled, check_auth_settings, token_reader
from bankllm.serving.bank_api import bank_routes
from bankllm.serving.chat_api import chat_routes
from bankllm.serving.errors import Observe, describe_problems, install_handlers
from bankllm.serving.handover_api import handover_routes
from bankllm.serving.health import health_routes
from bankllm.serving.limits import RateLimit, RequestLimits
from bankllm.serving.openai_api import openai_routes
from bankllm.serving.tuning import freeze_gc
from bankllm.settings import Settings
from bankllm.telemetry.metrics import ServerMetrics
from bankllm.vectors.sqlite.store import SWEEP_EVERY_S

logger = logging.getLogger(__name__)

PAGE_FOLDER = Path(__file__).with_name("page")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The browser runs only the page's own script, whatever text a reply contains."""
HURRY_S = 5.0
"""Seconds after SIGTERM from which the replies that are being generated are completed without a language model."""


def create_app(
    engine: ChatEngine | Future[ChatEngine],
    settings: Settings,
    metrics: ServerMetrics | None = None,
    close_engine: bool = False,
) -> FastAPI:
    """The application around an engine, or around one that is still loading (503 until it is loaded).

    With `close_engine` the application closes the engine when it stops. Raises `UsageError` as `check_auth_settings`.
    """
    check_auth_settings(settings)
    if metrics is None:
        metrics = ServerMetrics("loading" if isinstance(engine, Future) else engine.model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop, sweeping = asyncio.get_running_loop(), asyncio.create_task(sweep_memory())
        _before_stop(lambda: loop.call_soon_threadsafe(loop.call_later, HURRY_S, hurry))
        async with sessions():
            yield
        sweeping.cancel()
        await asyncio.wait([sweeping])
        if close_engine:
            await run_in_threadpool(current().close)

    def hurry() -> None:
        with contextlib.suppress(HTTPException):
            current().hurry()

    async def sweep_memory() -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await run_in_threadpool(lambda: current().memory.sweep())
            except HTTPException:
                logger.debug("memory is not swept before the models are loaded")
            except StoreError as error:
                logger.error("expired messages are hidden, but not deleted yet: %s", error)

    summary = "A banking assistant that names its sources."
    app = FastAPI(title="bankllm", version=__version__, summary=summary, lifespan=lifespan)
    app.add_middleware(RequestLimits, local_only=not auth_enabled(settings))
    app.add_middleware(Observe, metrics=metrics)
    install_handlers(app)
    describe_problems(app)
    if isinstance(engine, Future):
        engine.add_done_callback(lambda done: None if done.exception() else _observe(done.result(), metrics))
    else:
        _observe(engine, metrics)

    def current() -> ChatEngine:
        if not isinstance(engine, Future):
            return engine
        if not engine.done() or engine.exception() is not None:
            raise HTTPException(503, "The models are still loading. Try again in a moment.", {"Retry-After": "1"})
        return engine.result()

    token, limit = token_reader(settings), RateLimit(settings)
    app.include_router(health_routes(current, metrics))
    app.include_router(chat_routes(current, token, limit))
    app.include_router(actions_routes(current, token, limit))
    sessions: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    if settings.mcp:
        from bankllm.serving.mcp_server import mcp_routes

        router, manager = mcp_routes(current, token, limit, auth_enabled(settings))
        app.include_router(router)
        sessions = manager.run
    app.include_router(bank_routes(current, token, limit))
    if auth_enabled(settings):
        app.include_router(handover_routes(current, token))
    app.include_router(openai_routes(current, token, limit))
    app.get("/", include_in_schema=False)(chat_page)
    app.get("/page/{name}", include_in_schema=False)(chat_page)
    return app


async def chat_page(name: Literal["index.html", "chat.css", "chat.js"] = "index.html") -> FileResponse:
    """The page at `/` and its two files, without a build step and without third-party resources."""
    return FileResponse(PAGE_FOLDER / name, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def load_engine(settings: Settings) -> ChatEngine:
    """The engine that the settings describe. Raises as `ChatEngine.load` does."""
    engine = ChatEngine.load(settings)
    freeze_gc()
    facts = engine.describe()
    logger.info("messages are understood by %s, replies worded by %s", facts["understanding"], facts["responder"])
    return engine


def _before_stop(act: Callable[[], object]) -> None:
    """Call `act` at SIGTERM and Ctrl-C, before the handler that stops the server."""
    if threading.current_thread() is not threading.main_thread():
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        act()
        if callable(stop := handlers[signal.Signals(number)]):
            stop(number, frame)

    for number in handlers:
        signal.signal(number, handle)


def _observe(engine: ChatEngine, metrics: ServerMetrics) -> None:
    def observe_reply(reply: ChatReply) -> None:
        stages_s = {stage: ms / 1000 for stage, ms in reply.latency_ms if stage != "total"}
        metrics.observe_reply(stages_s, reply.responder, reply.fallback, reply.unavailable)
        metrics.observe_understood(reply.understood_by, reply.understanding_fallback)

    engine.observe_reply = observe_reply
    engine.observe_batch = metrics.observe_batch
    engine.observe_first_word = metrics.observe_first_word
    if language := engine.language:
        language.observe = lambda text: metrics.observe_generated(model=language.name, **text._asdict())
    engine.memory.embedder.counts.observe = metrics.observe_lookups
    metrics.watch_queue(lambda: engine.waiting)
    metrics.set_model_info(engine.describe())
    if engine.memory.store.remote:
        metrics.watch_outbox(engine.memory.backlog)
