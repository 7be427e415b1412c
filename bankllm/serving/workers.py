"""Several worker processes on one listening socket, started and restarted by uvicorn's supervisor.

A worker accepts its first connection only after its models are loaded, so a restarted worker never answers 503 while
other workers are ready. A worker that cannot load while others run is tried again; if none runs, the service ends with
the error. uvicorn replaces a worker that has ended, and one that does not answer for `UNRESPONSIVE_S`. The supervisor
also starts the language model's process, which all workers share, and restarts it.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from bankllm.assistant.language.language_engine import engine_process, needs_engine
from bankllm.assistant.runtime import DEFAULT_ADAPTER, prepare
from bankllm.errors import BankLLMError, ServerError
from bankllm.serving.app import create_app, load_engine
from bankllm.serving.tuning import tune_process
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.multiprocess import FOLDER_VARIABLE, live_workers, shared_folder
from bankllm.util.processes import usable_cores

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""Pause of a worker that could not load, before its process ends and is replaced."""
UNRESPONSIVE_S = 30
"""Long enough for a worker that loads its models on a busy machine."""
LOAD_ERROR = "load-error.txt"


def serve_with_workers(listener: socket.socket, config: uvicorn.Config, settings: Settings) -> None:
    """Run the workers until SIGTERM or Ctrl-C. Raises `ModelError`, and `ServerError` if no worker can load."""
    prepare(settings.adapter or DEFAULT_ADAPTER, settings)
    with tempfile.TemporaryDirectory(prefix="bankllm-workers-") as shared, contextlib.ExitStack() as started:
        if needs_engine(settings):
            engine = engine_process(settings)
            started.callback(engine.close)
            os.environ["BANKLLM_LANGUAGE_SOCKET"] = engine.address
        cores = settings.encoder_threads or max(1, usable_cores() // config.workers)
        os.environ |= {FOLDER_VARIABLE: shared, "BANKLLM_ENCODER_THREADS": str(cores)}
        os.environ |= {  # the settings that the command line can change
            f"BANKLLM_{name.upper()}": str(value)
            for name in ("store", "adapter", "responder", "log_file", "mcp")
            if (value := getattr(settings, name))
        }
        Multiprocess(config, [listener]).run()
        if (error := Path(shared, LOAD_ERROR)).exists():
            raise ServerError(f"No worker could start. {error.read_text()}")


def worker_app() -> FastAPI:
    """The application with its models loaded. If they cannot be loaded, the error is logged and the process ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tune_process()
    try:
        settings = get_settings()
        engine = load_engine(settings)
        # ServerMetrics marks this worker as running, so the application is created last.
        app = create_app(engine, settings, close_engine=True)
    except Exception as error:  # noqa: BLE001  logged, and the process ends
        _end_after(error)
    logger.info("ready")
    return app


def _end_after(error: Exception) -> NoReturn:
    """End this process. The exit code tells uvicorn whether to replace it or to stop the service.

    The process ends at once, because a process that is ending does not answer uvicorn's health check.
    """
    text = str(error) or type(error).__name__
    shared = shared_folder()
    unexpected = None if isinstance(error, BankLLMError) else error
    if shared and live_workers(shared):
        logger.error("could not load, retrying in %g s: %s", RETRY_S, text, exc_info=unexpected)
        time.sleep(RETRY_S)  # in this process, because the supervisor restarts other workers meanwhile
        os._exit(1)
    if unexpected or not shared:
        logger.error("the models cannot be loaded: %s", text, exc_info=unexpected)
    if shared:
        (shared / LOAD_ERROR).write_text(text)
    os._exit(STARTUP_FAILURE)


def _end_with_parent() -> None:
    """Drain and end this worker when the supervisor process has ended for any reason, even if it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
