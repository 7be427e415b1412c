"""Run the chat service as a process: listen, load the models, answer requests, drain on SIGTERM.

With one worker, `serve` answers from this process, and `/health/ready` returns 503 until the models are loaded. With
several workers (`workers`), the worker processes share one store and one listening socket.
"""

import errno
import logging
import logging.config
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI

from bankllm.assistant.runtime import DEFAULT_ADAPTER, model_name
from bankllm.errors import ServerError
from bankllm.model.artifact import read_artifact
from bankllm.serving.app import create_app, load_engine
from bankllm.serving.auth import auth_enabled, check_auth_settings
from bankllm.serving.limits import MAX_HEADER_BYTES, parse_rate_limit
from bankllm.serving.logs import log_config
from bankllm.serving.tuning import tune_process
from bankllm.serving.workers import UNRESPONSIVE_S, serve_with_workers
from bankllm.settings import Settings
from bankllm.telemetry.metrics import ServerMetrics

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10  # for requests in flight after SIGTERM


def serve(host: str, port: int, settings: Settings, workers: int = 1) -> None:
    """Run the service (main thread) until SIGTERM or Ctrl-C, then drain and return. Port 0 selects a free port.

    Raises `UsageError` for invalid settings, `ModelError` or `StoreError` for a model or store that cannot be used, and
    `ServerError` if the port cannot be used or no worker can load.
    """
    # Checked here, before the port is opened, so that each error is reported once and not by every worker.
    check_auth_settings(settings, host)
    parse_rate_limit(settings)
    model = model_name(read_artifact(settings.adapter or DEFAULT_ADAPTER))
    # The tokenizer's threads would compete with the encoder's threads for the same cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with listen(host, port) as listener:
        logging.config.dictConfig(log_config(settings.log_file))
        if not auth_enabled(settings):
            logger.warning("authentication is not configured (demo mode): only requests from this machine are accepted")
        if workers > 1:
            config = _config("bankllm.serving.workers:worker_app", settings, workers)
            serve_with_workers(listener, config, settings)
        else:
            _serve_single_process(listener, settings, model)


def listen(host: str, port: int) -> socket.socket:
    """Raises `ServerError` if the port or the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            problem, advice = "is in use", "Stop the other server, or choose another port with --port."
        else:
            problem = f"cannot be used ({error})"
            advice = "Expected an address of this machine, such as 127.0.0.1, and a port from 0 to 65535."
        raise ServerError(f"Port {port} on {host} {problem}. {advice}") from error


def _serve_single_process(listener: socket.socket, settings: Settings, model: str) -> None:
    tune_process()
    with ThreadPoolExecutor(1, "load") as loader:
        engine = loader.submit(load_engine, settings)
        app = create_app(engine, settings, ServerMetrics(model))
        server = uvicorn.Server(_config(app, settings))

        def stop(*_: object) -> None:
            server.should_exit = True

        # uvicorn raises the signal again after it has drained. With the default handler the exit code would not be 0.
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        engine.add_done_callback(lambda done: stop() if done.exception() else logger.info("ready"))
        try:
            server.run(sockets=[listener])
        finally:
            engine.result().close()  # or raise the error of a failed load


def _config(app: FastAPI | str, settings: Settings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        workers=workers,
        factory=isinstance(app, str),
        access_log=False,
        log_config=log_config(settings.log_file),
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=UNRESPONSIVE_S,
        # h11 bounds the memory of an incomplete header section, and reads the body of a request that offers an
        # upgrade. httptools does neither.
        http="h11",
        h11_max_incomplete_event_size=2 * MAX_HEADER_BYTES,
        ws="none",
    )
