"""The chat service as a process: listen, load, answer, drain.

`serve` answers from this process, or from several workers that uvicorn watches over; all share one store and one
listening socket. `/health/ready` says 503 until the models are there.
"""

import errno
import logging
import os
import signal
import socket
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from bankllm.artefact import read_artefact
from bankllm.errors import ServerError
from bankllm.processes import usable_cores
from bankllm.serving.app import create_app
from bankllm.serving.engine import DEFAULT_ADAPTER, ChatEngine, model_name
from bankllm.serving.identity import check_identity, is_guarded
from bankllm.serving.logs import log_config
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.metrics import ServerMetrics
from bankllm.telemetry.workers import FOLDER_VARIABLE, worker_ended

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10
"""How long requests in flight may take to finish after SIGTERM."""


def serve(host: str, port: int, settings: Settings, workers: int = 1) -> None:
    """Run the service (main thread) until SIGTERM or Ctrl-C, then drain and return.

    Port 0 takes a free one. Raises `UsageError`, `ModelError` or `StoreError` for parts that cannot be used,
    `ServerError` for the port.
    """
    check_identity(settings, host)
    read_artefact(settings.adapter or DEFAULT_ADAPTER)  # better said before a port is taken
    # Its threads would fight with the encoder's for the same cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with listen(host, port) as listener:
        if workers > 1:
            _serve_with_workers(listener, settings, workers)
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
        adapter = settings.adapter or DEFAULT_ADAPTER
        metrics = ServerMetrics(model_name(read_artefact(adapter)))
        self._loader = ThreadPoolExecutor(1, "load")
        self.engine: Future[ChatEngine] = self._loader.submit(ChatEngine.load, adapter, settings.store, settings)
        self.app: FastAPI = create_app(self.engine, settings, metrics)

    def close(self) -> None:
        """Wait for the engine and close it. Raises what its loading raised."""
        self._loader.shutdown()
        self.engine.result().close()


def app_from_environment() -> FastAPI:
    """For uvicorn in a process that we did not start: loads in the background, closes when the server stops."""
    loading = LoadingApp(get_settings())

    def tell(done: Future[ChatEngine]) -> None:
        if error := done.exception():
            logger.error("the models cannot be loaded: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            logger.info("ready")

    loading.engine.add_done_callback(tell)
    loading.app.state.close = loading.close
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


def _serve_with_workers(listener: socket.socket, settings: Settings, workers: int) -> None:
    """uvicorn starts the workers, and one anew where it ended; each reads its settings from the environment."""
    with tempfile.TemporaryDirectory(prefix="bankllm-workers-") as shared:
        cores = settings.encoder_threads or max(1, usable_cores() // workers)
        os.environ |= {FOLDER_VARIABLE: shared, "BANKLLM_ENCODER_THREADS": str(cores)}
        os.environ |= _environment(settings)
        config = _config("bankllm.serving.app:app", settings, workers)
        _announce(settings)
        Supervisor(config, listener, Path(shared)).run()


class Supervisor(Multiprocess):
    """uvicorn's, which also takes an ended worker's gauges out of the metrics."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, shared: Path) -> None:
        super().__init__(config, [listener])
        self._shared = shared

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                worker_ended(self._shared, pid)


def _config(app: FastAPI | str, settings: Settings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        workers=workers,
        access_log=False,
        log_config=log_config(settings.log_file),
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ws="none",
    )


def _announce(settings: Settings) -> None:
    if not is_guarded(settings):
        logger.warning("demo: customers need no token, so this server is for this machine alone")


def _environment(settings: Settings) -> dict[str, str]:
    """What a command line may have changed, for the workers, which read their settings anew."""
    names = ("store", "adapter", "responder", "log_file")
    return {f"BANKLLM_{name.upper()}": str(value) for name in names if (value := getattr(settings, name))}
