"""The command `bankllm loadtest`: the smoke test, and the arguments that it rejects."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bankllm.cli import app
from bankllm.errors import UsageError
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import seen


@pytest.mark.slow
def test_quick_passes_and_writes_no_files(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = CliRunner().invoke(app, ["loadtest", "--quick", "--url", server.url])
    assert output.exit_code == 0, output.output
    failed, latency, passed = output.output.splitlines()
    assert (failed, passed) == ("failed: 0", "smoke test passed: 40 requests")
    assert re.fullmatch(r"latency: median \d+ ms, maximum \d+ ms", latency)
    assert not list(tmp_path.iterdir())
    kinds = [each["kind"] for each in seen(server.url)]
    assert len(kinds) == 40
    assert kinds.count("chat") > 15


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("rows.csv", "--duration", "10"), r"--duration needs --rate, .* found --duration 10 and --rate None"),
        (("rows.csv", "--driver", "open-loop", "--rate", "-1", "--duration", "10"), "10 and --rate -1"),
        (("rows.csv", "--driver", "open-loop"), "An open loop needs a rate above 0"),
        (("--quick", "--url", "http://192.0.2.1"), r"192\.0\.2\.1 is not this machine.*--i-own-this-host"),
        (("rows.xlsx",), r"rows\.xlsx: expected a file name that ends in \.csv or \.csv\.gz"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_server_starts(
    options: tuple[str, ...], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bankllm.loadtest.report.ServerProcess.start", lambda _: pytest.fail("a server was started"))
    with pytest.raises(UsageError, match=error):
        CliRunner().invoke(app, ["loadtest", *options], catch_exceptions=False)
