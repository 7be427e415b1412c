"""The api's Dockerfile: linted, without root, built from files that are there, and started as the command line can."""

import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bankllm.util.processes import free_port
from tests.deployed import DEPLOY, check_health, image, instructions

ROOT = DEPLOY.parent


def test_hadolint_finds_no_fault(tmp_path: Path) -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    result = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    root = tmp_path / "Dockerfile"
    root.write_text((DEPLOY / "Dockerfile").read_text().replace("USER 10001", "USER root"))
    result = subprocess.run([hadolint, str(root)], capture_output=True, text=True, check=False)
    assert "DL3002" in result.stdout


def test_both_stages_stand_on_the_same_pinned_base_and_nobody_is_root() -> None:
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert len(bases) == 1
    name, _, tag = bases.pop().partition(":")
    assert name == "python"
    assert tag.startswith("3.11.")
    assert image().user == "10001"


def test_what_is_copied_is_there_and_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert "bankllm" in sources
    assert "*" in ignored
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(sources)


def test_the_wheel_finds_all_it_needs_in_what_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    copied = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}
    assert needed <= copied


def test_without_a_way_to_check_tokens_the_container_would_not_start() -> None:
    program, *arguments = image().command
    assert program == "bankllm"
    command = [sys.executable, "-m", program, *arguments]
    env = {"ENVIRONMENT": "production", "PATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert "neither BANKLLM_JWT_SECRET nor BANKLLM_JWKS_URL is set" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_tells_ready_from_loading_and_from_gone(answer: int | None, code: int) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answer or 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    if answer is None:
        assert check_health(free_port()) == code
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert check_health(server.server_port) == code
        server.shutdown()
        thread.join()
    assert asked == ["/health/ready"]
