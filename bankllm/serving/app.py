"""The chat service over HTTP: `create_app` makes the application, `bankllm.serving.server` runs it.

    bankllm serve --port 8000            # or: uvicorn bankllm.serving.asgi:app
    curl -d '{"message": "What is my account balance?", "customer_id": "CUST001"}' \\
         -H 'content-type: application/json' http://127.0.0.1:8000/api/v1/chat
"""

import asyncio
import json
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from bankllm import __version__
from bankllm.assistant.engine import MAX_MESSAGE_CHARACTERS, ChatEngine
from bankllm.assistant.reply_batcher import ReplyBatcher
from bankllm.assistant.turn import ChatReply, PendingChat
from bankllm.serving.auth import check_auth_settings, customer_of_token, require_same_customer
from bankllm.serving.chat_page import page_routes
from bankllm.serving.errors import (
    COMPONENT,
    REFUSALS,
    Observe,
    Problem,
    describe_problems,
    documented,
    install_handlers,
    problem_of,
)
from bankllm.serving.health import health_routes
from bankllm.serving.limits import BodyLimit, RateLimit
from bankllm.serving.openai_api import openai_routes
from bankllm.serving.sse import EventStream, described_events, event
from bankllm.settings import Settings
from bankllm.telemetry.metrics import ServerMetrics

logger = logging.getLogger(__name__)

CustomerId = Annotated[str, Field(min_length=1, max_length=128)]


class ChatRequest(BaseModel):
    """A customer's message."""

    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]
    customer_id: CustomerId
    conversation_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    """The id from an earlier reply, to continue that conversation; without it a new conversation begins."""


STREAMED: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events."}}
STREAMED[200]["content"] = {
    "text/event-stream": {
        "itemSchema": described_events(
            token={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
            reply={"$ref": COMPONENT.format(model=ChatReply.__name__)},
            error={"$ref": COMPONENT.format(model=Problem.__name__)},
        )
    }
}


class StoredTurn(BaseModel):
    """A message of the customer and its reply, as memory stores them."""

    message_id: str
    created_at: str
    """ISO 8601, UTC."""
    user_message: str
    assistant_response: str
    intent: str
    conversation_id: str = ""


class CustomerData(BaseModel):
    """All that memory stores about a customer, without the embeddings."""

    customer_id: str
    messages: list[StoredTurn]


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
    app.include_router(_chat_routes(current, customer, limit))
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


def _chat_routes(
    current: Callable[[], ChatEngine],
    customer_of: Callable[..., Any],
    limit: RateLimit,
) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["chat"])
    reply_batcher = ReplyBatcher()
    Customer = Annotated[str | None, Depends(customer_of)]

    def begin(body: ChatRequest, request: Request, customer: str | None) -> PendingChat:
        require_same_customer(customer, body.customer_id)
        limit.check(body.customer_id)
        return current().begin(body.message, body.customer_id, body.conversation_id, request.state.request_id)

    @router.post("/chat", response_model=ChatReply, responses=documented(*REFUSALS))
    async def chat(body: ChatRequest, request: Request, customer: Customer) -> Response:
        pending = begin(body, request, customer)
        await encoded(pending, request)
        reply = await reply_batcher.finish(current(), pending)
        # As FastAPI would serialise the model, without a second validation.
        return Response(reply.model_dump_json(), media_type="application/json")

    @router.post("/chat/stream", response_class=EventStream, responses=documented(*REFUSALS) | STREAMED)
    async def stream(body: ChatRequest, request: Request, customer: Customer) -> EventStream:
        """The reply as it is generated: `token` events, then one `reply` event, or one `error` event."""
        pending = begin(body, request, customer)
        await encoded(pending, request)

        def events() -> Generator[str]:
            try:
                for item in current().stream(pending):
                    if isinstance(item, str):
                        yield event("token", json.dumps({"text": item}))
                    else:
                        yield event("reply", item.model_dump_json())
            except Exception as error:  # noqa: BLE001  the status is already sent, so the error follows as an event
                yield event("error", problem_of(request.state.request_id, error).model_dump_json())

        return EventStream(events())

    @router.get("/customers/{customer_id}/memory", responses=documented(401, 403, 404, 422, 429, 500, 503))
    def kept(customer_id: CustomerId, customer: Customer) -> CustomerData:
        """All that memory stores about this customer, oldest first."""
        require_same_customer(customer, customer_id)
        limit.check(customer_id)
        return CustomerData(
            customer_id=customer_id, messages=[StoredTurn(**turn) for turn in current().export(customer_id)]
        )

    @router.delete(
        "/customers/{customer_id}/memory", status_code=204, responses=documented(401, 403, 404, 422, 429, 500, 503)
    )
    def forget(customer_id: CustomerId, customer: Customer) -> None:
        """Delete all that memory stores about this customer. A second call does nothing and is no error."""
        require_same_customer(customer, customer_id)
        limit.check(customer_id)
        current().forget(customer_id)

    return router


async def encoded(pending: PendingChat, request: Request) -> None:
    """Wait for the encoder. If the client disconnects before, cancel the message."""
    done = asyncio.wrap_future(pending.encoded)
    left = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
    finally:
        left.cancel()
        done.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def __getattr__(name: str) -> Any:
    """`app`, the ASGI entry point of earlier releases. Deprecated: use `bankllm.serving.asgi:app`."""
    if name == "app":
        warnings.warn(
            "bankllm.serving.app:app is deprecated and will be removed in the next release. "
            "Use bankllm.serving.asgi:app.",
            FutureWarning,
            stacklevel=2,
        )
        return import_module("bankllm.serving.asgi").app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
