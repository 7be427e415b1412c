"""Check what this machine offers and which of it bankllm will use.

`bankllm doctor` prints one line per check and exits with code 1 if a required check fails.
"""

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
    """Result of one check."""

    name: str
    """What was checked, e.g. `gpu`."""
    ok: bool
    detail: str
    """What was found; if the check failed, also the consequence or the fix. Never contains a secret."""
    required: bool = False
    """Whether bankllm cannot work without it."""


def examine(settings: Settings) -> list[Check]:
    """Check the machine, the data, the models and the tools, in the order in which the checks are printed.

    No model is loaded. The output folder is created if it is missing; nothing else is changed.
    """
    machine = environment_info()
    return [
        Check("machine", True, f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"),
        Check("python", True, f"{machine['python']}, {machine['os']}"),
        _gpu(machine),
        Check("profile", True, f"{settings.profile} (BANKLLM_PROFILE, default smoke)"),
        _data(settings),
        _model(settings),
        *(_tool(name, use, hint) for name, use, hint in TOOLS),
        _pinecone(settings),
        _output(settings),
    ]


TOOLS = (
    ("ab", "the closed-loop load test in notebook 02", "install apache2-utils (Debian) or httpd (Homebrew)"),
    ("prometheus", "the Prometheus scrape in notebook 05", "install the package prometheus"),
)
"""External tools: executable, what it is used for, how to install it."""


def _tool(name: str, use: str, hint: str) -> Check:
    if shutil.which(name):
        return Check(name, True, f"used for {use}")
    return Check(name, False, f"not found: {use} will be recorded as not measured; {hint}")


def _gpu(machine: dict[str, object]) -> Check:
    gpus = machine["gpus"]
    if isinstance(gpus, list) and gpus:
        return Check("gpu", True, ", ".join(str(gpu["name"]) for gpu in gpus))
    return Check("gpu", False, "not found: training and serving run on the CPU in fp32")


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
    return Check(
        "base model",
        True,
        f"{base.name}, sha256 {(base.sha256 or '')[:12]}…, matches the published model",
        required=True,
    )


def _pinecone(settings: Settings) -> Check:
    if settings.pinecone_api_key is None:
        return Check("pinecone", False, "PINECONE_API_KEY is not set: only the embedded SQLite store is used")
    layout = {"customer": "one namespace per customer", "shared": "one namespace for all customers"}[
        settings.pinecone_namespaces
    ]
    return Check("pinecone", True, f"the SQLite store is replicated to index {settings.pinecone_index_name}, {layout}")


def _output(settings: Settings) -> Check:
    output = project_root() / settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            free = shutil.disk_usage(output).free / 2**30
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return Check(
            "outputs",
            False,
            f"{settings.output} is not writable ({reason}); set BANKLLM_OUTPUT to a writable folder",
            True,
        )
    return Check("outputs", True, f"{settings.output} is writable, {free:.0f} GiB free", required=True)
