"""A fresh clone with an environment of its own: `make run` installs from the lock file, and the README's commands work.

`make test-install` runs this module. It takes about ten minutes and needs the package index.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bankllm.settings import project_root

pytestmark = [pytest.mark.install, pytest.mark.timeout(3600)]

README = (project_root() / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"^bankllm (.*?)(?:  +#.*)?$", README.split("## The command line")[1].split("\n## ")[0], re.MULTILINE
)
OTHERS = ("serve", "loadtest --web", "benchmark", "run", "reproduce", "memory reindex", "claims")
"""Commands that serve until Ctrl-C, train for hours, or refer to files of the reader."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed files, installed and run as the README says."""
    folder = tmp_path_factory.mktemp("fresh") / "bankllm"
    subprocess.run(["git", "clone", "--quiet", project_root(), folder], check=True)
    command(folder, "make run PROFILE=smoke")
    return folder


def command(folder: Path, line: str) -> str:
    """Run one command of the README in the clone, with only its own environment, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        shlex.split(line), cwd=folder, env={**kept, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_run_verifies_with_both_verifiers(clone: Path) -> None:
    assert "HOLDS: " in command(clone, ".venv/bin/bankllm verify")
    run = (clone / "outputs" / "LATEST").read_text().strip()
    assert "HOLDS: " in command(clone, f"python3 outputs/{run}/verify.pyz")


def test_the_installed_versions_are_those_of_the_lock_file(clone: Path) -> None:
    installed = {line.lower().replace("_", "-") for line in command(clone, "python -m pip freeze").splitlines()}
    pinned = {line.lower().replace("_", "-") for line in (clone / "requirements.lock").read_text().split()}
    torch = next(line for line in pinned if line.startswith("torch=="))
    assert pinned - installed <= {torch}  # the CPU build is called torch==2.13.0+cpu
    assert any(line.startswith(torch) for line in installed)


def test_the_commands_of_the_readme_work(clone: Path) -> None:
    run = (clone / "outputs" / "LATEST").read_text().strip()
    shutil.rmtree(clone / "outputs" / "reference")  # `publish` writes a new folder
    (clone / "my_texts.txt").write_text("my card was swallowed\n")
    lines = [re.sub(r"2026\w+-quick|RUN_[AB]", run, line) for line in COMMANDS if not line.startswith(OTHERS)]
    assert len(lines) >= 12
    for line in lines:
        line = re.sub(r"--compare (\S+) (\S+)", r"--compare outputs/\1 outputs/\2", line)
        command(clone, f"bankllm {line}")
