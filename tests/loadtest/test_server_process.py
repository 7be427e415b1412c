"""Start and stop of a server process, its error messages, and that no process is left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.server_process import ServerProcess
from bankllm.util import processes
from tests.support.loadtest_app import APP


def test_a_server_is_ready_inside_the_block_and_stopped_after_it(tmp_path: Path) -> None:
    server = ServerProcess(
        program=APP, store=tmp_path / "memory.db", env={"BANKLLM_MARK": "blue"}, log=tmp_path / "server.log"
    )
    with server:
        assert httpx.get(f"{server.url}/health").json() == {"status": "healthy"}
        assert server.rss_bytes() > 10 * 2**20
        assert server.log_tail() == f"options: {tmp_path / 'memory.db'} None blue"
        pid = server.pid
    assert server.returncode == -signal.SIGTERM  # uvicorn finishes its requests, then ends with the signal
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_a_port_in_use_is_an_error_before_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"Port {port} of 127.0.0.1 cannot be used .* choose another port"):
            ServerProcess(program=APP, port=port).__enter__()


def test_an_exit_during_the_start_is_an_error_with_the_end_of_the_log() -> None:
    with pytest.raises(ServerError, match=r"exited with code 1 before it was ready.*\n.*\nthe memory is on fire"):
        ServerProcess(program=(*APP, "--behave", "crash")).__enter__()


def test_a_server_that_does_not_become_ready_is_stopped() -> None:
    server = ServerProcess(program=(*APP, "--behave", "never ready"), timeout_s=3)
    with pytest.raises(ServerError, match=r"was not ready within 3 s: expected HTTP 200 from .*/health/ready"):
        server.__enter__()
    assert server.returncode is not None
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_was_not_started_has_no_pid() -> None:
    with pytest.raises(ServerError, match="was not started"):
        _ = ServerProcess(program=APP).pid


def test_stop_kills_the_whole_process_group(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '300']); print(child.pid, flush=True); time.sleep(300)"
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = processes.start([sys.executable, "-c", stubborn], file)
    grandchild = int(wait_for_text(log))
    assert processes.stop(process, timeout_s=0.2) == -signal.SIGKILL
    wait_until_gone(grandchild)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv")
def test_no_orphan_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = (
        "import sys, time; from bankllm.util import processes;"
        f"child = processes.start(['sleep', '300'], open({str(log)!r}, 'wb')); print(child.pid, flush=True);"
        "time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        while (
            psutil.Process(child).name() != "sleep"
        ):  # until then it is still setpriv, which sets the parent-death signal
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    wait_until_gone(child)


def test_run_returns_the_cpu_time_of_the_child(tmp_path: Path) -> None:
    idle = processes.run(["sleep", "0.3"], tmp_path / "log", timeout_s=30)
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint('done')"
    busy = processes.run([sys.executable, "-c", spin], tmp_path / "log", timeout_s=60)
    assert idle.returncode == busy.returncode == 0
    assert idle.cpu_s is not None
    assert busy.cpu_s is not None
    assert idle.cpu_s < 0.3 <= busy.cpu_s
    assert processes.tail(tmp_path / "log") == "done"


def test_run_stops_a_child_at_its_timeout(tmp_path: Path) -> None:
    finished = processes.run(["sleep", "300"], tmp_path / "log", timeout_s=0.2)
    assert finished.cpu_s is None
    assert finished.returncode == -signal.SIGTERM


def wait_for_text(path: Path) -> str:
    while not (text := path.read_text()).endswith("\n"):
        time.sleep(0.01)
    return text


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended; a zombie counts as ended. The timeout of the test suite limits the wait."""
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
