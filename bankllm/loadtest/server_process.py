"""The server under test as a separate process on a free port.

with ServerProcess(store=folder / "memory.db") as server:
    run_load(server.url, ...)
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx
import psutil

from bankllm.errors import ServerError
from bankllm.util.processes import free_port, start, stop, tail

STOP_TIMEOUT_S = 15
"""Seconds between SIGTERM and SIGKILL: more than the server needs to finish its requests (10 s) and to close."""


class ServerProcess:
    """`bankllm serve` on 127.0.0.1: ready for requests inside the `with` block, stopped after it.

    - `env`: variables added to the environment of this process.
    - `log`: file for the output of the server; a temporary file by default.
    - `program`: the command that accepts the options of `bankllm serve`.

    The server is ready when `/health/ready` answers 200 and, with several workers, `/health/metrics` counts all of
    them. `util.processes` describes how the server is ended if this process is killed.

    Entering the block raises `ServerError`, with the end of the log, if the server exits or is not ready in `timeout_s`
    seconds.
    """

    def __init__(
        self,
        *,
        store: Path | None = None,
        adapter: Path | None = None,
        workers: int = 1,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        timeout_s: float = 120,
        program: Sequence[str] = (sys.executable, "-m", "bankllm", "serve"),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.returncode: int | None = None
        given = {"--store": store, "--adapter": adapter, "--workers": workers if workers > 1 else None}
        self._command = [*program, "--host", "127.0.0.1", "--port", str(self.port), *options]
        self._command += [word for option, value in given.items() if value for word in (option, str(value))]
        self._workers = workers
        self._env = env
        self._log = log
        self._timeout_s = timeout_s
        self._cleanup = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the server without a `with` block, for example in a notebook. Call `stop` afterwards."""
        if self._log is None:
            folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-server-"))
            self._log = Path(folder) / "server.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as file, contextlib.ExitStack() as on_error:
            self._process = start(self._command, file, self._env)
            on_error.callback(self.stop)
            self._wait_until_ready(self._process)
            on_error.pop_all()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server with SIGTERM, after 15 s with SIGKILL, and set `returncode` to its exit code."""
        if self._process is not None:
            self.returncode = stop(self._process, STOP_TIMEOUT_S)
        self._cleanup.close()

    @property
    def pid(self) -> int:
        """The process id of the server. Raises `ServerError` before the start."""
        if self._process is None:
            raise ServerError("The server was not started. Use `with ServerProcess(…) as server:`.")
        return self._process.pid

    def rss_bytes(self) -> int:
        """Resident memory of the server and its workers, in bytes."""
        server = psutil.Process(self.pid)
        return sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))

    def log_tail(self) -> str:
        """Return the last lines of the server's log. A temporary log is deleted at the end of the `with` block."""
        return tail(self._log) if self._log and self._log.exists() else "(empty)"

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(
                    f"The server exited with code {process.returncode} before it was ready. The end of its log:\n"
                    f"{self.log_tail()}"
                )
            with contextlib.suppress(httpx.HTTPError):
                if self._get("/health/ready").status_code == 200 and self._has_all_workers():
                    return
            time.sleep(0.1)
        workers = f" and {self._workers} workers in /health/metrics" if self._workers > 1 else ""
        raise ServerError(
            f"The server was not ready within {self._timeout_s:g} s: expected HTTP 200 from {self.url}/health/ready"
            f"{workers}. Increase timeout_s, or see in the log what the server waits for. The end of its log:\n"
            f"{self.log_tail()}"
        )

    def _has_all_workers(self) -> bool:
        return self._workers == 1 or self._get("/health/metrics").json()["workers"] == self._workers

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=5, trust_env=False)
