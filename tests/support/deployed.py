"""Read the files in `deploy/`: compose.yaml and the Dockerfile."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import yaml

from tests.support import ROOT

DEPLOY = ROOT / "deploy"


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def api_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Environment of the api container if `docker compose` is called with the variables in `given`."""

    def fill(match: "re.Match[str]") -> str:
        name, default = match.groups()
        return given.get(name) or default

    environment = services()["api"]["environment"]
    return {name: re.sub(r"\$\{(\w+):-(.*?)\}", fill, value) for name, value in environment.items()}


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their arguments. Continued lines are joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def image() -> SimpleNamespace:
    """What the last stage of the Dockerfile sets; `copied` are the destinations of its COPY instructions."""
    steps = instructions()
    start = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    arguments: dict[str, list[str]] = {}
    for word, rest in steps[start:]:
        arguments.setdefault(word, []).append(rest)
    return SimpleNamespace(
        environment=dict(pair.split("=", 1) for line in arguments["ENV"] for pair in line.split()),
        user=arguments["USER"][-1],
        workdir=arguments["WORKDIR"][-1],
        copied=[line.split()[-1] for line in arguments["COPY"]],
        command=json.loads(arguments["CMD"][-1]),
        healthcheck=json.loads(arguments["HEALTHCHECK"][-1].partition("CMD ")[2]),
    )


def check_health(port: int) -> int:
    """Run the health check of the container against a local port; returns its exit code.

    `http_proxy` is set to an unused port, because the health check must not use a proxy.
    """
    program, *options, code = image().healthcheck
    assert program == "python"
    assert ", 8000," in code
    command = [sys.executable, *options, code.replace(", 8000,", f", {port},")]
    return subprocess.run(command, env={"http_proxy": "http://127.0.0.1:9"}, stderr=subprocess.DEVNULL).returncode
