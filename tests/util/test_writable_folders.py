"""A folder that cannot be written is replaced by a temporary one, with one warning."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.util.writable_folders import ensure_writable, is_writable

REFUSED = ["/dev/null", "/dev/null/x", "/proc/x", "/sys/x", "~no_such_user/x"]


@pytest.mark.parametrize("folder", REFUSED)
def test_a_folder_that_cannot_be_written_is_replaced(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEPT", str(tmp_path / "new"))
    monkeypatch.delenv("REPLACED", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        ensure_writable({"KEPT": "/dev/null", "REPLACED": folder})
        ensure_writable({"KEPT": "/dev/null", "REPLACED": folder})
    (warning,) = caplog.messages
    assert warning.startswith(f"{folder} cannot be written, so a temporary folder is used.")
    assert "set REPLACED to a writable folder" in warning
    assert os.environ["KEPT"] == str(tmp_path / "new")
    assert is_writable(Path(os.environ["REPLACED"]))


def test_a_temporary_folder_is_deleted_at_the_end() -> None:
    code = (
        "import os; from bankllm.util.writable_folders import ensure_writable;"
        "ensure_writable({'CACHE': '/dev/null'}); print(os.environ['CACHE'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "/dev/null cannot be written" in done.stderr
    assert not Path(done.stdout.strip()).parent.exists()
