"""The Dockerfile of the api passes the linter, runs without root, copies existing files, and has a valid command."""

import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bankllm.util.processes import free_port
from tests.support.deployed import DEPLOY, check_health, image, instructions

ROOT = DEPLOY.parent


def test_hadolint_reports_no_problem(tmp_path: Path) -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    result = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    root = tmp_path / "Dockerfile"
    root.write_text((DEPLOY / "Dockerfile").read_text().replace("USER 10001", "USER root"))
    result = subprocess.run([hadolint, str(root)], capture_output=True, text=True, check=False)
    assert "DL3002" in result.stdout


def test_both_stages_use_one_pinned_base_image_and_no_root_user() -> None:
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert len(bases) == 1
    name, _, tag = bases.pop().partition(":")
    assert name == "python"
    assert tag.startswith("3.11.")
    assert image().user == "10001"


def test_copied_files_exist_and_are_not_ignored() -> None:
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


def test_the_copied_files_are_sufficient_to_build_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    copied = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}
    assert needed <= copied


def test_the_container_does_not_start_without_a_way_to_check_tokens() -> None:
    program, *arguments = image().command
    assert program == "bankllm"
    command = [sys.executable, "-m", program, *arguments]
    env = {"ENVIRONMENT": "production", "PATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert "neither BANKLLM_JWT_SECRET nor BANKLLM_JWKS_URL is set" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_distinguishes_ready_loading_and_stopped(status: int | None, code: int) -> None:
    requested_paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested_paths.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    if status is None:
        assert check_health(free_port()) == code
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert check_health(server.server_port) == code
        server.shutdown()
        thread.join()
    assert requested_paths == ["/health/ready"]
