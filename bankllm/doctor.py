"""What this machine has and what bankllm will use, one finding a line: `bankllm doctor`."""

import os
import shutil
import tempfile
from dataclasses import dataclass

from bankllm import datasets
from bankllm.errors import BankLLMError
from bankllm.evidence.environment import capsule
from bankllm.model import base_models
from bankllm.settings import Settings, project_root


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    what: str
    ok: bool
    said: str
    required: bool = False


def examine(settings: Settings) -> list[Finding]:
    """Look at the machine, the data, the models and the tools. Changes nothing and loads no model."""
    machine = capsule()
    return [
        Finding("machine", True, f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"),
        Finding("python", True, f"{machine['python']}, {machine['os']}"),
        _gpu(machine),
        Finding("profile", True, f"{settings.profile} (BANKLLM_PROFILE)"),
        _data(settings),
        _model(settings),
        *(_tool(name, use, hint) for name, use, hint in TOOLS),
        _pinecone(settings),
        _output(settings),
    ]


TOOLS = (
    ("ab", "closed-loop load in notebook 02", "install apache2-utils (Debian) or httpd (Homebrew)"),
    ("prometheus", "a real scrape in notebook 05", "install the package prometheus"),
)


def _tool(name: str, use: str, hint: str) -> Finding:
    if shutil.which(name):
        return Finding(name, True, f"used for {use}")
    return Finding(name, False, f"{use} will be recorded as not measured; {hint}")


def _gpu(machine: dict[str, object]) -> Finding:
    gpus = machine["gpus"]
    if isinstance(gpus, list) and gpus:
        return Finding("gpu", True, ", ".join(str(gpu["name"]) for gpu in gpus))
    return Finding("gpu", False, "training and serving run on the CPU in fp32")


def _data(settings: Settings) -> Finding:
    try:
        return Finding("data (auto)", True, datasets.load("auto", settings).describe(), required=True)
    except BankLLMError as error:
        return Finding("data (auto)", False, str(error), required=True)


def _model(settings: Settings) -> Finding:
    try:
        base = base_models.resolve("minilm", settings)
    except BankLLMError as error:
        return Finding("base model", False, str(error), required=True)
    return Finding("base model", True, f"{base.name}, sha256 {(base.sha256 or '')[:12]}… as published", required=True)


def _pinecone(settings: Settings) -> Finding:
    if settings.pinecone_api_key is None:
        return Finding("pinecone", False, "PINECONE_API_KEY is not set: the embedded SQLite store is used")
    layout = {"customer": "a namespace each customer", "shared": "one namespace for all"}[settings.pinecone_namespaces]
    return Finding("pinecone", True, f"the SQLite store replicates to index {settings.pinecone_index_name}, {layout}")


def _output(settings: Settings) -> Finding:
    output = project_root() / settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            free = shutil.disk_usage(output).free / 2**30
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return Finding("outputs", False, f"{settings.output} cannot be written ({reason}); set BANKLLM_OUTPUT", True)
    return Finding("outputs", True, f"{settings.output} can be written, {free:.0f} GiB free", required=True)
