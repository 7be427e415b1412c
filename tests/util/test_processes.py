"""Child processes: all of a group is stopped, none is left behind, and their CPU time is known."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
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


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost,.corp"}, "localhost,.corp,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "b,127.0.0.1,localhost,::1"),
    ],
)
def test_a_server_of_this_machine_is_reached_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: str, before: dict[str, str], after: str
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "")  # restored after the test, like NO_PROXY
    monkeypatch.setenv("NO_PROXY", "")
    processes.reach_loopback_directly()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == ("", "")
    monkeypatch.setenv(proxy, "socks5://proxy.corp:1080" if "ALL" in proxy.upper() else "http://proxy.corp:3128")
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        processes.reach_loopback_directly()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == after
    assert urllib.request.proxy_bypass("127.0.0.1")
    with httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get(f"http://127.0.0.1:{processes.free_port()}")  # refused by this machine, not by the proxy
