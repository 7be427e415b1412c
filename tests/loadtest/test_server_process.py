"""Start and stop of a server process, and its error messages."""

import ast
import os
import signal
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.server_process import DEMO_SETTINGS, ServerProcess
from bankllm.serving.auth import auth_enabled
from bankllm.settings import get_settings
from tests.support.loadtest_app import APP


def test_a_server_is_ready_inside_the_block_and_stopped_after_it(tmp_path: Path) -> None:
    server = ServerProcess(
        program=APP, store=tmp_path / "memory.db", env={"BANKLLM_MARK": "blue"}, log=tmp_path / "server.log"
    )
    with server:
        assert httpx.get(f"{server.url}/health", timeout=60).json() == {"status": "healthy"}
        assert server.rss_bytes() > 10 * 2**20
        used = server.usage()
        assert 0.1 < used["all_cpu_s"] < 60
        assert 10 * 2**20 < used["all_memory_bytes"] <= server.rss_bytes()
        assert (used["engine_cpu_s"], used["engine_memory_bytes"]) == (0, 0)
        assert server.log_tail() == f"options: {tmp_path / 'memory.db'} blue"
        pid = server.pid
    assert server.returncode == -signal.SIGTERM  # uvicorn finishes its requests, then ends with the signal
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health", timeout=60)


def test_an_exit_during_the_start_is_an_error_with_the_end_of_the_log() -> None:
    with pytest.raises(ServerError, match=r"exited with code 1 before it was ready.*\n.*\nthe memory is on fire"):
        ServerProcess(program=(*APP, "--behave", "crash")).__enter__()


def test_a_server_that_does_not_become_ready_is_stopped() -> None:
    server = ServerProcess(program=(*APP, "--behave", "never ready"), timeout_s=1)
    with pytest.raises(ServerError, match=r"was not ready within 1 s: expected HTTP 200 from .*/health/ready"):
        server.__enter__()
    assert server.returncode is not None
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_was_not_started_has_no_pid() -> None:
    with pytest.raises(ServerError, match="was not started"):
        _ = ServerProcess(program=APP).pid


def test_settings_of_another_server_do_not_reach_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The requests of a notebook have no tokens, and its customers are those of the demo."""
    for name, value in DEMO_SETTINGS.items():
        monkeypatch.setenv(name, value or "exported for production")
    monkeypatch.setenv("ENVIRONMENT", "production")
    seen = tmp_path / "seen"
    code = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    with pytest.raises(ServerError):
        ServerProcess(program=(sys.executable, "-c", code), env={"BANKLLM_RATE_LIMIT": "off"}).start()
    environment = ast.literal_eval(seen.read_text())
    assert {name: environment[name] for name in DEMO_SETTINGS} == DEMO_SETTINGS | {"BANKLLM_RATE_LIMIT": "off"}
    monkeypatch.setattr(os, "environ", environment)
    assert not auth_enabled(get_settings())
    assert get_settings().environment == "development"
