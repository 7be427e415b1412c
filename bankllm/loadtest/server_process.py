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
from bankllm.util.processes import free_port, reach_loopback_directly, start, stop, tail

DEMO_SETTINGS = {
    "BANKLLM_ENVIRONMENT": "development",
    "BANKLLM_JWT_AUDIENCE": "",
    "BANKLLM_JWT_SECRET": "",
    "BANKLLM_JWKS_URL": "",
    "BANKLLM_LEDGER": "",
    "BANKLLM_LOG_FILE": "",
    "BANKLLM_RATE_LIMIT": "",
}
"""Variables that would make the server refuse the requests of a notebook, if they are exported for another server."""
RULES_ONLY = {"BANKLLM_UNDERSTANDING": "rules", "BANKLLM_RESPONDER": "template"}
"""Variables for a server without a language model."""
ENGINE = "bankllm.assistant.language.engine_process"
"""Module of the language model's process."""
STOP_TIMEOUT_S = 15
"""Seconds between SIGTERM and SIGKILL: more than the server needs to finish its requests (10 s) and to close."""


class ServerProcess:
    """`bankllm serve` on 127.0.0.1: ready for requests inside the `with` block, stopped after it.

    - `env`: variables added to the environment of this process and to `DEMO_SETTINGS`.
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
        self._command = [*program, "--host", "127.0.0.1", "--port", str(self.port), *options]
        self._command += ["--store", str(store)] if store else []
        self._command += ["--workers", str(workers)] if workers > 1 else []
        self._workers = workers
        self._env = {**DEMO_SETTINGS, **(env or {})}
        self._log = log
        self._timeout_s = timeout_s
        self._cleanup = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        reach_loopback_directly()  # for clients of this process that read the proxies of the environment
        if self._log is None:
            folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-server-"))
            self._log = Path(folder) / "server.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as file:
            self._process = start(self._command, file, self._env)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    start = __enter__
    """To be used without a `with` block, for example in a notebook. Then call `stop`."""

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

    def usage(self) -> dict[str, float]:
        """`{all,engine}_cpu_s`, the CPU time since the start in s, and `{all,engine}_memory_bytes`.

        `engine` is the language model's process. The memory is the proportional set size on Linux, which counts pages
        that processes share once, else the unique set size.
        """
        used = {f"{part}_{what}": 0.0 for part in ("all", "engine") for what in ("cpu_s", "memory_bytes")}
        server = psutil.Process(self.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
                times, memory = process.cpu_times(), process.memory_full_info()
                for part in ("all", "engine") if ENGINE in process.cmdline() else ("all",):
                    used[f"{part}_cpu_s"] += times.user + times.system
                    used[f"{part}_memory_bytes"] += getattr(memory, "pss", memory.uss)
        return used

    def log_tail(self) -> str:
        """Return the last lines of the server's log. A temporary log is deleted at the end of the `with` block."""
        return tail(self._log) if self._log and self._log.exists() else "(empty)"

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline, workers = time.monotonic() + self._timeout_s, self._workers
        with httpx.Client(base_url=self.url, timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerError(
                        f"The server exited with code {process.returncode} before it was ready. The end of its log:\n"
                        f"{self.log_tail()}"
                    )
                with contextlib.suppress(httpx.HTTPError):
                    ready = client.get("/health/ready").status_code == 200
                    if ready and (workers == 1 or client.get("/health/metrics").json()["workers"] == workers):
                        return
                time.sleep(0.1)
        raise ServerError(
            f"The server was not ready within {self._timeout_s:g} s: expected HTTP 200 from {self.url}/health/ready "
            f"and workers: {workers} in /health/metrics. Increase timeout_s, or see in the log what it waits for. The "
            f"end of its log:\n{self.log_tail()}"
        )
