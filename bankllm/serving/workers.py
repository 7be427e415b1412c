"""Several worker processes on one listening socket, and the supervisor that restarts them.

A worker accepts its first connection only after its models are loaded, so a restarted worker never answers 503 while
other workers are ready. The supervisor restarts a worker that has ended. If a worker cannot load while others are
running, the supervisor retries after a delay. If no worker can load, the service ends with the error.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from bankllm.assistant.engine import DEFAULT_ADAPTER, ChatEngine, model_name
from bankllm.assistant.runtime import prepare
from bankllm.errors import BankLLMError, ServerError
from bankllm.model.artifact import read_artifact
from bankllm.serving.app import LOAD_FAILED_EXIT_CODE, create_app
from bankllm.serving.tuning import freeze_gc, tune_process
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.metrics import ServerMetrics
from bankllm.telemetry.multiprocess import FOLDER_VARIABLE, worker_ended
from bankllm.telemetry.recent_requests import live_workers
from bankllm.util.processes import usable_cores

logger = logging.getLogger(__name__)

RETRY_DELAY_S = 5.0
"""Delay before a worker that could not load is started again."""


def serve_with_workers(listener: socket.socket, config: uvicorn.Config, settings: Settings) -> None:
    """Run the workers until SIGTERM or Ctrl-C. The workers read their settings from the environment.

    Raises `ModelError` if the classifier cannot be exported, and `ServerError` if no worker can load.
    """
    prepare(settings.adapter or DEFAULT_ADAPTER, settings)
    with tempfile.TemporaryDirectory(prefix="bankllm-workers-") as shared:
        cores = settings.encoder_threads or max(1, usable_cores() // config.workers)
        os.environ |= {FOLDER_VARIABLE: shared, "BANKLLM_ENCODER_THREADS": str(cores)}
        os.environ |= _environment(settings)
        supervisor = Supervisor(config, listener, Path(shared))
        supervisor.run()
    if supervisor.load_error:
        raise ServerError(f"No worker could start. {supervisor.load_error}")


class Supervisor(Multiprocess):
    """uvicorn's supervisor with a different rule for restarts: a worker is restarted only if its process has ended.

    uvicorn also kills a worker that answers its pings slowly. On a busy machine that would kill workers that are
    still starting.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, shared: Path) -> None:
        super().__init__(config, [listener])
        self.load_error: str | None = None
        """The error that ended the service because no worker could load, else None."""
        self._shared = shared
        self._retry_at = 0.0

    def keep_subprocess_alive(self) -> None:
        """Restart workers that have ended and remove their gauges from the metrics. Stop if no worker can load."""
        for index, worker in enumerate(self.processes):
            # A pending signal may mean shutdown: a signal to the process group has already reached the workers.
            if self.should_exit.is_set() or self.signal_queue:
                return
            if worker.process.is_alive() or time.monotonic() < self._retry_at:
                continue
            worker.process.join()
            worker_ended(self._shared, worker.process.pid or 0)
            if worker.process.exitcode == LOAD_FAILED_EXIT_CODE and self._handle_load_failure(worker):
                return
            logger.warning("worker %s ended (exit code %s)", worker.process.pid, worker.process.exitcode)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def _handle_load_failure(self, worker: Process) -> bool:
        """Schedule a retry, or stop the service if no other worker is running.

        Returns False if the worker's error has already been handled, so that it can be restarted now.
        """
        error_file = _error_file(self._shared, worker.process.pid or 0)
        if not error_file.exists():  # handled before, and the retry delay has passed
            return False
        error = error_file.read_text()
        error_file.unlink()
        if live_workers(self._shared):
            logger.error("worker %s could not load, retrying in %g s: %s", worker.process.pid, RETRY_DELAY_S, error)
            self._retry_at = time.monotonic() + RETRY_DELAY_S
        else:
            self.load_error = error
            self.should_exit.set()
        return True


def worker_app() -> FastAPI:
    """The application of a worker, with its models loaded.

    If loading fails, the worker writes the error to a file for the supervisor and exits.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tune_process()
    # uvicorn's handler would first wait until the models are loaded. Exit immediately instead.
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings, shared = get_settings(), Path(os.environ[FOLDER_VARIABLE])
    adapter = settings.adapter or DEFAULT_ADAPTER
    try:
        engine = ChatEngine.load(adapter, settings.store, settings)
    except Exception as error:
        if not isinstance(error, BankLLMError):
            logger.error("the models cannot be loaded", exc_info=error)
        _error_file(shared, os.getpid()).write_text(str(error) or type(error).__name__)
        sys.exit(LOAD_FAILED_EXIT_CODE)
    finally:
        signal.signal(signal.SIGTERM, handler)
    # ServerMetrics creates the file in the shared folder that marks this worker as running, so it is created last.
    app = create_app(engine, settings, ServerMetrics(model_name(read_artifact(adapter))))
    app.state.close = engine.close
    freeze_gc()
    logger.info("ready")
    return app


def _end_with_parent() -> None:
    """Drain and end this worker when the supervisor process has ended for any reason, even if it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _error_file(shared: Path, pid: int) -> Path:
    return shared / f"{pid}.fault"


def _environment(settings: Settings) -> dict[str, str]:
    """Settings that the command line can change, as environment variables for the workers."""
    names = ("store", "adapter", "responder", "log_file")
    return {f"BANKLLM_{name.upper()}": str(value) for name in names if (value := getattr(settings, name))}
