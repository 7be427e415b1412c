"""The machine description: correct on this machine and under limits, without data about its owner."""

import getpass
import hashlib
import json
import os
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from bankllm.evidence import environment
from bankllm.evidence.environment import cpu_limit, cpu_model, environment_info, git_state, gpus, memory_limit_gib
from tests.support import ROOT


def test_the_description_is_json_without_host_user_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment_info()
    text = json.dumps(found)
    for secret in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert secret not in text
    assert getpass.getuser() not in json.dumps({**found, "libraries": None}).split()
    assert found["cores"] == os.cpu_count()
    assert found["uname"] == subprocess.run(["uname", "-srvm"], capture_output=True, text=True).stdout.strip()
    libraries = found["libraries"]
    assert isinstance(libraries, dict)
    assert libraries["numpy"] == version("numpy")
    assert "pytest" not in libraries
    monkeypatch.setattr(environment, "source_root", lambda: tmp_path)
    assert environment_info()["lock_sha256"] is None
    (tmp_path / "requirements.lock").write_bytes(b"torch==2.13.0\n")
    assert environment_info()["lock_sha256"] == hashlib.sha256(b"torch==2.13.0\n").hexdigest()


@pytest.mark.parametrize(
    ("cpu", "memory", "limits"),
    [
        ("150000 100000\n", f"{6 * 2**30}\n", (1.5, 6.0)),
        ("max 100000\n", "max\n", (None, None)),
        (None, None, (None, None)),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, cpu: str | None, memory: str | None, limits: object) -> None:
    if cpu and memory:
        (tmp_path / "cpu.max").write_text(cpu)
        (tmp_path / "memory.max").write_text(memory)
    assert (cpu_limit(tmp_path), memory_limit_gib(tmp_path)) == limits


def test_the_cpu_model_is_known_without_cpuinfo(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Example CPU 3.0: turbo\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Example CPU 3.0: turbo"
    assert cpu_model(tmp_path / "absent")


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 15360, 550.54.15'\necho 'GB10, [N/A], 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus() == [
        {"name": "Tesla T4", "memory_gib": 15.0, "driver": "550.54.15"},
        {"name": "GB10", "memory_gib": None, "driver": "580.1"},
    ]
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert gpus() == []


def test_only_the_commit_of_bankllms_own_checkout_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    shutil.copy(ROOT / ".gitignore", tmp_path)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    states = []
    for source in (tmp_path, tmp_path / "unpacked", None):
        monkeypatch.setattr(environment, "source_root", lambda source=source: source)
        (tmp_path / "unpacked").mkdir(exist_ok=True)
        states.append(git_state())
    assert states == [(git("rev-parse", "HEAD"), False), (None, None), (None, None)]
    monkeypatch.setattr(environment, "source_root", lambda: tmp_path)
    (tmp_path / ".venv").symlink_to(tmp_path / "unpacked")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a git hook
    assert git_state() == (states[0][0], False)
    (tmp_path / "new.py").touch()
    assert git_state() == (states[0][0], True)
