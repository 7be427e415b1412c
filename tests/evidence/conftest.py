"""A sealed run, and the commands on runs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sealed_run import sealed_run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed_run(tmp_path / "runs" / "one")


@pytest.fixture
def bankllm() -> Command:
    """Runs `bankllm` with these arguments."""

    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bankllm", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return start
