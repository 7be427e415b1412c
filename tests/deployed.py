"""What `deploy/` says, as a reader of its files sees it."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def api_environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the api's container is started with, where the caller of compose has these variables."""

    def fill(match: "re.Match[str]") -> str:
        name, default = match.groups()
        return given.get(name) or default

    environment = services()["api"]["environment"]
    return {name: re.sub(r"\$\{(\w+):-(.*?)\}", fill, value) for name, value in environment.items()}


@dataclass(frozen=True)
class Image:
    """The last stage of the Dockerfile: what a container is made of."""

    base: str
    environment: dict[str, str]
    user: str
    workdir: str
    copied: list[str]
    """Where files come to lie."""
    command: list[str]
    healthcheck: list[str]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def image() -> Image:
    """Read the last stage."""
    steps = instructions()
    start = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    told: dict[str, list[str]] = {}
    for word, rest in steps[start:]:
        told.setdefault(word, []).append(rest)
    return Image(
        base=told["FROM"][0],
        environment=dict(pair.split("=", 1) for line in told["ENV"] for pair in line.split()),
        user=told["USER"][-1],
        workdir=told["WORKDIR"][-1],
        copied=[line.split()[-1] for line in told["COPY"]],
        command=json.loads(told["CMD"][-1]),
        healthcheck=json.loads(told["HEALTHCHECK"][-1].partition("CMD ")[2]),
    )


def check_health(port: int) -> int:
    """The exit code of the container's health check, had the server that port. A proxy must not be asked."""
    program, *options, code = image().healthcheck
    assert program == "python"
    assert ", 8000," in code
    command = [sys.executable, *options, code.replace(", 8000,", f", {port},")]
    return subprocess.run(command, env={"http_proxy": "http://127.0.0.1:9"}, stderr=subprocess.DEVNULL).returncode
