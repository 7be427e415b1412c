"""Child processes that end when they should: on request, on an error, and when their parent dies.

Each child leads a process group of its own, so that its own children end with it. Where `setpriv` (util-linux) is
there, the kernel also sends it SIGTERM when the *thread* that started it ends, whatever ended it, SIGKILL included.
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
    """How a child ended. `cpu_s` includes its own children; None where it was stopped."""

    returncode: int
    cpu_s: float | None
    wall_s: float
    interrupted: bool = False
    """Ctrl-C came, and the child was asked to end."""


def start(
    command: Sequence[str], log: IO[bytes], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a child whose output goes to `log`. `env` is added to this process' environment."""
    tie = [setpriv, "--pdeathsig", "TERM", "--"] if (setpriv := shutil.which("setpriv")) else []
    return subprocess.Popen(
        [*tie, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[bytes]", patience_s: float = 10, ask: signal.Signals = signal.SIGTERM) -> int:
    """End a child and its group: SIGTERM (or `ask`), after `patience_s` SIGKILL. Gives its exit code."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run(
    command: Sequence[str],
    log: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    ask: signal.Signals | None = None,
) -> Finished:
    """Run a child to its end, in the folder of its log. Whatever interrupts the wait ends the child too.

    With `ask`, Ctrl-C sends the child that signal and is told by `Finished.interrupted`: the caller keeps what the
    child left, and must then end as Ctrl-C demands. Without, it goes on its way as `KeyboardInterrupt`.
    """
    began = time.perf_counter()
    with log.open("wb") as file:
        process = start(command, file, env, log.parent)
    try:
        while time.perf_counter() - began < timeout_s:
            # wait4 gives this child's CPU time alone; Popen.wait would throw it away.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu_s = usage.ru_utime + usage.ru_stime
                return Finished(process.returncode, cpu_s, time.perf_counter() - began)
            time.sleep(0.02)
        return Finished(stop(process, ask=ask or signal.SIGTERM), None, time.perf_counter() - began)
    except KeyboardInterrupt:
        code = stop(process, ask=ask or signal.SIGTERM)
        if ask is None:
            raise
        return Finished(code, None, time.perf_counter() - began, interrupted=True)
    except BaseException:
        stop(process)
        raise


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, or `(empty)`."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(empty)"


def usable_cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Whether that address, or name, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
