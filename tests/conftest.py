"""Fixtures for all tests."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import hypothesis
import pytest

from bankllm import cli
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank, open_sqlite
from bankllm.assistant.bank.ledger import open_bank
from bankllm.evidence.run import Run
from bankllm.profiles import PROFILES
from bankllm.settings import Settings
from tests.support import Cli

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # `nohup make test &` ignores Ctrl-C, and a child process would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("bankllm", deadline=None)  # a busy machine is slow
hypothesis.settings.load_profile("bankllm")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's settings, except for BANKLLM_BANKING77, go offline, and start no language model."""
    for name in list(os.environ):
        if name.startswith(("BANKLLM_", "OPENAI_", "PINECONE_")) and name != "BANKLLM_BANKING77":
            monkeypatch.delenv(name)
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    monkeypatch.setenv("BANKLLM_OFFLINE", "1")
    monkeypatch.setenv("BANKLLM_UNDERSTANDING", "rules")
    monkeypatch.setenv("BANKLLM_RESPONDER", "template")


TODAY = date(2026, 11, 29)
"""The day of the ledger of the fixtures `ledger` and `bank`."""


@pytest.fixture(scope="session")
def demo_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the demo bank. It must not be changed; `ledger` is a copy."""
    path = tmp_path_factory.mktemp("bank") / "demo.sqlite"
    open_bank(f"demo:{path}", Settings(today=TODAY)).close()
    return path


@pytest.fixture
def ledger(demo_ledger: Path, tmp_path: Path) -> Path:
    """A fresh copy of the demo bank's file, for `BANKLLM_LEDGER=sqlite:PATH`."""
    return Path(shutil.copy(demo_ledger, tmp_path / "own #1.sqlite"))  # a name that needs quoting in a URI


@pytest.fixture
def bank(ledger: Path) -> Iterator[SQLiteBank]:
    """A fresh demo bank, which a test may change."""
    with closing(open_sqlite(str(ledger))) as opened:
        yield opened


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
