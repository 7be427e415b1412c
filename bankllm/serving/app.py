"""The chat service over HTTP: `create_app` makes the application, `serve` runs it as a process.

    bankllm serve --port 8000
    curl -d '{"message": "What is my account balance?", "customer_id": "CUST001"}' \\
         -H 'content-type: application/json' http://127.0.0.1:8000/api/v1/chat
"""

import copy
import errno
import logging
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from bankllm import __version__
from bankllm.artefact import read_artefact
from bankllm.errors import ServerError
from bankllm.serving.engine import DEFAULT_ADAPTER, MAX_MESSAGE_CHARACTERS, ChatEngine, ChatReply, model_name
from bankllm.serving.identity import check_identity, check_own, customer_of_token, is_guarded
from bankllm.serving.pages import page_routes
from bankllm.serving.problems import Observe, documented, install_handlers
from bankllm.settings import Settings
from bankllm.telemetry.metrics import ServerMetrics, Stage

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10
"""How long requests in flight may take to finish after SIGTERM."""


CustomerId = Annotated[str, Field(min_length=1, max_length=128)]


class ChatRequest(BaseModel):
    """A customer's message."""

    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]
    customer_id: CustomerId
    conversation_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    """Given back in the reply; a new one is made where it is absent."""


class ChatResponse(ChatReply):
    """The engine's reply, with the id under which the log knows the request."""

    request_id: str


class Turn(BaseModel):
    """A message of the customer's and its answer, as they are kept."""

    message_id: str
    created_at: str
    """ISO 8601, UTC."""
    user_message: str
    assistant_response: str
    intent: str


class Memory(BaseModel):
    """All that is kept about a customer but the messages' embeddings."""

    customer_id: str
    messages: list[Turn]


def create_app(
    engine: ChatEngine | Future[ChatEngine], settings: Settings, metrics: ServerMetrics | None = None
) -> FastAPI:
    """The application around an engine, or around one that is still loading (503 until it is there).

    Whoever made the engine closes it. Raises `UsageError` in production without a way to check tokens.
    """
    check_identity(settings)
    if metrics is None:
        metrics = ServerMetrics("loading" if isinstance(engine, Future) else engine.model)
    app = FastAPI(title="bankllm", version=__version__, summary="A banking assistant that names its sources.")
    app.add_middleware(Observe, metrics=metrics)
    install_handlers(app)
    if isinstance(engine, Future):
        engine.add_done_callback(lambda done: None if done.exception() else _count_batches(done.result(), metrics))
    else:
        _count_batches(engine, metrics)
    current = _engine_source(engine)
    app.include_router(_health_routes(current, metrics))
    app.include_router(_chat_routes(current, settings, metrics))
    app.include_router(page_routes())
    return app


def serve(host: str, port: int, store_path: Path | None, adapter: Path | None, settings: Settings) -> None:
    """Run the service in this process (main thread) until SIGTERM or Ctrl-C, then drain and return.

    It listens at once and answers `/health/ready` with 503 while the models load. Port 0 takes a free one.
    Raises `UsageError`, `ModelError` or `StoreError` for parts that cannot be used, `ServerError` for the port.
    """
    import uvicorn

    check_identity(settings, host)
    adapter = adapter or DEFAULT_ADAPTER
    metrics = ServerMetrics(model_name(read_artefact(adapter)))
    with listen(host, port) as listener, ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(ChatEngine.load, adapter, store_path, settings)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(loading, settings, metrics),
                access_log=False,
                log_config=_log_config(),
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )

        def stop(*_: object) -> None:
            server.should_exit = True

        # uvicorn raises the signal again once it has drained; with the default handler that would not be exit 0.
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        loading.add_done_callback(lambda done: stop() if done.exception() else logger.info("ready"))
        if not is_guarded(settings):
            logger.warning("demo: customers need no token, so this server is for this machine alone")
        server.run(sockets=[listener])
        loading.result().close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ServerError` where the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol, as socket.create_server's do not: without
    # it each reply on a kept connection waits about 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = (
            "Stop the other server, or choose another port with --port."
            if taken
            else "Expected an address of this machine, such as 127.0.0.1, and a port from 0 to 65535."
        )
        fault = "is in use" if taken else f"cannot be used ({error})"
        raise ServerError(f"Port {port} on {host} {fault}. {advice}") from error


def _health_routes(current: Callable[[], ChatEngine], metrics: ServerMetrics) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy", "timestamp": datetime.now(UTC).isoformat(), "version": __version__}

    @router.get("/health/ready", responses=documented(503))
    async def ready() -> dict[str, str]:
        return {"status": "ready", "model": current().model}

    @router.get("/health/metrics")
    async def summary() -> dict[str, int | float | None]:
        return metrics.summary()

    @router.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        content, media_type = metrics.render()
        return Response(content, media_type=media_type)

    return router


def _chat_routes(current: Callable[[], ChatEngine], settings: Settings, metrics: ServerMetrics) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["chat"])
    Customer = Annotated[str | None, Depends(customer_of_token(settings))]

    # Not async: Starlette runs it in its threadpool, and the event loop stays free for the other requests.
    @router.post("/chat", responses=documented(401, 403, 404, 422, 500, 503))
    def chat(body: ChatRequest, request: Request, customer: Customer) -> ChatResponse:
        check_own(customer, body.customer_id)
        reply = current().chat(body.message, body.customer_id, body.conversation_id)
        for stage in get_args(Stage):
            metrics.observe_stage(stage, getattr(reply.latency_ms, stage) / 1000)
        return ChatResponse(request_id=request.state.request_id, **dict(reply))

    @router.get("/customers/{customer_id}/memory", responses=documented(401, 403, 404, 422, 500, 503))
    def kept(customer_id: CustomerId, customer: Customer) -> Memory:
        """What is kept about this customer, oldest first."""
        check_own(customer, customer_id)
        return Memory(customer_id=customer_id, messages=[Turn(**turn) for turn in current().export(customer_id)])

    @router.delete("/customers/{customer_id}/memory", status_code=204, responses=documented(401, 403, 404, 422, 503))
    def forget(customer_id: CustomerId, customer: Customer) -> None:
        """Forget this customer. Asked again, there is nothing to forget, and that is no error."""
        check_own(customer, customer_id)
        current().forget(customer_id)

    return router


def _count_batches(engine: ChatEngine, metrics: ServerMetrics) -> None:
    engine.observe_batch = metrics.observe_batch


def _engine_source(engine: ChatEngine | Future[ChatEngine]) -> Callable[[], ChatEngine]:
    """A function that gives the engine, or refuses with 503 while there is none."""

    def current() -> ChatEngine:
        if not isinstance(engine, Future):
            return engine
        if not engine.done() or engine.exception() is not None:
            raise HTTPException(503, "The models are still loading. Try again in a moment.", {"Retry-After": "1"})
        return engine.result()

    return current


def _log_config() -> dict:
    """uvicorn's own logging (stderr), with this package's loggers beside it."""
    from uvicorn.config import LOGGING_CONFIG

    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["bankllm"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
