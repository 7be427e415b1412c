"""What this machine has and what bankllm will use, one finding a line: `bankllm doctor`."""

import os
import shutil
import tempfile
from dataclasses import dataclass

from bankllm import datasets
from bankllm.errors import BankLLMError
from bankllm.evidence.environment import environment_info
from bankllm.model import base_models
from bankllm.settings import Settings, project_root


@dataclass(frozen=True)
class Check:
    """One thing that was looked for."""

    what: str
    ok: bool
    said: str
    required: bool = False


def examine(settings: Settings) -> list[Check]:
    """Look at the machine, the data, the models and the tools. Changes nothing and loads no model."""
    machine = environment_info()
    return [
        Check("machine", True, f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"),
        Check("python", True, f"{machine['python']}, {machine['os']}"),
        _gpu(machine),
        Check("profile", True, f"{settings.profile} (BANKLLM_PROFILE)"),
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


def _tool(name: str, use: str, hint: str) -> Check:
    if shutil.which(name):
        return Check(name, True, f"used for {use}")
    return Check(name, False, f"{use} will be recorded as not measured; {hint}")


def _gpu(machine: dict[str, object]) -> Check:
    gpus = machine["gpus"]
    if isinstance(gpus, list) and gpus:
        return Check("gpu", True, ", ".join(str(gpu["name"]) for gpu in gpus))
    return Check("gpu", False, "training and serving run on the CPU in fp32")


def _data(settings: Settings) -> Check:
    try:
        return Check("data (auto)", True, datasets.load("auto", settings).describe(), required=True)
    except BankLLMError as error:
        return Check("data (auto)", False, str(error), required=True)


def _model(settings: Settings) -> Check:
    try:
        base = base_models.resolve("minilm", settings)
    except BankLLMError as error:
        return Check("base model", False, str(error), required=True)
    return Check("base model", True, f"{base.name}, sha256 {(base.sha256 or '')[:12]}… as published", required=True)


def _pinecone(settings: Settings) -> Check:
    if settings.pinecone_api_key is None:
        return Check("pinecone", False, "PINECONE_API_KEY is not set: the embedded SQLite store is used")
    layout = {"customer": "a namespace each customer", "shared": "one namespace for all"}[settings.pinecone_namespaces]
    return Check("pinecone", True, f"the SQLite store replicates to index {settings.pinecone_index_name}, {layout}")


def _output(settings: Settings) -> Check:
    output = project_root() / settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            free = shutil.disk_usage(output).free / 2**30
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return Check("outputs", False, f"{settings.output} cannot be written ({reason}); set BANKLLM_OUTPUT", True)
    return Check("outputs", True, f"{settings.output} can be written, {free:.0f} GiB free", required=True)
