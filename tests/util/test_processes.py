"""Child processes: all of a group is stopped, none is left behind, and their CPU time is known."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bankllm.util import processes
from tests.support.server_client import until, wait_until_gone


def test_stop_kills_the_whole_process_group(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '300']); print(child.pid, flush=True); time.sleep(300)"
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = processes.start([sys.executable, "-c", stubborn], file)
    until(lambda: log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
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
        until(lambda: psutil.Process(child).name() == "sleep")  # not yet while it is setpriv, which sets the signal
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
