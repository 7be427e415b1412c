"""Check what this machine offers and which of it bankllm will use."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from bankllm import datasets, extras, pipeline
from bankllm.errors import BankLLMError
from bankllm.evidence.environment import environment_info
from bankllm.model import base_models, smollm2
from bankllm.settings import Settings, project_root
from bankllm.util.writable_folders import is_writable


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    ok: bool
    detail: str
    """What was found; if the check failed, also the consequence or the fix. Never contains a secret."""
    required: bool = False
    """Whether bankllm cannot work if this check fails."""


def examine(settings: Settings) -> Iterator[Check]:
    """Check the machine, the data, the models and the tools. A missing output folder is created."""
    machine = environment_info()
    devices = machine["gpus"]
    gpus = ", ".join(str(gpu["name"]) for gpu in devices) if isinstance(devices, list) else ""
    yield Check("machine", True, f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB")
    yield Check("python", True, f"{machine['python']}, {machine['os']}")
    yield Check("gpu", bool(gpus), gpus or "not found: training and serving run on the CPU in fp32")
    yield Check("profile", True, f"{settings.profile} (BANKLLM_PROFILE, default smoke)")
    try:
        yield Check("data (auto)", True, datasets.load("auto", settings).describe())
    except BankLLMError as error:
        yield Check("data (auto)", False, str(error), required=True)
    yield _extras()
    try:
        base = base_models.resolve("minilm", settings)
        yield Check("base model", True, f"{base.name}, sha256 {(base.sha256 or '')[:12]}…, matches the published model")
    except BankLLMError as error:
        yield Check("base model", False, str(error), required=find_spec("torch") is not None)
    yield _language_model()
    yield from _notebooks()
    if settings.pinecone_api_key is None:
        yield Check("pinecone", False, "PINECONE_API_KEY is not set: only the embedded SQLite store is used")
    else:
        installed = find_spec("pinecone") is not None
        missing = "" if installed else "; pinecone is not installed: pip install 'bankllm[vectors]'"
        index = f"the SQLite store is replicated to index {settings.pinecone_index_name}"
        yield Check("pinecone", installed, index + missing)
    yield _output(settings)


def _extras() -> Check:
    """Lists the extras whose packages are installed, and those of which a package is missing."""
    missing = {extra: extras.not_installed(extra) for extra in sorted({*extras.packages()} - {"", "all"})}
    for extra in extras.DEVELOPING:
        missing.pop(extra, None)
    installed = ", ".join(extra for extra, names in missing.items() if not names) or "none"
    wanted = ",".join(extra for extra, names in missing.items() if names)
    add = f"; for the others: pip install 'bankllm[{wanted}]'" if wanted else ""
    return Check("extras", not wanted, f"installed: {installed}{add}")


def _language_model() -> Check:
    try:
        installed = smollm2.gguf_file() is not None
    except BankLLMError as error:
        return Check("language model", False, str(error))
    if not installed:
        return Check("language model", False, f"{smollm2.NAME} is not installed: {smollm2.INSTALL}")
    if find_spec("gguf") is None:
        return Check("language model", False, f"{smollm2.NAME} needs the package gguf: pip install gguf")
    return Check("language model", True, f"{smollm2.NAME}, matches the published file; converted on first use")


def _notebooks() -> Iterator[Check]:
    try:
        notebooks = pipeline.notebooks()
    except BankLLMError as error:
        yield Check("notebooks", False, str(error))
        return
    titles = ", ".join(f"{notebook.name[:2]} {notebook.title or notebook.name[3:]}" for notebook in notebooks)
    yield Check("notebooks", True, titles)
    for notebook in notebooks:
        for tool, need in notebook.needs.items():
            use = f"{need['for']} in notebook {notebook.name[:2]}"
            missing = f"not found: {use} will be recorded as not measured; install {need['install']}"
            found = shutil.which(tool) is not None
            yield Check(tool, found, f"used for {use}" if found else missing)


def _output(settings: Settings) -> Check:
    output = project_root() / settings.output
    if not is_writable(output):
        fix = "set BANKLLM_OUTPUT to a writable folder"
        return Check("outputs", False, f"{settings.output} is not writable; {fix}", required=True)
    return Check(
        "outputs", True, f"{settings.output} is writable, {shutil.disk_usage(output).free / 2**30:.0f} GiB free"
    )
