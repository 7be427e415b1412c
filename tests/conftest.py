"""Fixtures for all tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from bankllm import cli
from bankllm.evidence.run import Run
from bankllm.profiles import PROFILES
from tests.support import Cli

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # `nohup make test &` ignores Ctrl-C, and a child process would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("bankllm", deadline=None)  # a busy machine is slow
hypothesis.settings.load_profile("bankllm")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's settings, except for BANKLLM_BANKING77, and go offline."""
    for name in list(os.environ):
        if name.startswith(("BANKLLM_", "OPENAI_", "PINECONE_")) and name != "BANKLLM_BANKING77":
            monkeypatch.delenv(name)
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    monkeypatch.setenv("BANKLLM_OFFLINE", "1")


@pytest.fixture
def banking77() -> Path:
    """The folder with the published files. The test is skipped if there is none."""
    folder = os.environ.get("BANKLLM_BANKING77")
    if not folder:
        pytest.skip("BANKLLM_BANKING77 is not set")
    return Path(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """An empty run, as opened by notebook 01."""
    return Run(tmp_path / "run", "01_local_validation", PROFILES["smoke"])


@pytest.fixture
def bankllm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in this process: arguments, and environment variables by keyword."""

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["bankllm", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), printed.out, printed.err)

    return call
