"""Messages reach every terminal: any encoding, closed or redirected."""

import io
import os
import subprocess
import sys

import pytest

from bankllm.util.terminal import prepare_output

MESSAGE = "Größe – … “ok” 50 × 3 → ≥ 1 µs 猫"
PRINT = f"from bankllm.util.terminal import prepare_output; prepare_output(); print({MESSAGE!r})"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", MESSAGE),
        ("ascii", 'Grosse - ... "ok" 50 x 3 -> >= 1 us ?'),
        ("latin-1", 'Größe - ... "ok" 50 × 3 -> >= 1 µs ?'),
        ("cp1252", "Größe – … “ok” 50 × 3 -> >= 1 µs ?"),
        ("cp437", 'Größe - ... "ok" 50 x 3 -> ≥ 1 µs ?'),
        ("koi8-r", 'Grosse - ... "ok" 50 x 3 -> ≥ 1 us ?'),
        ("gbk", "Grosse – … “ok” 50 × 3 → ≥ 1 us 猫"),
    ],
)
def test_characters_that_the_encoding_lacks_become_ascii(encoding: str, shown: str) -> None:
    for errors in ("", ":strict"):
        env = {**os.environ, "PYTHONIOENCODING": encoding + errors}
        done = subprocess.run([sys.executable, "-c", PRINT], env=env, capture_output=True, check=True)
        assert done.stdout.decode(encoding).strip() == shown


def test_other_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    prepare_output()
    print(MESSAGE)
    assert sys.stdout.getvalue().strip() == MESSAGE


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-", "<&- >&-", ">/dev/full", "2>/dev/full", "| head -c 1"])
@pytest.mark.parametrize(("command", "code"), [("version", 0), ("run --profile fast", 2)])
def test_closed_and_full_outputs_give_no_traceback(closing: str, command: str, code: int) -> None:
    line = f"{sys.executable} -m bankllm {command} {closing}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == code or "full" in closing or "head" in closing
