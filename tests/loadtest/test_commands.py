"""The command `bankllm loadtest`: the arguments that it rejects."""

import pytest
from typer.testing import CliRunner

from bankllm.cli import app
from bankllm.errors import UsageError


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("rows.csv", "--duration", "10"), r"--duration needs --rate, .* found --duration 10 and --rate None"),
        (("rows.csv", "--driver", "open-loop", "--rate", "-1", "--duration", "10"), "10 and --rate -1"),
        (("rows.csv", "--driver", "open-loop"), "Expected a rate above 0"),
        (("--url", "http://192.0.2.1"), r"192\.0\.2\.1 is not this machine.*--i-own-this-host"),
        (("rows.xlsx",), r"rows\.xlsx: expected a file name that ends in \.csv or \.csv\.gz"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_server_starts(
    options: tuple[str, ...], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bankllm.loadtest.report.ServerProcess.start", lambda _: pytest.fail("a server was started"))
    with pytest.raises(UsageError, match=error):
        CliRunner().invoke(app, ["loadtest", *options], catch_exceptions=False)
