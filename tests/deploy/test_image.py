"""The Dockerfile of the api passes the linter, runs without root, copies existing files, and has a valid command."""

import subprocess
import sys
import tomllib
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

from bankllm.assistant.engine import ChatEngine
from bankllm.settings import Settings
from tests.support.chat import fake_engine
from tests.support.deployed import DEPLOY, check_health, image, instructions
from tests.support.live_server import served

ROOT = DEPLOY.parent


def test_hadolint_reports_no_problem() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    result = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_both_stages_use_one_pinned_base_image_and_no_root_user() -> None:
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert len(bases) == 1
    name, _, tag = bases.pop().partition(":")
    assert name == "python"
    assert tag.startswith("3.11.")
    assert image().user == "10001"


def test_copied_files_exist_are_not_ignored_and_suffice_for_the_wheel() -> None:
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
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert needed <= set(sources), "the wheel cannot be built"


def test_the_health_check_distinguishes_ready_loading_and_stopped() -> None:
    loading: Future[ChatEngine] = Future()
    with closing(fake_engine()) as engine, served(loading, Settings()) as url:
        port = int(url.rpartition(":")[2])
        assert check_health(port) == 1
        loading.set_result(engine)
        assert check_health(port) == 0
    assert check_health(port) == 1
