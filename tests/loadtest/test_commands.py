"""The options `--quick`, `--web` and `--duration` of `bankllm loadtest`, and the arguments that it rejects."""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from bankllm.cli import app
from bankllm.errors import RunError, ServerError, UsageError
from bankllm.loadtest.quick import smoke_test
from bankllm.loadtest.server_process import ServerProcess
from bankllm.loadtest.web import serve_page
from bankllm.settings import get_settings
from bankllm.util.processes import free_port
from tests.support import SUPPORT

APP = (sys.executable, str(SUPPORT / "loadtest_app.py"))


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(program=APP) as process:
        yield process


@pytest.mark.slow
def test_quick_passes_and_writes_no_files(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        output = CliRunner().invoke(app, ["loadtest", "--quick", "--url", server.url])
    assert output.exit_code == 0, output.output
    lines = output.output.splitlines()
    assert lines[0] == "health: HTTP 200"
    assert lines[1] == "40 requests at 20 per second, one health check per two chats: 0 failed"
    assert re.fullmatch(r"latency: median \d+ ms, maximum \d+ ms", lines[2])
    assert lines[-1].startswith("smoke test passed (")
    assert not list(tmp_path.iterdir())
    kinds = [each["kind"] for each in httpx.get(f"{server.url}/seen").json()]
    assert len(kinds) == 44  # plus four health checks before and after
    assert kinds.count("chat") > 15


@pytest.mark.slow
def test_quick_fails_if_a_chat_fails(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.loadtest.quick.CUSTOMERS", ["CUST001"])
    only_failing = SimpleNamespace(texts=("fail",))
    monkeypatch.setattr("bankllm.loadtest.quick.datasets.load", lambda *_: SimpleNamespace(test=only_failing))
    lines: list[str] = []
    with pytest.raises(RunError, match=r"\d+ of 40 requests failed"):
        lines.extend(smoke_test(url=server.url, settings=get_settings()))
    assert "× HTTP 503" in lines[1]


def test_quick_reports_what_is_wrong_with_an_address() -> None:
    with pytest.raises(ServerError, match="No server answers at"):
        list(smoke_test(url=f"http://127.0.0.1:{free_port()}", settings=get_settings()))
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 is not this machine.*--i-own-this-host"):
        list(smoke_test(url="http://192.0.2.1", settings=get_settings()))


@pytest.mark.slow
def test_web_serves_locusts_page_and_stops_locust(server: ServerProcess) -> None:
    lines = serve_page(url=server.url, settings=get_settings())
    output = next(lines)
    page = output.split()[2]
    for _ in range(200):
        try:
            html = httpx.get(page, trust_env=False).text
            break
        except httpx.ConnectError:
            time.sleep(0.1)
    assert "Locust" in html
    started = [each for each in psutil.Process().children(recursive=True) if "locust" in each.cmdline()]
    assert started
    lines.close()  # type: ignore[attr-defined]  # a generator, as Ctrl-C would end it
    assert not [each for each in started if each.is_running()]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--duration", "10"), r"--duration needs --rate, .* found --duration 10 and no --rate"),
        (("--driver", "open-loop", "--rate", "-1", "--duration", "10"), "found --duration 10 and --rate -1"),
        (("--driver", "open-loop"), "An open loop needs a rate above 0"),
        (("--users", "0"), "found users=0"),
        (("--url", "http://192.0.2.1"), "is not this machine"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_server_starts(
    options: tuple[str, ...], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bankllm.loadtest.report.ServerProcess.start", lambda _: pytest.fail("a server was started"))
    with pytest.raises(UsageError, match=error):
        CliRunner().invoke(app, ["loadtest", str(tmp_path / "rows.csv"), *options], catch_exceptions=False)
