"""The chat service as a process: listen, load, answer, drain.

`serve` answers from this process, where `/health/ready` says 503 until the models are there, or from several workers
(`workers`), which share one store and one listening socket.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from bankllm.assistant.engine import DEFAULT_ADAPTER, ChatEngine, model_name
from bankllm.errors import BankLLMError, ServerError
from bankllm.model.artifact import read_artifact
from bankllm.serving.app import create_app
from bankllm.serving.auth import auth_enabled, check_identity
from bankllm.serving.header_limit import LimitedHead
from bankllm.serving.limits import wanted_rate
from bankllm.serving.logs import log_config
from bankllm.serving.tuning import freeze_gc, tune_process
from bankllm.serving.workers import NOT_LOADED, serve_with_workers
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.metrics import ServerMetrics

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10
"""How long requests in flight may take to finish after SIGTERM."""


def serve(host: str, port: int, settings: Settings, workers: int = 1) -> None:
    """Run the service (main thread) until SIGTERM or Ctrl-C, then drain and return.

    Port 0 takes a free one. Raises `UsageError`, `ModelError` or `StoreError` for parts that cannot be used,
    `ServerError` for the port, or where none of several workers can load.
    """
    # Better said before a port is taken, and once instead of by every worker.
    check_identity(settings, host)
    wanted_rate(settings)
    read_artifact(settings.adapter or DEFAULT_ADAPTER)
    # Its threads would fight with the encoder's for the same cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with listen(host, port) as listener:
        if workers > 1:
            _announce(settings)
            serve_with_workers(listener, _config("bankllm.serving.workers:worker_app", settings, workers), settings)
        else:
            _serve_alone(listener, settings)


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


class LoadingApp:
    """The application of a process that loads its own engine in the background."""

    def __init__(self, settings: Settings) -> None:
        tune_process()
        adapter = settings.adapter or DEFAULT_ADAPTER
        metrics = ServerMetrics(model_name(read_artifact(adapter)))
        self._loader = ThreadPoolExecutor(1, "load")
        self.engine: Future[ChatEngine] = self._loader.submit(_load, adapter, settings)
        self.app: FastAPI = create_app(self.engine, settings, metrics)

    def close(self) -> None:
        """Wait for the engine and close it. Raises what its loading raised."""
        self._loader.shutdown()
        self.engine.result().close()


def _load(adapter: Path, settings: Settings) -> ChatEngine:
    engine = ChatEngine.load(adapter, settings.store, settings)
    freeze_gc()
    return engine


def app_from_environment() -> FastAPI:
    """For uvicorn in a process that we did not start: loads in the background, closes when the server stops.

    Where it cannot load, the process says why and ends with the exit code of uvicorn's own failed starts.
    """
    loading = LoadingApp(get_settings())

    async def tell() -> None:
        try:
            await asyncio.wrap_future(loading.engine)
        except Exception as error:
            unforeseen = None if isinstance(error, BankLLMError) else error
            logger.error("the models cannot be loaded: %s", error, exc_info=unforeseen)
            signal.raise_signal(signal.SIGTERM)  # uvicorn drains
        else:
            logger.info("ready")

    def close() -> None:
        if loading.engine.done() and loading.engine.exception():
            # uvicorn would end by the signal it was sent, as if somebody had wanted this end.
            logging.shutdown()
            os._exit(NOT_LOADED)
        loading.close()

    loading.app.state.begin = tell
    loading.app.state.close = close
    return loading.app


def _serve_alone(listener: socket.socket, settings: Settings) -> None:
    loading = LoadingApp(settings)
    server = uvicorn.Server(_config(loading.app, settings))

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again once it has drained; with the default handler that would not be exit 0.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _announce(settings)
    loading.engine.add_done_callback(lambda done: stop() if done.exception() else logger.info("ready"))
    try:
        server.run(sockets=[listener])
    finally:
        loading.close()


def _config(app: FastAPI | str, settings: Settings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        workers=workers,
        factory=isinstance(app, str),
        access_log=False,
        log_config=log_config(settings.log_file),
        timeout_graceful_shutdown=DRAIN_SECONDS,
        http=LimitedHead,
        ws="none",
    )


def _announce(settings: Settings) -> None:
    if not auth_enabled(settings):
        logger.warning("demo: customers need no token, so this server is for this machine alone")
