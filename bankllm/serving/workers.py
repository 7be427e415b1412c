"""Several processes that answer from one listening socket, and the one that watches over them.

A worker takes its first connection once its models are loaded, so that one that is started anew never answers 503
while the others could answer. One that ended is started anew. Where none can load, the service ends and says why;
where others go on answering, it is tried again after a pause.
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
from bankllm.serving.app import create_app
from bankllm.serving.tuning import freeze_gc, tune_process
from bankllm.settings import Settings, get_settings
from bankllm.telemetry.metrics import ServerMetrics
from bankllm.telemetry.multiprocess import FOLDER_VARIABLE, worker_ended
from bankllm.telemetry.recent_requests import live_workers
from bankllm.util.processes import usable_cores

logger = logging.getLogger(__name__)

NOT_LOADED = 3
"""Exit code of a worker that could not load; uvicorn's own for a start that failed."""
PAUSE_S = 5.0
"""Before a worker that could not load is tried again."""


def serve_with_workers(listener: socket.socket, config: uvicorn.Config, settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C. The workers read their settings from the environment.

    Raises `ModelError` or `ServerError` where no worker can load.
    """
    prepare(settings.adapter or DEFAULT_ADAPTER, settings)
    with tempfile.TemporaryDirectory(prefix="bankllm-workers-") as shared:
        cores = settings.encoder_threads or max(1, usable_cores() // config.workers)
        os.environ |= {FOLDER_VARIABLE: shared, "BANKLLM_ENCODER_THREADS": str(cores)}
        os.environ |= _environment(settings)
        supervisor = Supervisor(config, listener, Path(shared))
        supervisor.run()
    if supervisor.fault:
        raise ServerError(f"No worker could start. {supervisor.fault}")


class Supervisor(Multiprocess):
    """uvicorn's, with a judgement of its own on which workers to start anew.

    A worker is judged by whether its process lives: uvicorn's also ends one that is slow to answer its pings, as all
    are that start on a busy machine.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, shared: Path) -> None:
        super().__init__(config, [listener])
        self.fault: str | None = None
        """Why no worker could load; None while some do."""
        self._shared = shared
        self._rest_until = 0.0

    def keep_subprocess_alive(self) -> None:
        """Start anew what ended, take its gauges out of the metrics; end where no worker can load."""
        for index, worker in enumerate(self.processes):
            # A signal that waits may be the end of all: the workers have had it too, where a group was sent it.
            if self.should_exit.is_set() or self.signal_queue:
                return
            if worker.process.is_alive() or time.monotonic() < self._rest_until:
                continue
            worker.process.join()
            worker_ended(self._shared, worker.process.pid or 0)
            if worker.process.exitcode == NOT_LOADED and self._cannot_load(worker):
                return
            logger.warning("worker %s ended (exit code %s)", worker.process.pid, worker.process.exitcode)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def _cannot_load(self, worker: Process) -> bool:
        """Note why a worker could not load; whether it stays away for now, or for good."""
        note = _note(self._shared, worker.process.pid or 0)
        if not note.exists():  # it has rested
            return False
        fault = note.read_text()
        note.unlink()
        if live_workers(self._shared):
            logger.error("worker %s could not load, next try in %g s: %s", worker.process.pid, PAUSE_S, fault)
            self._rest_until = time.monotonic() + PAUSE_S
        else:
            self.fault = fault
            self.should_exit.set()
        return True


def worker_app() -> FastAPI:
    """The application of a `Supervisor`'s worker, its models loaded. Leaves a note where they cannot be."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tune_process()
    # uvicorn's handler would wait for the models, which nobody needs any more.
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings, shared = get_settings(), Path(os.environ[FOLDER_VARIABLE])
    adapter = settings.adapter or DEFAULT_ADAPTER
    try:
        engine = ChatEngine.load(adapter, settings.store, settings)
    except Exception as error:
        if not isinstance(error, BankLLMError):
            logger.error("the models cannot be loaded", exc_info=error)
        _note(shared, os.getpid()).write_text(str(error) or type(error).__name__)
        sys.exit(NOT_LOADED)
    finally:
        signal.signal(signal.SIGTERM, handler)
    # Its ring in the shared folder tells that this worker is there, so it is made last.
    app = create_app(engine, settings, ServerMetrics(model_name(read_artifact(adapter))))
    app.state.close = engine.close
    freeze_gc()
    logger.info("ready")
    return app


def _end_with_parent() -> None:
    """Drain and end when the supervisor is gone, whatever ended it: no one would stop this worker any more."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _note(shared: Path, pid: int) -> Path:
    return shared / f"{pid}.fault"


def _environment(settings: Settings) -> dict[str, str]:
    """What a command line may have changed, for the workers, which read their settings anew."""
    names = ("store", "adapter", "responder", "log_file")
    return {f"BANKLLM_{name.upper()}": str(value) for name in names if (value := getattr(settings, name))}
