"""Run the chat service as a process: listen, load the models, answer requests, drain on SIGTERM.

With one worker, `serve` answers from this process, and `/health/ready` returns 503 until the models are loaded. With
several workers (`workers`), the worker processes share one store and one listening socket.
"""

import errno
import logging
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from bankllm.assistant.engine import DEFAULT_ADAPTER
from bankllm.errors import ServerError
from bankllm.model.artifact import read_artifact
from bankllm.serving.app import LoadingApp
from bankllm.serving.auth import auth_enabled, check_auth_settings
from bankllm.serving.header_limit import HeaderLimitProtocol
from bankllm.serving.limits import parse_rate_limit
from bankllm.serving.logs import log_config
from bankllm.serving.workers import serve_with_workers
from bankllm.settings import Settings

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10
"""Time limit for requests in flight after SIGTERM."""


def serve(host: str, port: int, settings: Settings, workers: int = 1) -> None:
    """Run the service (main thread) until SIGTERM or Ctrl-C, then drain and return.

    Port 0 selects a free port. Raises `UsageError` for invalid settings, `ModelError` or `StoreError` for a model or
    store that cannot be used, and `ServerError` if the port cannot be used or no worker can load.
    """
    # Checked here, before the port is opened, so that each error is reported once and not by every worker.
    check_auth_settings(settings, host)
    parse_rate_limit(settings)
    read_artifact(settings.adapter or DEFAULT_ADAPTER)
    # The tokenizer's threads would compete with the encoder's threads for the same cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with listen(host, port) as listener:
        if workers > 1:
            _warn_without_auth(settings)
            serve_with_workers(listener, _config("bankllm.serving.workers:worker_app", settings, workers), settings)
        else:
            _serve_single_process(listener, settings)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises `ServerError` if the port or the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the socket's protocol is IPPROTO_TCP, which socket.create_server does not set.
    # Without TCP_NODELAY each response on a kept-alive connection waits about 40 ms for the client's delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = (
            "Stop the other server, or choose another port with --port."
            if in_use
            else "Expected an address of this machine, such as 127.0.0.1, and a port from 0 to 65535."
        )
        problem = "is in use" if in_use else f"cannot be used ({error})"
        raise ServerError(f"Port {port} on {host} {problem}. {advice}") from error


def _serve_single_process(listener: socket.socket, settings: Settings) -> None:
    loading = LoadingApp(settings)
    server = uvicorn.Server(_config(loading.app, settings))

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again after it has drained. With the default handler the exit code would not be 0.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _warn_without_auth(settings)
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
        http=HeaderLimitProtocol,
        ws="none",
    )


def _warn_without_auth(settings: Settings) -> None:
    if not auth_enabled(settings):
        logger.warning(
            "authentication is not configured (demo mode): this server accepts only requests from this machine"
        )
