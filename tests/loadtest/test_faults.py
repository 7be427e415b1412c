"""Faults during a load, with real sockets and signals: each is reported, rows are kept and no process is left."""

import contextlib
import csv
import os
import shutil
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import ARGUMENTS
from tests.support.null_endpoint import count
from tests.support.server_client import until

needs_ab = pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")


@contextlib.contextmanager
def serving(handler: Any, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve a loopback port, with TLS if there is a context. Yields the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


class Ssh(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        self.request.recv(1000)


def test_a_port_without_http_is_an_error(tmp_path: Path) -> None:
    expected = r"The program at http://127\.0\.0\.1:\d+/health did not answer with HTTP"
    with serving(Ssh) as port, pytest.raises(ServerError, match=expected):
        run_load(f"http://127.0.0.1:{port}", output=tmp_path, **ARGUMENTS)


def test_https_to_a_port_without_tls_is_an_error(endpoint: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"The TLS connection to https://127.*Use http:// if the server does not"):
        run_load(f"https://127.0.0.1:{endpoint.port}", output=tmp_path, **ARGUMENTS)


def test_a_self_signed_certificate_needs_ssl_cert_file(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", path]
    certificate = subprocess.check_output(command, stderr=subprocess.DEVNULL)
    path.write_bytes(path.read_bytes() + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    expected = r"The TLS connection to https.*self.signed.*set SSL_CERT_FILE to the file"
    with serving(Ssh, context) as port, pytest.raises(ServerError, match=expected):
        run_load(f"https://127.0.0.1:{port}", output=tmp_path, **ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "load"),
    [("open-loop", {"rate": 300}), ("locust", {"users": 20, "wait_s": (0.02, 0.03)})],
)
def test_a_killed_server_leaves_rows_of_an_invalid_load(
    driver: str, load: dict[str, Any], endpoint: ServerProcess, tmp_path: Path
) -> None:
    ask = {"requests": 1500, "output": tmp_path, **load, **ARGUMENTS}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_load, endpoint.url, driver, **ask)
        until(lambda: count(endpoint.url) >= 100 or running.done())
        os.kill(endpoint.pid, signal.SIGKILL)
    result = running.result()
    answered = [each for each in result.rows if not each["error"]]
    assert {each["status"] for each in answered} == {200}
    assert sum(result.errors.values()) == len(result.rows) - len(answered)
    assert len(result.rows) == 1500
    assert "ConnectionRefusedError" in result.errors
    assert (result.invalid_because or "").endswith("the server does not answer after the load")


def start_cli(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bankllm", "loadtest", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--driver", "open-loop", "--rate", "100", "--requests", "20000"),
        ("--driver", "locust", "--users", "200", "--requests", "20000"),
        pytest.param(("--driver", "ab", "--users", "2", "--requests", "2000000"), marks=needs_ab),
    ],
    ids=["open-loop", "locust", "ab"],
)
def test_ctrl_c_keeps_the_rows_and_stops_the_generator(
    options: tuple[str, ...], endpoint: ServerProcess, tmp_path: Path
) -> None:
    cli = start_cli(tmp_path, "rows.csv", "--url", endpoint.url, *options)
    until(lambda: count(endpoint.url) >= 100 or cli.poll() is not None)
    children = psutil.Process(cli.pid).children(recursive=True)
    cli.send_signal(signal.SIGINT)
    output, _ = cli.communicate(timeout=60)
    assert cli.returncode == 130
    assert not [child for child in children if child.is_running()]
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 0 < len(rows) < int(options[-1])
    assert f"Interrupted. {len(rows):,} rows were written to rows.csv." in output
    assert "p50" not in output


@pytest.mark.slow
def test_ctrl_c_stops_the_server_that_was_started(tmp_path: Path) -> None:
    cli = start_cli(tmp_path, "rows.csv.gz", "--driver", "open-loop", "--rate", "20", "--duration", "600")
    process = psutil.Process(cli.pid)

    def has_answered_a_chat() -> bool:
        with contextlib.suppress(httpx.HTTPError, psutil.Error, ValueError, IndexError):
            words = process.children()[0].cmdline()
            metrics = httpx.get(
                f"http://127.0.0.1:{words[words.index('--port') + 1]}/metrics", trust_env=False, timeout=60
            ).text
            return 'route="/api/v1/chat"' in metrics
        return False

    until(lambda: has_answered_a_chat() or cli.poll() is not None)
    children = process.children(recursive=True)
    cli.send_signal(signal.SIGINT)
    cli.communicate(timeout=60)
    assert cli.returncode == 130
    assert children
    assert not [child for child in children if child.is_running()]
    assert (tmp_path / "rows.csv.gz").stat().st_size > 0
