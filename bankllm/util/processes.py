"""Start and stop child processes reliably, and small helpers for ports, logs and CPU cores.

Each child leads its own process group, so that its own children are stopped with it. If `setpriv` (util-linux) is
installed, the kernel also sends the child SIGTERM when the *thread* that started it ends for any reason, even SIGKILL.
"""

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Finished:
    """How a child process ended."""

    returncode: int
    """Negative: the number of the signal that ended the child."""
    cpu_s: float | None
    """CPU time in seconds of the child and its own children; None if the child was stopped before its end."""
    wall_s: float
    interrupted: bool = False
    """Whether the child was stopped because of Ctrl-C."""


def start(
    command: Sequence[str], log: IO[bytes], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a child process that writes stdout and stderr to `log`. `env` is added to the current environment."""
    end_with_parent = [setpriv, "--pdeathsig", "TERM", "--"] if (setpriv := shutil.which("setpriv")) else []
    return subprocess.Popen(
        [*end_with_parent, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )


def stop(
    process: "subprocess.Popen[bytes]", timeout_s: float = 10, stop_signal: signal.Signals = signal.SIGTERM
) -> int:
    """Stop a child and its process group, and return the child's exit code.

    Sends `stop_signal`, and SIGKILL if the child has not ended after `timeout_s`. The rest of its group gets SIGKILL.
    """
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run(
    command: Sequence[str],
    log: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals | None = None,
) -> Finished:
    """Run a child process for at most `timeout_s`, with the folder of `log` as its working folder.

    With a `stop_signal`, Ctrl-C raises no `KeyboardInterrupt` but sets `Finished.interrupted`: the caller can keep the
    child's output, and must then end the program itself.
    """
    started = time.perf_counter()
    with log.open("wb") as file:
        process = start(command, file, env, log.parent)
    interrupted = False
    try:
        while time.perf_counter() - started < timeout_s:
            # wait4 returns the CPU time of this child; Popen.wait discards it.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu_s = usage.ru_utime + usage.ru_stime
                return Finished(process.returncode, cpu_s, time.perf_counter() - started)
            time.sleep(0.02)
    except BaseException as error:
        if not (stop_signal and isinstance(error, KeyboardInterrupt)):
            stop(process)
            raise
        interrupted = True
    code = stop(process, stop_signal=stop_signal or signal.SIGTERM)
    return Finished(code, None, time.perf_counter() - started, interrupted)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now. Another process may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(empty)"


def usable_cores() -> int:
    """Number of CPU cores that this process may use; all cores if the system has no CPU affinity (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reach_loopback_directly() -> None:
    """Exclude the loopback addresses from the proxies of the environment, if there are any, for this process.

    A company's proxy cannot reach a server on this machine. HTTP clients read `NO_PROXY`; some only `no_proxy`.
    """
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return
    excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if excluded.strip() != "*":
        own = [host for host in ("127.0.0.1", "localhost", "::1") if host not in excluded.split(",")]
        excluded = ",".join(filter(None, [excluded, *own]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = excluded


def is_loopback(host: str) -> bool:
    """Whether the address or host name is a loopback address, which other machines cannot reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
